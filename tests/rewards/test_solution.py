"""The one-shot reward, and the three granularities beside each other."""

import difflib
from dataclasses import replace

import numpy as np
import pytest

from jaxsrl.config.guidance import at_granularity
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rewards.solution import SolutionSimilarity
from jaxsrl.types import Demonstration, Rollouts

EXPERT = Demonstration(problem_id="p", problem="x", actions=("b=12345", "c=23456", "d=34567"), answer="34567")


def written(*texts, branch=0, truncated=None):
    count = len(texts)
    none = np.zeros(count, int)
    return Rollouts(
        token=np.zeros((count, 1), np.int32), mask=np.ones((count, 1), bool),
        demonstration=none, form=("solve",) * count, branch=none + branch, sample=none, group=none,
        truncated=np.zeros(count, bool) if truncated is None else np.array(truncated), text=texts,
    )  # fmt: skip


def test_the_whole_solution_is_compared():
    whole = "b=12345\nc=23456\nd=34567"
    texts = (whole, "<think>secret</think>" + whole, "b=12345\nc=00000", "", "<think>only thought", whole)
    got = SolutionSimilarity(autojunk=False)(written(*texts, truncated=[False] * 5 + [True]), [EXPERT])
    ratio = difflib.SequenceMatcher(None, texts[2], whole, False).ratio()
    assert got.reward.tolist() == [1.0, 1.0, ratio, -1.0, -1.0, -1.0]
    assert got.expert == (whole,) * 6 and got.metrics["reward/malformed_share"] == pytest.approx(0.5)
    late = SolutionSimilarity()(written("c=23456\nd=34567", branch=1), [EXPERT])
    assert late.reward.tolist() == [1.0] and late.expert == ("c=23456\nd=34567",)


def test_one_switch_for_the_granularity():
    """Same samples, same policy but for the filter; branch points and reward follow the name."""
    answer = FinalAnswer(extract="last_action")
    made = {name: at_granularity(name, answer=answer, group_size=4) for name in ("answer", "one_shot", "action")}
    points = {name: [(p.after, p.form) for p in o.branch_points(EXPERT, 0)] for name, o in made.items()}
    assert points == {"answer": [(0, "solve")], "one_shot": [(0, "solve")], "action": [(0, "action"), (1, "action")]}
    assert isinstance(made["answer"].reward, FinalAnswer) and isinstance(made["action"].reward, ActionSimilarity)
    assert isinstance(made["one_shot"].reward, SolutionSimilarity)
    assert {type(o) for o in made.values()} == {RLVR, SRL}
    policies = {replace(o.policy, filter_std=None) for o in made.values()}
    assert len(policies) == 1 and [o.policy.filter_std for o in made.values()] == [0.0, 0.05, 0.05]
    right = written("b=1\nd=34567")
    assert made["answer"].reward(right, [EXPERT]).reward[0] == 1 > made["one_shot"].reward(right, [EXPERT]).reward[0]
    with pytest.raises(ValueError, match="granularity"):
        at_granularity("token", answer=answer)
