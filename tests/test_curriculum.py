"""A curriculum on results: branch points follow what earlier steps reached, and a stopped run follows it as well."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from jaxsrl.config.overrides import load, override
from jaxsrl.metrics import read
from jaxsrl.objectives.curriculum import BackwardOnSuccess
from jaxsrl.processes import Stopped
from jaxsrl.types import BranchPoint, Demonstration
from tests.sharing import train

TINY = load(Path(__file__).parent / "tiny_config.py")
EASY = BackwardOnSuccess(threshold=0.0, levels=1)


@dataclass(frozen=True, kw_only=True)
class EverySecondStep:
    """A user's own: it takes a second level whatever came out."""

    first: float = 5.0

    def next_level(self, level, metrics):
        return level + metrics["step"] % 2

    def branch_points(self, level, demonstration, points):
        return [point for point in points if point.after == level % 2]


def srl(runs, curriculum, **changes):
    stage = replace(TINY.stages[1], start_from=None, steps=4, curriculum=curriculum)
    stage = replace(stage, collect=replace(stage.collect, prompts=None))
    return replace(TINY, stages=(stage,), runs=str(runs), **changes)


def seen(folder):
    """Of each step its level, and where its rollouts branch off."""
    lines = [json.loads(x) for x in (folder / "rollouts" / "srl.jsonl").read_text().splitlines()]
    levels = [x["curriculum/level"] for x in read(folder / "metrics.jsonl") if x["kind"] == "train"]
    return levels, [sorted({x["branch"] for x in lines if x["step"] == step}) for step in range(1, len(levels) + 1)]


def test_levels_are_won_by_results_alone():
    points = [BranchPoint(after=k, samples=2) for k in range(4)]
    demonstration = Demonstration(problem_id="p", problem="x", actions=tuple("abcd"))
    curriculum = BackwardOnSuccess(threshold=0.5, levels=3)
    used = [[p.after for p in curriculum.branch_points(v, demonstration, points)] for v in range(4)]
    assert used == [[3], [2, 3], [1, 2, 3], [0, 1, 2, 3]]
    after = lambda level, reward: curriculum.next_level(level, {"collect/groups": 4, "reward/mean": reward})
    assert [after(0, 0.49), after(0, 0.5), after(3, 1.0)] == [0, 1, 3]
    assert curriculum.next_level(1.0, {"loss": 0.1}) == 1.0  # nothing was sampled
    assert curriculum.branch_points(0.0, demonstration, []) == []


def test_a_metric_that_is_not_logged_stops_the_run():
    with pytest.raises(ValueError, match="curriculum.metric='reward/men' is none of: .*reward/mean"):
        BackwardOnSuccess(metric="reward/men").next_level(0.0, {"collect/groups": 2, "reward/mean": 0.5})
    with pytest.raises(ValueError, match="levels must be >= 1, got 0"):
        BackwardOnSuccess(levels=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_was_laid_out_ahead_for_another_level_is_made_again(tmp_path, workers):
    levels, branches = seen(train(srl(tmp_path, EASY, layout_workers=workers)))
    assert levels == [0, 1, 1, 1] and branches == [[1], [0, 1], [0, 1], [0, 1]]


def test_one_of_a_users_own_is_one_value(tmp_path):
    levels, branches = seen(train(srl(tmp_path, EverySecondStep())))
    assert levels == [5, 6, 6, 7] and branches == [[1], [0], [0], [1]]


def test_a_stopped_run_goes_on_at_its_level(tmp_path):
    whole = train(srl(tmp_path / "whole", EASY))
    asked = iter([False, True])  # before the second step
    with pytest.raises(Stopped):
        train(srl(tmp_path / "cut", EASY), lambda: next(asked, True))
    cut = train(srl(tmp_path / "cut", EASY))
    for name in ("metrics.jsonl", "rollouts/srl.jsonl"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_it_needs_the_host_and_begins_on_the_command_line(tmp_path):
    with pytest.raises(ValueError, match="device_steps=2 needs no curriculum"):
        replace(TINY.stages[0], curriculum=EASY, device_steps=2, compact=False, steps=8)
    made = override(srl(tmp_path, None), ["stages.srl.curriculum.levels=3"])
    assert made.stages[0].curriculum == BackwardOnSuccess(levels=3)
