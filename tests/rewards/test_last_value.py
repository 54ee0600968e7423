"""The value that a solution ends with: host and device agree, also inside of the device loop."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
import pytest

from jaxsrl.collect import Collect
from jaxsrl.config import TaskData
from jaxsrl.config.overrides import load
from jaxsrl.metrics import read
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.last_value import LastValue, value_of
from jaxsrl.tasks import arithmetic
from jaxsrl.tasks.draw import generate
from jaxsrl.tasks.facts import Facts
from jaxsrl.tasks.operators import Operators
from jaxsrl.types import Demonstration, Rooms
from tests.rewards.device_cases import BYTES, JOBS, TABLE, jobs, rollouts, those
from tests.sharing import train

ROOMS = Rooms(bytes=128, code_points=32)
CASES = [  # completion, expert's last action, is it right by its "="
    ("17+25=42\n42-2=40", "42-2=40", True),
    ("42-2=40\n \n\u3000", "41-1=40", True),
    ("42-2=40\n5", "42-2=40", False),
    ("5=40\n 40", "42-2=40", True),  # no mark on the last line: all of it is the value
    ("=40=4", "42-2=40", False),
    ("1=400", "42-2=40", False),
    ("1=4", "42-2=40", False),  # how the expert's begins
    ("1= 4 0", "42-2=40", False),
    ("1=", "1=", False),  # no value is no answer
    ("<think>1=7</think>1=40", "42-2=40", True),
    ("1=40<think>1=7", "42-2=40", True),  # a thought that is never closed
    ("1=7\n1=</think>40", "42-2=40", True),  # the template opened the thought
    ("1=40</think>", "42-2=40", False),
    ("1=4<think>\n7</think>0", "42-2=40", True),
    ("</think><think></think><think>x</think>1=40</think>a=40", "42-2=40", True),
    ("<think>1=40</think>", "42-2=40", False),
    ("", "42-2=40", False),
    ("naïve ∑=𝛼", "∑=𝛼", True),
    ("boss of Tiro is Kela", "ally of Venu is Kela", False),
    (" is Kela", "ally of Venu is Kela", False),
    ("a is b is Kela ", "ally of Venu is Kela", False),
]


def asked(actions):
    return [Demonstration(problem_id=str(i), problem="?", actions=("0=1", a)) for i, a in enumerate(actions)]


def solved(texts):
    """Completions of whole solutions; the last one never ends."""
    found = rollouts(BYTES, [[*_spell(text), BYTES.end] for text in texts])
    return replace(found, form=("solve",) * len(texts))


def _spell(text):
    tags = {"<think>": BYTES.special("<think>"), "</think>": BYTES.special("</think>")}
    parts = text.replace("<think>", "\0<think>\0").replace("</think>", "\0</think>\0").split("\0")
    return [token for part in parts for token in (tags.get(part) or BYTES.encode(part))]


SCORE = jax.jit(lambda reward, *rest: reward.score(*rest), static_argnums=(0, 6))


@pytest.mark.parametrize("mark", ["=", " is ", ""])
def test_the_device_finds_what_the_host_finds(mark):
    texts, actions, right = zip(*CASES, strict=True)
    found, reward = solved(texts), LastValue(mark=mark, wrong=-0.5, malformed=-1.0)
    found = replace(found, truncated=np.arange(len(texts)) == 0)  # the first one ran into the cap
    found.mask[0, found.mask[0].sum() - 1] = False
    host = reward(found, asked(actions))
    scores = jax.device_get(SCORE(reward, *jobs(found, actions, ROOMS), TABLE, ROOMS))
    device = reward.rewards(those(scores, len(texts)), found, asked(actions))
    assert device.reward.tolist() == host.reward.tolist() == scores.reward[: len(texts)].tolist()
    assert device.action == host.action and scores.fits.all() and not scores.formed[len(texts) :].any()
    counted = np.arange(JOBS) < len(texts)
    told = {name: float(m.total / m.over) for name, m in reward.means(scores, np.zeros(JOBS), counted).items()}
    assert told == pytest.approx(host.metrics | {"reward/unfit_share": 0.0}, rel=1e-6)
    if mark == "=":
        assert [r == 1 for r in host.reward.tolist()] == [False, *right[1:]]
        assert {-1.0, -0.5, 1.0} == {*host.reward.tolist()}


def test_what_does_not_fit_is_left_to_the_host():
    small = Rooms(bytes=16, code_points=16)
    texts, actions = ["1=2\n" * 8 + "1=3", "1=3", "1=3"], ["2=3", "2=3", "9" * 20 + "=3"]
    found, reward = solved(texts), LastValue(where="device")
    scores = those(jax.device_get(SCORE(reward, *jobs(found, actions, small), TABLE, small)), 3)
    assert scores.fits.tolist() == [False, True, False]
    assert reward.rewards(scores, found, asked(actions)).reward.tolist() == [1, 1, 1]
    assert reward.rewards(scores, found, asked(actions), unfit_on_host=False).reward.tolist() == [0, 1, 0]
    wrong = replace(scores, matched=np.zeros(3, int))
    with pytest.raises(ValueError, match="rollout 1: `text` is not what was scored"):
        reward.rewards(wrong, found, asked(actions))


@pytest.mark.parametrize(
    ("draw", "right", "mark"),
    [
        (partial(generate, Operators()), Operators().right, "="),
        (partial(generate, Facts()), Facts().right, " is "),
        (partial(arithmetic.generate, arithmetic.LONG), partial(arithmetic.verify_answer, chain=False), ""),
    ],
    ids=["sums", "facts", "machine"],
)
def test_it_is_the_tasks_own_rule(draw, right, mark):
    """On right solutions, on those of other problems, and on what comes close."""
    some = draw(count=12, split="test")
    texts = [form.format("\n".join(d.actions)) for d in some for form in ("{}", "{}0", "{}\n", "{} \n=7", "7{}")]
    texts += ["\n".join(d.actions) for d in some[1:]]
    given = [d for d in some for _ in range(5)] + some[:-1]
    rewards = (LastValue(mark=mark), FinalAnswer(verify=right))
    ours, theirs = (reward(solved(texts), given).reward for reward in rewards)
    assert ours.tolist() == theirs.tolist() and 0 < ours.mean() < 1


def test_it_is_part_of_a_program_of_any_platform():
    found = jobs(solved(["1=2", "1=3"]), ["2=3", "2=3"], ROOMS)
    two = jax.tree.map(lambda x: np.stack([x, x]), found[0])
    step = jax.jit(jax.vmap(lambda c: LastValue().score(c, *found[1:], TABLE, ROOMS).reward))
    for platform in ("cuda", "tpu"):
        lowered = step.trace(two).lower(lowering_platforms=(platform,)).as_text()
        assert "callback" not in lowered and "outfeed" not in lowered


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"mark": "\n"}, "mark"), ({"wrong": np.nan}, "wrong"), ({"where": "gpu"}, "host"), ({"max_bytes": 0}, "max_b")],
)  # fmt: skip
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        LastValue(**settings)


def test_an_action_alone_has_no_last_value():
    with pytest.raises(ValueError, match="needs form 'solve'"):
        LastValue()(replace(solved(["1=2"]), form=("action",)), asked(["1=2"]))


@dataclass(frozen=True)
class Coins:
    """Problems of one step, whose answers a policy meets by chance."""

    def load(self, data_dir: str | None) -> TaskData:
        some = tuple(Demonstration(problem_id=str(i), problem=f"{i}", actions=(f"={'xy'[i % 2]}",)) for i in range(8))
        return TaskData(
            train=some, validation=some[:2], test=some[:2], reward=FinalAnswer(verify=lambda text, d: False),
            finished=lambda action, d: True, first_action=lambda text: text,
        )  # fmt: skip


def test_rlvr_runs_in_the_device_loop(tmp_path):
    """Two optimizer steps in one program; the log holds what the host says of its texts."""
    config = load("tests/tiny_config.py")
    sft, _, rlvr = (replace(s, data=Coins(), test=None, validate=replace(s.validate, every=0)) for s in config.stages)
    stage = replace(
        rlvr, objective=RLVR(reward=LastValue(where="device"), policy=GRPO(filter_std=0.0), group_size=4),
        start_from="sft", steps=2, updates_per_rollout=1, compact=False, device_steps=2,
        collect=Collect(demonstrations=2),
    )  # fmt: skip
    stages = (replace(sft, steps=16), stage)
    folder = train(replace(config, stages=stages, runs=str(tmp_path), checkpoint_every=2))
    lines = [x for x in read(folder / "metrics.jsonl") if x["kind"] == "train" and x["stage"] == "rlvr"]
    seen = read(folder / "rollouts" / "rlvr.jsonl")
    assert len(seen) == 16 and {x["reward"] for x in seen} == {0.0, 1.0}
    says = lambda x: not x["truncated"] and value_of(x["completion"], "=") == x["expert_action"]
    assert [x["reward"] for x in seen] == [float(says(x)) for x in seen]
    assert [x["step"] for x in lines] == [1, 2] and any(x["grad/norm"] for x in lines)
    assert sum(x["reward/mean"] for x in lines) / 2 == np.mean([x["reward"] for x in seen])
