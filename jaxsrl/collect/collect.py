"""Layouts to rollouts to rewards to weights: what the host does around the functions of `device.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxsrl.collect.device import CARRIES, KEPT, SURPLUS, TRUNCATED, UNFIT, Weighed
from jaxsrl.collect.grading import Graded, Reader, grade, means_of, own_jobs, rewards_of
from jaxsrl.collect.settings import Collect
from jaxsrl.data.layout import Layout, join
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.tables import select
from jaxsrl.processes import fetch
from jaxsrl.types import Completions, Groups, Mean, Metrics, Numbers, Objective, Params, Scores, Trunk


@dataclass(frozen=True, kw_only=True)
class Collector:
    """The functions and settings that make an optimizer step's material; the same at every step of a stage.

    Args:
      layouts: (position in the data, optimizer step, refill round, level of the curriculum) -> (Layout, position
        behind it).
      draw, weigh, put: see `device.py`; compiled.
      reference: (whole, layout, completions) -> log-probs [P C] under the frozen reference; where the objective weighs
        by them.
      place: host arrays to the devices: of a sheet, and of what belongs to the whole step.
    """

    objective: Objective
    settings: Collect
    shapes: Shapes
    numbers: Numbers
    layouts: Callable[[int, int, int, float], tuple[Layout, int]]
    draw: Callable[..., tuple[Completions, Scores | None]]
    weigh: Callable[..., Weighed]
    put: Callable[..., Any]
    reader: Reader
    max_new_tokens: int
    reference: Callable[..., Array] | None = None
    place_sheet: Callable[[Any], Any] = jax.device_put
    place: Callable[[Any], Any] = jax.device_put


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Whole:
    """What is known of a whole optimizer step before a token is sampled, padded to one of a few sizes."""

    groups: Groups
    trunk: Trunk
    expert_length: Int[Array, "Q"]


@dataclass(frozen=True, kw_only=True)
class Collection:
    """An optimizer step's material. Completions and weights stay on the device; lengths and flags are host arrays."""

    layout: Layout  # of all rounds
    position: int  # in the data, behind them
    step: int  # optimizer steps taken before it
    whole: Whole
    completions: Completions
    scores: Scores | None
    weighed: Weighed
    length: Int[np.ndarray, "P"]
    flags: UInt8[np.ndarray, "P"]  # see `device.Weighed`
    trunk_used: Bool[np.ndarray, "M"]
    rounds: int
    short: bool
    advantage: Float[np.ndarray, "P"]  # of a completion's first token, for the log
    ref_logp: Array | None = None  # [P C], where weights need it
    graded: tuple[Graded, ...] = field(default=(), repr=False)  # what the host rewarded: jobs, texts, rewards

    @property
    def carries(self) -> Bool[np.ndarray, "P"]:
        """Whether a rollout has weight of its own."""
        return (self.flags & CARRIES) != 0


def whole_step(layout: Layout, shapes: Shapes, most_rounds: int) -> Whole:
    """Groups and demonstrations of all sheets as one, with room for 1, 4, 16 … or `most_rounds` rounds of `shapes`.

    Few sizes, as each is three programs, and one that comes up late is compiled in the middle of a run.
    """
    wanted = (
        (len(layout.sheets), shapes.sheets), (len(layout.trunk.target), shapes.demonstrations),
        (len(layout.trunk.token), shapes.trunk_tokens),
    )  # fmt: skip
    times = 1
    while any(times * room < there for there, room in wanted if there):
        times = min(4 * times, most_rounds) if times < most_rounds else times + 1
    room = times * shapes.sheets if layout.sheets else 0
    length = np.concatenate([np.zeros(0, np.int32), *(sheet.expert_length for sheet in layout.sheets)])
    of_groups, of_jobs = room * shapes.groups, room * shapes.jobs
    rows = {name: of_jobs if name in ("group", "column", "active") else of_groups for name in vars(layout.groups)}
    return Whole(
        groups=Groups(**{name: _padded(value, rows[name]) for name, value in vars(layout.groups).items()}),
        trunk=Trunk(
            token=_padded(layout.trunk.token, times * shapes.trunk_tokens),
            target=_padded(layout.trunk.target, times * shapes.demonstrations),
        ),
        expert_length=_padded(length, of_groups),
    )  # fmt: skip


def _padded(value: np.ndarray, rows: int) -> np.ndarray:
    """With zeros behind it."""
    return np.pad(value, [(0, rows - len(value))] + [(0, 0)] * (value.ndim - 1))


