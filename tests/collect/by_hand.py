"""A collector whose completions are written by hand: nothing is sampled, and nothing is replaced."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import jax
import numpy as np

from jaxsrl.collect.collect import Collection, Collector, collect, collection_metrics
from jaxsrl.collect.device import KEPT, make_weigh, put
from jaxsrl.collect.grading import Reader
from jaxsrl.collect.settings import Collect
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.layout import lay_out
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.numbers import as_arrays, numbers_of
from jaxsrl.objectives.srl import SRL
from jaxsrl.processes import fetch
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.types import Completions, Demonstration, Objective, Rooms

BYTES = ByteTokenizer()
TABLE = token_bytes(BYTES, Template())
CAP = 6
ROOMS = Rooms(bytes=16, code_points=16)
Write = Callable[[int, int], str]  # (refill round, sample) -> the completion, whatever else is asked


def demonstration(name: str, *actions: str, problem: str | None = None) -> Demonstration:
    return Demonstration(problem_id=name, problem=problem or name, actions=actions)


PAIR = [demonstration("p", "aa", "bb"), demonstration("q", "ac", "bb"), demonstration("r", "ad", "bb")]
SPREAD: Write = lambda refill, sample: "ax"[: sample + 1] if sample else "zzz"
FLAT: Write = lambda refill, sample: "a"


def srl(reward: Any = ActionSimilarity(autojunk=False, think="optional", where="host"), **policy: Any) -> SRL:  # noqa: B008
    return SRL(reward=reward, policy=GRPO(filter_std=0.05, **policy), group_size=2)


def shapes_for(demonstrations: int) -> Shapes:
    return Shapes(
        prompt_rows=2, prompt_tokens=48, slots=8, groups=8, group_size=2, code_points=16, sheets=1, trunk_tokens=128,
        demonstrations=demonstrations, targets=32, tokens=128, runs=64, rows=(2,), round_rows=8,
    )  # fmt: skip


def written(prompts: Any, write: Write) -> Completions:
    """What `write` says, in the jobs that the prompts ask for."""
    jobs = prompts.slot_active.size
    token, length = np.zeros((jobs, CAP), np.int32), np.zeros(jobs, np.int32)
    address = prompts.slot_address.reshape(jobs, -1)
    for job in np.flatnonzero(prompts.slot_active):
        refill, *_, sample = address[job].tolist()
        ids = [*BYTES.encode(write(refill, sample)), BYTES.end][:CAP]
        token[job, : len(ids)], length[job] = ids, len(ids)
    logp = np.where(np.arange(CAP) < length[:, None], -0.5, 0.0).astype(np.float32)
    return Completions(token=token, logp=logp, length=length)


@cache
def weighing(objective: Objective, wanted: int | None) -> Callable[..., Any]:
    return jax.jit(make_weigh(objective, BYTES.ends, wanted, objective.device_reward))


putting = jax.jit(put, donate_argnums=0)


@cache
def scoring(reward: ActionSimilarity, rooms: Rooms) -> Callable[..., Any]:
    return jax.jit(partial(reward.score, rooms=rooms))


@dataclass
class Asked:
    """What the collector asked for."""

    taken: list[tuple[int, int]] = field(default_factory=list)  # position in the data, and how many
    weighed: int = 0


def make_collector(
    write: Write, settings: Collect, items: list[Demonstration], objective: Objective, asked: Asked, *,
    rooms: Rooms = ROOMS, **reading: Any,
) -> Collector:  # fmt: skip
    """Demonstrations one after the other, from the start again.

    Args:
      reading: of `Reader`.
    """
    shapes, reward = shapes_for(settings.demonstrations), objective.device_reward

    def layouts(position, step, refill, level):
        asked.taken.append((position, settings.demonstrations))
        places = range(position, position + settings.demonstrations)
        drawn = [items[i % len(items)] for i in places]
        points = [objective.branch_points(d, step) for d in drawn]
        return lay_out(
            drawn, points, shapes, template=Template(), tokenizer=BYTES, trunk=objective.trunk, refill=refill,
            positions=places,
        ), places.stop  # fmt: skip

    def draw(params, sheet, key, temperature):
        made = written(sheet.prompts, write)
        if reward is None:
            return made, None
        group = sheet.groups.group
        return made, scoring(reward, rooms)(made, sheet.expert, sheet.expert_length, group, token_bytes=TABLE)

    def weigh(*args):
        asked.weighed += 1
        return weighing(objective, settings.prompts)(*args)

    described = None if reward is None else partial(reward.rewards, unfit_on_host=True)
    reading = {"own": np.ones(shapes.jobs, bool)} | reading
    return Collector(
        objective=objective, settings=settings, shapes=shapes, numbers=as_arrays(numbers_of(objective)),
        layouts=layouts, draw=draw, weigh=weigh, put=putting, max_new_tokens=CAP,
        reader=Reader(reward=objective.reward, described=described, token_bytes=TABLE, **reading),
    )  # fmt: skip


def run(collector: Collector) -> Collection:
    return collect(collector, 0, 0, lambda: None, jax.random.key(0), 1.0)


def gather(write, settings, items, objective=None, **how) -> tuple[Collection, Asked]:
    asked = Asked()
    return run(make_collector(write, settings, items, objective or srl(), asked, **how)), asked


def metrics_of(found: Collection, collector: Collector | None = None) -> dict[str, Any]:
    reader = collector.reader if collector else Reader(reward=None, described=None, token_bytes=TABLE, own=None)
    return collection_metrics(reader, found, fetch(found.weighed.means))


def in_order(found: Collection, value: Any) -> np.ndarray:
    """A number of each job, of the jobs that there are: by demonstration, branch point and sample."""
    return np.asarray(value)[found.layout.order]


def kept(found: Collection) -> list[bool]:
    return in_order(found, (found.flags & KEPT) != 0).tolist()


def weights(found: Collection, name: str = "pg") -> np.ndarray:
    """[J C] of the rollouts that there are."""
    return in_order(found, getattr(found.weighed.weights.rollouts, name))
