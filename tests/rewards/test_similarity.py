from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher

import numpy as np
import pytest

from jaxsrl.rewards import similarity
from jaxsrl.rewards.similarity import ActionSimilarity, score_pairs
from jaxsrl.types import Demonstration, Rollouts

LONG = ("the quick brown fox jumps over the lazy dog. " * 5)[:210]
DEMONSTRATIONS = (
    Demonstration(problem_id="p", problem="?", actions=("x = 1 + 2", "  x = 3\n", "the answer is 3"), source="f:1"),
    Demonstration(problem_id="q", problem="?", actions=(LONG, "naïve ∑ 𝛼 = 7"), source="f:2"),
)


def rollouts(*rows, form="action"):
    """Each row is (text, demonstration, branch) or (text, demonstration, branch, truncated)."""
    p = len(rows)
    return Rollouts(
        token=np.zeros((p, 1), np.int32),
        mask=np.ones((p, 1), bool),
        demonstration=np.array([r[1] for r in rows], np.int32),
        form=(form,) * p,
        branch=np.array([r[2] for r in rows], np.int32),
        sample=np.zeros(p, np.int32),
        group=np.arange(p, dtype=np.int32),
        truncated=np.array([len(r) > 3 for r in rows], bool),
        text=tuple(r[0] for r in rows),
    )


def thought(action):
    return f"<think>hm</think>{action}"


ROWS = [
    (thought("x = 1 + 2"), 0, 0),
    (thought("x = 3"), 0, 1),
    (thought("\n x = 4 "), 0, 1),
    ("x = 3", 0, 1),  # no thought
    (thought(""), 0, 1),  # empty action
    (thought("the answer is 3"), 0, 2, "truncated"),
    (thought(LONG.replace("fox", "cat").replace("dog", "pig")), 1, 0),
    (thought("naïve ∑ 𝛼 = 8"), 1, 1),
]


def test_rewards_are_difflib_of_model_and_expert_to_the_last_bit():
    rewards = ActionSimilarity()(rollouts(*ROWS), DEMONSTRATIONS)
    want = []
    for row in ROWS:
        action = row[0].removeprefix("<think>hm</think>").strip()
        expert = DEMONSTRATIONS[row[1]].actions[row[2]].strip()
        formed = row[0].startswith("<think>") and action and len(row) == 3
        want.append(SequenceMatcher(None, action, expert).ratio() if formed else -1.0)
    assert rewards.reward.dtype == np.float64
    assert rewards.reward.tolist() == want
    assert want[0] == want[1] == 1.0 and 0 < want[2] < 1 and abs(want[6] - 0.0762) < 5e-5
    assert rewards.action[3:6] == (None, None, None)
    assert rewards.action[2] == "x = 4" and rewards.expert[1] == "x = 3"


def test_settings_say_what_was_compared_and_metrics_average_it():
    rewards = ActionSimilarity(malformed=-0.5)(rollouts(*ROWS), DEMONSTRATIONS)
    want = {"unit": "char", "autojunk": True, "metric": "ratio", "order": "model, expert", "malformed": -0.5}
    assert want.items() <= rewards.settings.items()
    reward, formed = rewards.reward, np.array([a is not None for a in rewards.action])
    assert rewards.metrics == {
        "reward/mean": reward.mean(),
        "reward/similarity": reward[formed].mean(),
        "reward/malformed_share": 3 / 8,
        "reward/exact_share": 2 / 8,
        "reward/mean_expert_under_200": np.delete(reward, 6).mean(),
        "reward/mean_expert_from_200": reward[6],
    }
    short = ActionSimilarity()(rollouts(ROWS[3]), DEMONSTRATIONS).metrics
    assert "reward/mean_expert_from_200" not in short and "reward/similarity" not in short


def test_together_one_by_one_in_threads_and_shuffled_are_the_same():
    reward = ActionSimilarity()
    together = reward(rollouts(*ROWS), DEMONSTRATIONS).reward

    def single(row):
        return reward(rollouts(row), DEMONSTRATIONS).reward[0]

    assert [single(row) for row in ROWS] == together.tolist()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(single, ROWS)) == together.tolist()
    order = np.random.default_rng(0).permutation(len(ROWS))
    assert reward(rollouts(*[ROWS[i] for i in order]), DEMONSTRATIONS).reward.tolist() == together[order].tolist()


def test_the_order_of_arguments_is_model_then_expert():
    expert = Demonstration(problem_id="p", problem="?", actions=("diet",))
    assert ActionSimilarity()(rollouts((thought("tide"), 0, 0)), [expert]).reward[0] == 0.25  # the other way: 0.5


