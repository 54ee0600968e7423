"""Mixed rewards, functional equivalence, and detectors."""

import numpy as np
import pytest

from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.detectors import (
    WithDetectors,
    count_equations,
    repeated_ngram_share,
    repeats_answer,
    stated_answers,
)
from jaxsrl.rewards.equivalence import StepEquivalence, same_json
from jaxsrl.rewards.mixed import OutcomeAndProcess
from jaxsrl.tasks.arithmetic import LONG, generate, right_steps, same_action
from jaxsrl.types import Demonstration, Rollouts

(EXPERT,) = generate(LONG, 1)


def written(*texts, branch=0, form="solve", truncated=None, lengths=None):
    count = len(texts)
    none = np.zeros(count, int)
    lengths = np.full(count, 3) if lengths is None else np.asarray(lengths)
    return Rollouts(
        token=np.zeros((count, 50), np.int32), mask=np.arange(50) < lengths[:, None],
        demonstration=none, form=(form,) * count, branch=none + branch,
        sample=none, group=none, truncated=np.zeros(count, bool) if truncated is None else np.array(truncated),
        text=texts,
    )  # fmt: skip


@pytest.mark.parametrize("reduce, expected", [("mean", [1.0, 0.3 * 7 / 8, 0.0, 0.3]), ("min", [1.0, 0.0, 0.0, 0.3])])
def test_outcome_and_process(reduce, expected):
    """alpha 0.7: all right; the last line wrong; nothing written; half a solution that is right as far as it goes."""
    whole = list(EXPERT.actions)
    texts = ("\n".join(whole), "\n".join([*whole[:-1], "z=00000"]), "", "<think>a=0</think>" + "\n".join(whole[:4]))
    reward = OutcomeAndProcess(
        outcome=FinalAnswer(extract="last_action"), process=right_steps, alpha=0.7, reduce=reduce
    )
    got = reward(written(*texts), [EXPERT])
    assert np.allclose(got.reward, expected)
    assert got.metrics["reward/mean"] == pytest.approx(np.mean(expected))
    assert got.metrics["reward/outcome_mean"] == pytest.approx(0.25)
    with pytest.raises(ValueError, match="alpha"):
        OutcomeAndProcess(outcome=None, process=right_steps, alpha=1.5)


@pytest.mark.parametrize("a, b, same", [
    ('{"cmd": "ls", "n": 1}', '{"n":1.0,"cmd":"ls"}', True), ("[1, 2]", "[2, 1]", False), ("true", "1", False),
    ('{"a": [{"b": null}]}', ' {"a":[{"b":null}]} ', True), ('{"a": 1, "a": 1}', '{"a": 1}', False),
    ("NaN", "NaN", False), ("ls", "ls", False), ('"1"', "1", False), ('{"a": {}}', '{"a": []}', False),
    ("[" * 100_000, "[]", False), ("0", "false", False), ("[true]", "[1]", False), ("1e2", "100", True),
])  # fmt: skip
def test_json_actions(a, b, same):
    assert same_json(a, b) is same and same_json(b, a) is same


def test_equivalent_actions_are_right_however_written():
    action = EXPERT.actions[2]
    label, digits = action.split("=")
    texts = [action, f" {label} = {digits} ", f"{label}={digits[:-1]}", f"{label}={digits}=", digits, ""]
    rollouts = written(*(f"<think>t</think>{t}" for t in texts), action, branch=2, form="action")
    got = StepEquivalence(same=same_action, malformed=-1.0)(rollouts, [EXPERT])
    assert got.reward.tolist() == [1, 1, 0, 0, 0, -1, -1]
    assert got.metrics["reward/equivalent_share"] == pytest.approx(2 / 7)
    cut = StepEquivalence(same=same_action)(written("<think></think>" + action, branch=2, truncated=[True]), [EXPERT])
    assert cut.reward.tolist() == [0.0]
    agent = Demonstration(problem_id="a", problem="x", actions=('{"run": "ls", "at": 2}',))
    call = '<think>look</think>{"at": 2, "run": "ls"}'
    assert StepEquivalence(same=same_json)(written(call), [agent]).reward.tolist() == [1.0]


def test_right_steps():
    lines = list(EXPERT.actions)
    assert right_steps("\n".join(lines), EXPERT) == (1.0,) * 8 and right_steps("", EXPERT) == ()
    assert right_steps("\n".join([lines[0], "x", *lines[2:], "more"]), EXPERT) == (1, 0, 1, 1, 1, 1, 1, 1, 0)


def test_detectors():
    assert stated_answers(r"so \boxed{7}. The answer is 8, final answer is: 9") == ["7", "8", "9"]
    assert stated_answers(r"\boxed{\frac{1}{2}}, the answer is 3.14. Final answer is: \boxed{7}") == [
        r"\frac{1}{2}", "3.14", "7",
    ]  # fmt: skip
    assert repeats_answer(r"\boxed{7} \boxed{7} the answer is 7") and not repeats_answer(r"\boxed{7} \boxed{7}")
    assert count_equations("3 + 4 = 7, 2*5=10 and 1 + 2 + 3 = 6; x = 5, 7 = 7") == 3
    assert repeated_ngram_share("a b c d " * 3, n=4) == pytest.approx(3 / 9)
    assert repeated_ngram_share("a b c d e f g") == 0.0 == repeated_ngram_share("")


def test_watched_metrics_stand_beside_an_unchanged_reward():
    expert = Demonstration(problem_id="p", problem="x", actions=("3 + 4 = 7", "7 * 2 = 14"), answer="14")
    texts = (r"3 + 4 = 7 and 7 * 2 = 14 \boxed{14}", r"\boxed{14}", r"\boxed{3} \boxed{3} \boxed{3}")
    rollouts = written(*texts, lengths=[40, 5, 40])
    plain = FinalAnswer()(rollouts, [expert])
    got = WithDetectors(reward=FinalAnswer(), short_tokens=10)(rollouts, [expert])
    assert got.reward.tolist() == plain.reward.tolist() == [1, 1, 0]
    assert got.metrics["detect/answer_repetition_share"] == pytest.approx(1 / 3)
    assert got.metrics["detect/short_answer_share"] == pytest.approx(1 / 3)
    assert got.metrics["detect/computation_ratio"] == pytest.approx(2 / 6)
    assert plain.metrics.items() <= got.metrics.items()


def test_accuracy_lost_where_the_profiled_policy_was_right():
    """At a branch point with 7 of 8 right before, half right now; those it had not mastered do not count."""
    expert = Demonstration(
        problem_id="p", problem="x", actions=("a", "b"), answer="14",
        profile=((0, (1.0,) * 7 + (0.0,)), (1, (1.0,) * 6 + (0.0,) * 2)),
    )  # fmt: skip
    right, wrong = r"\boxed{14}", r"\boxed{3}"
    got = WithDetectors(reward=FinalAnswer())(written(right, wrong), [expert])
    assert got.metrics["detect/lost_accuracy"] == pytest.approx(7 / 8 - 1 / 2)
    for other in (written(right, wrong, branch=1), written(right, wrong, branch=2)):
        assert "detect/lost_accuracy" not in WithDetectors(reward=FinalAnswer())(other, [expert]).metrics