def collect(
    collector: Collector, position: int, step: int, params: Callable[[], Params], key: jax.Array, temperature: float,
    ask: Callable[[], None] = lambda: None, level: float = 0.0,
) -> Collection:  # fmt: skip
    """Gathers one optimizer step: samples, rewards and weighs, and refills dropped groups.

    Rounds are added between calls of compiled functions, by one number: the groups that carry weight so far.

    Args:
      params: gives those to sample from; called if there is something to sample.
      key: the step's.
      ask: called before every round that waits for the one before; what it raises leaves nothing behind.
      level: of the stage's curriculum.
    """
    settings, rounds, parts, graded, seen = collector.settings, [], [], [], 0
    on_host = collector.objective.device_reward is None
    for refill in range(settings.most_rounds):
        if settings.refill_rounds is None or not refill:
            ask()
        layout, position = collector.layouts(position, step, refill, level)
        rounds.append(layout)
        for sheet in rounds[-1].sheets:
            parts.append(collector.draw(params(), collector.place_sheet(sheet), key, np.float32(temperature)))
        if settings.refill_rounds is not None and refill < settings.refill_rounds:
            continue  # nothing is asked in between
        layout = join(rounds)
        whole = whole_step(layout, collector.shapes, settings.most_rounds)
        completions, scores = assemble(parts, whole, collector)
        if on_host and len(parts) > seen:
            jobs = own_jobs(collector.reader, layout, range(seen, len(parts)))
            graded.append(grade(collector.reader, layout, jobs, completions))
            seen = len(parts)
        found = _weigh(collector, layout, whole, completions, scores, step, graded)
        if settings.prompts is None or found[0] >= settings.prompts:
            break
        if collector.objective.trunk and not layout.sheets:
            break  # demonstrations that are trained on themselves need no rollouts
    kept, weighed, (length, flags, trunk_used, advantage), ref_logp, more = found
    return Collection(
        layout=layout, position=position, step=step, whole=whole, completions=completions, scores=scores,
        weighed=weighed, length=length, flags=flags, trunk_used=trunk_used, rounds=len(rounds), advantage=advantage,
        ref_logp=ref_logp, graded=(*graded, *more), short=settings.prompts is not None and kept < settings.prompts,
    )  # fmt: skip


def assemble(parts, whole: Whole, collector: Collector) -> tuple[Completions, Scores | None]:
    """Completions, and scores where the device rewards, of all sheets; what lies behind the last one is empty."""
    jobs, cap = len(whole.groups.group), collector.max_new_tokens
    if not parts:
        return no_completions(cap)
    out = collector.place(jax.tree.map(lambda x: np.zeros((jobs, *x.shape[1:]), x.dtype), parts[0]))
    for index, part in enumerate(parts):
        out = collector.put(out, part, np.int32(index))
    return out


def no_completions(cap: int) -> tuple[Completions, None]:
    """Of a step that samples nothing."""
    logp = np.zeros((0, cap), jnp.result_type(float))
    return Completions(token=np.zeros((0, cap), np.int32), logp=logp, length=np.zeros(0, np.int32)), None


def _weigh(collector: Collector, layout: Layout, whole: Whole, completions, scores, step: int, graded):
    """(groups that carry weight, Weighed, what was fetched of it, ref_logp, what the host had to score again)."""
    ref_logp = None
    if collector.reference is not None and layout.sheets:
        ref_logp = collector.reference(layout, whole, completions)
    known = collector.place((whole.groups, whole.trunk.target, whole.expert_length))

    def run(reward):
        groups, target, expert_length = known
        weighed = collector.weigh(
            completions, groups, target, reward, scores, expert_length, np.int32(step), collector.numbers, ref_logp
        )  # fmt: skip
        return weighed, fetch((completions.length, weighed.flags, weighed.trunk_used, weighed.first_advantage))

    reader, more, jobs = collector.reader, [], len(whole.groups.group)
    reward = scores.reward if scores is not None else collector.place(rewards_of(reader, graded, jobs))
    weighed, fetched = run(reward)
    unfit = (fetched[1] & UNFIT) != 0
    if unfit.any():  # too long for the device's rooms: the host scores these, and all is weighed once more
        own = own_jobs(reader, layout, range(len(layout.sheets)))
        more = [grade(reader, layout, own[unfit[own]], completions, unfit=True)]
        weighed, fetched = run(jnp.where(unfit, rewards_of(reader, more, jobs), reward))
    return kept_groups(whole, fetched[1]), weighed, fetched, ref_logp, more


def kept_groups(whole: Whole, flags: UInt8[np.ndarray, "P"]) -> int:
    """How many groups carry weight."""
    return np.unique(whole.groups.group[(flags & KEPT) != 0]).size


def collection_metrics(reader: Reader, collection: Collection, means: Mapping[str, Mean]) -> Metrics:
    """What lengths and flags say, and the means: the device's, which are given, and the host's."""
    active, groups = collection.whole.groups.active, int(collection.whole.groups.present.any(axis=1).sum())
    if not groups:
        return {"collect/prefilled_tokens": 0, "collect/sampled_tokens": 0}
    length, flags = collection.length[active], collection.flags[active]
    group = collection.whole.groups.group[active]
    by_host = means_of(reader, collection.graded)
    means = {name: Mean(*np.add(means.get(name, (0, 0)), by_host.get(name, (0, 0)))) for name in {**means, **by_host}}
    return {
        "collect/groups": groups,
        "collect/kept_share": np.unique(group[(flags & (KEPT | SURPLUS)) != 0]).size / groups,
        "collect/rounds": collection.rounds,
        "collect/short": int(collection.short),
        "completion/tokens_mean": float(length.mean()),
        "completion/truncated_share": float(((flags & TRUNCATED) != 0).mean()),
        "collect/prefilled_tokens": _prompt_tokens(collection.layout),
        "collect/sampled_tokens": int(length.sum()),
    } | {name: float(total) / float(over) for name, (total, over) in sorted(means.items()) if over}


def _prompt_tokens(layout: Layout) -> int:
    """Of all trees, as far as something is sampled below them; each token once, however rows repeat it."""
    return int(select(layout.tables, layout.tables.job >= 0)[0].length.sum())
