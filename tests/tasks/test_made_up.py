"""A task of a user's own is one file: no line of the project is edited to train on it, judge it and read it back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jaxsrl.config.overrides import load, to_dict
from jaxsrl.config.saved import own_parts, saved_config
from jaxsrl.metrics import read
from jaxsrl.tasks.draw import generate, split_of
from tests.sharing import train

TINY = Path(__file__).parents[1] / "tiny_config.py"
REVERSAL = '''
"""Words written backwards, a letter more in each action: `abc` is c, cb, cba."""

from dataclasses import dataclass, replace
from pathlib import Path

from jaxsrl.config.generated import Generated
from jaxsrl.config.overrides import load
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks.draw import below, first_of, lines_of, problem_id, split_of, stream
from jaxsrl.types import Demonstration


@dataclass(frozen=True, kw_only=True)
class Reversal:
    letters: int = 3
    seed: int = 0

    def demonstration(self, split, index):
        rng = stream("reversal", self.seed, self.letters, split, index)
        draw = lambda: "".join("abcdefgh"[below(rng, 8)] for _ in range(self.letters))
        word = first_of(lambda: next((w for w in [draw()] if split_of(w) == split), None), "word")
        back = word[::-1]
        return Demonstration(
            problem_id=problem_id("reversal", word), problem=word, answer=back,
            actions=tuple(back[: n + 1] for n in range(self.letters)),
        )

    def right(self, text, demonstration):
        return lines_of(text)[-1:] == [demonstration.answer]

    def finished(self, action, demonstration):
        return len(action.strip()) == self.letters

    def difficulty(self, demonstration):
        return float(self.letters)


def config():
    tiny, task = load(Path("TINY")), Reversal()
    data = Generated(task=task, held_out=Reversal(letters=4), train=5, validation=2, test=2)
    stages = tuple(replace(stage, data=data, steps=2) for stage in tiny.stages)
    judged = RLVR(reward=FinalAnswer(verify=task.right), group_size=4)
    return replace(tiny, name="reversal", stages=(*stages[:2], replace(stages[2], objective=judged)))
'''


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "reversal.py"
    found.write_text(REVERSAL.replace("TINY", str(TINY)))
    return found


def test_a_made_up_task_is_one_file(path, tmp_path):
    config = load(path)
    task = config.stages[0].data.task
    (one,) = generate(task, 1)
    assert one.actions == (one.problem[2], one.problem[:0:-1], one.problem[::-1]) and split_of(one.problem) == "train"
    assert task.right("\n".join(one.actions), one) and not task.right(one.actions[0], one)
    assert task.finished(one.actions[-1], one) and not task.finished(one.actions[0], one)
    run = train(replace(config, runs=str(tmp_path / "runs")))
    lines = [x for x in read(run / "metrics.jsonl") if x["kind"] == "train"]
    assert [(x["stage"], x["step"]) for x in lines] == [(s, n) for s in ("sft", "srl", "rlvr") for n in (1, 2)]
    given = {d.problem_id for d in generate(task, 5)}
    for stage in ("srl", "rlvr"):
        rollouts = [json.loads(x) for x in (run / "rollouts" / f"{stage}.jsonl").read_text().splitlines()]
        assert rollouts and {x["problem"] for x in rollouts} <= given
    again = saved_config(json.loads((run / "config.json").read_text()), run, own_parts(path))
    assert to_dict(again.stages[2].data) == to_dict(config.stages[2].data)
    held_out = again.stages[2].data.load(None)
    assert {held_out.task.difficulty(d) for d in held_out.test} == {4.0}