def test_exact_and_optional_and_prefilled():
    exact = ActionSimilarity(metric="exact")(rollouts(*ROWS), DEMONSTRATIONS)
    assert exact.reward.tolist() == [1, 1, 0, -1, -1, -1, 0, 0]
    optional = ActionSimilarity(think="optional")(rollouts(*ROWS), DEMONSTRATIONS)
    assert optional.reward[3] == 1.0 and optional.reward[4] == optional.reward[5] == -1.0
    cut = [(row[0].removeprefix("<think>"), *row[1:]) for row in ROWS]
    prefilled = ActionSimilarity(prefilled=True)(rollouts(*cut), DEMONSTRATIONS)
    assert prefilled.reward.tolist() == ActionSimilarity()(rollouts(*ROWS), DEMONSTRATIONS).reward.tolist()


def test_a_malformed_one_stretches_its_group_the_other_way_than_a_low_one():
    """Why the share of malformed rewards is logged: mean and spread of {-1, .9, .9, .9} are those of the -1."""
    rows = [("no thought", 0, 0)] + [(thought("x = 1 + 2"), 0, 0)] * 3
    rewards = ActionSimilarity()(rollouts(*rows), DEMONSTRATIONS)
    advantage = (rewards.reward - rewards.reward.mean()) / rewards.reward.std()
    np.testing.assert_allclose(advantage, [-(3**0.5), *[3**-0.5] * 3])
    assert rewards.reward[1:].std() == 0


@pytest.mark.parametrize("autojunk", [False, True])
@pytest.mark.parametrize("unit", ["char", "word"])
def test_score_pairs_is_difflibs_ratio(unit, autojunk):
    rng = np.random.default_rng(0)
    words = ["x", "y", "=", "+", "12", "thus", "so", "∑", "😀", "\ud800"]

    def text():
        return " ".join(rng.choice(words, rng.choice([0, 1, 5, 30, 90, 220])))

    pairs = [(text(), text()) for _ in range(60)] + [("", "")]
    pairs += pairs[:10]  # equal pairs are computed once
    cut = str.split if unit == "word" else str
    want = [SequenceMatcher(None, cut(a), cut(b), autojunk=autojunk).ratio() for a, b in pairs]
    assert score_pairs(pairs, unit=unit, autojunk=autojunk).tolist() == want


def test_no_pairs_are_no_scores():
    assert score_pairs([]).shape == (0,)
    assert ActionSimilarity()(rollouts(), DEMONSTRATIONS).metrics == {}


def test_padding_keeps_to_few_shapes(monkeypatch):
    shapes = set()

    def spy(a, a_len, b, b_len, **settings):
        shapes.add((a.shape, b.shape))
        return np.zeros(len(a), np.int32)

    monkeypatch.setattr(similarity, "matched_length", spy)
    for count in range(1, 130, 3):
        score_pairs([("x" * (i + 1), "y" * (count // 2)) for i in range(count)])
    assert shapes <= {((p, n), (64, n)) for p in (64, 128, 256) for n in (32, 64, 128, 256)} and len(shapes) < 8


def test_texts_that_no_backend_takes_are_compared_too():
    pairs = [("ab" * 2100, "ba" * 2100), ("x", "x" * 5000), ("short", "sort")]
    want = [SequenceMatcher(None, a, b, autojunk=True).ratio() for a, b in pairs]
    assert score_pairs(pairs).tolist() == want
    with pytest.raises(ValueError, match="up to 4096 elements"):
        score_pairs(pairs, indel=True)


def test_indel_counts_the_longest_common_subsequence():
    """tide, diet: blocks give 1 of 4, the subsequence 2 of 4."""
    assert score_pairs([("tide", "diet"), ("", ""), ("a b", "b a")], indel=True).tolist() == [0.5, 1.0, 2 / 6]
    assert score_pairs([("a b c", "c a b")], unit="word", indel=True).tolist() == [2 / 3]


def test_compiled_backend_agrees():
    pairs = [("x = 1 + 2", "x = 3 + 2"), ("", "a"), ("a b c", "c b a")]
    assert score_pairs(pairs, backend="xla").tolist() == score_pairs(pairs, backend="reference").tolist()


def test_wrong_settings_and_rollouts_raise():
    for wrong in ({"unit": "token"}, {"metric": "f1"}, {"think": "never"}, {"malformed": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ActionSimilarity(**wrong)
    with pytest.raises(ValueError, match="f:1.*'action'"):
        ActionSimilarity()(rollouts(ROWS[0], form="solve"), DEMONSTRATIONS)
    with pytest.raises(ValueError, match="f:1.*after 3 of 3"):
        ActionSimilarity()(rollouts((thought("a"), 0, 3)), DEMONSTRATIONS)
