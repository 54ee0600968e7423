import gzip
import json

import numpy as np
import pytest

from jaxsrl.rewards.answer import FinalAnswer, same_answer
from jaxsrl.rewards.extract import extract_answer, last_boxed
from jaxsrl.rewards.forms import ACCEPT
from jaxsrl.types import Demonstration, Rollouts


def rollouts(*texts, truncated=()):
    p = len(texts)
    return Rollouts(
        token=np.zeros((p, 1), np.int32),
        mask=np.ones((p, 1), bool),
        demonstration=np.arange(p) % 2,
        form=("solve",) * p,
        branch=np.zeros(p, np.int32),
        sample=np.zeros(p, np.int32),
        group=np.zeros(p, np.int32),
        truncated=np.isin(np.arange(p), truncated),
        text=texts,
    )


def demonstration(answer, problem="?"):
    return Demonstration(problem_id="p", problem=problem, actions=("a",), answer=answer, source="f:1")


KEYS = [demonstration("7"), demonstration("8")]


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (r"so \boxed{7}", "7"),
        (r"\boxed{1} then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\left\{1, 2\right.}", r"\left\{1, 2\right."),  # an escaped brace groups nothing
        (r"\boxed{5} and \boxed{6", "5"),  # the last one that is closed
        (r"{ \boxed{5}", "5"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed 72", "7"),  # TeX takes one character
        (r"\fboxed{4}", "4"),
        (r"\boxed{}", None),
        (r"boxed{7}", None),
        ("", None),
    ],
)
def test_boxed(text, want):
    assert extract_answer(text, "boxed") == want


@pytest.mark.parametrize(
    ("extract", "text", "want"),
    [
        ("hash", "3+4=7\n#### 7\n", "7"),
        ("hash", "#### 1\n#### 2\nend", "2"),
        ("hash", "####", None),
        ("hash", "7", None),
        ("last_number", "from 1,234.5 to -3", "-3"),
        ("last_number", "10-3", "3"),
        ("last_number", "costs $1,250,000.", "1,250,000"),
        ("last_number", "it is .5 now", ".5"),
        ("last_number", "none", None),
        ("last_line", "a\n b = 3 \n\n", "b = 3"),
        ("last_line", " \n", None),
        ("last_action", "a = 1\nans = 7\n", "7"),
        ("last_action", "a = 1\n7", "7"),
        ("stated", r"the answer is 3, so \boxed{4}. In all 5.", "4"),
        ("stated", "9 - 4 = 5. The answer is: **$5**.\nChecked 12 times.", "$5"),
        ("stated", "The final answer is\n 1/2", "1/2"),
        ("stated", "the answer is 3. No, the answer is 4", "4"),
        ("stated", "48 + 24 = 72\n#### 72", "72"),
        ("stated", r"\boxed{} and 7 more", "7"),
        ("stated", "I do not know", None),
        ("last_action", "a = b = 7", "7"),
        ("last_action", "a =", None),
    ],
)
def test_other_extractions(extract, text, want):
    assert extract_answer(text, extract) == want


def test_a_long_run_of_open_boxes_is_read_once():
    """Quadratic work would take minutes on a policy that loops."""
    assert last_boxed(r"\boxed{" * 100_000) is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("7", " 7. "),
        ("$18", "18.00"),
        ("1,234", "1234"),
        (r"\$1,234.50", "1234.5"),
        ("Yes", "yes"),
        ("3 - 2i", "3-2i"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\left(1,\, 2\right)", "(1, 2)"),
        (r"-\infty", r"- \infty"),
        ("12345678901234567890123456789012", "12,345,678,901,234,567,890,123,456,789,012"),
    ],
)
def test_same_answers(a, b):
    assert same_answer(a, b) and same_answer(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("7", "8"),
        ("1 2", "12"),
        ("(1,200)", "(1200)"),  # a pair, not a number with a comma
        ("12345678901234567890123456789012", "12345678901234567890123456789013"),  # equal as floats
        ("0.33333", "0.33334"),
        ("1/2", "0.5"),
        ("", "0"),
        (r"\leftarrow", "arrow"),
        ("__import__('os')", "0"),
        ("1e3", "1000"),
    ],
)
def test_different_answers(a, b):
    assert not same_answer(a, b) and not same_answer(b, a)


def test_tolerance_is_relative_to_the_key_and_asked_for():
    assert not same_answer("1000.1", "1000")
    assert same_answer("1000.1", "1000", numeric_tolerance=1e-4)
    assert not same_answer("1000.2", "1000", numeric_tolerance=1e-4)
    assert not same_answer("0.0001", "0", numeric_tolerance=1e-4)
    assert same_answer("9" * 5000, "9" * 5000 + ".0")  # wider than int() reads


def test_rewards_settings_and_metrics():
    texts = (r"\boxed{7}", r"\boxed{7}", "7", r"\boxed{8}", r"\boxed{7}", r"<think>\boxed{8}</think>no idea")
    reward = FinalAnswer(correct=2.0, wrong=-0.5, malformed=-1.0)
    rewards = reward(rollouts(*texts, truncated=[4]), KEYS)
    assert rewards.reward.tolist() == [2, -0.5, -1, 2, -1, -1]
    assert rewards.action == ("7", "7", None, "8", None, None)
    assert rewards.expert == ("7", "8") * 3
    assert rewards.metrics == {
        "reward/mean": rewards.reward.mean(),
        "reward/correct_share": 2 / 6,
        "reward/malformed_share": 3 / 6,
    }
    want = {"extract": "boxed", "correct": 2.0, "wrong": -0.5, "malformed": -1.0, "numeric_tolerance": 0.0}
    assert rewards.settings == want | {"accept": list(ACCEPT), "symbolic": None}
    singles = [reward(rollouts("", text), KEYS).reward[1] for text in texts[1::2]]
    assert singles[:2] == rewards.reward[1:4:2].tolist()


def test_an_injected_verifier_sees_the_text_without_thoughts():
    seen = []

    def even(text, demonstration):
        seen.append((text, demonstration.answer))
        return int(text) % 2 == 0

    keys = [demonstration(None), demonstration(None)]
    rewards = FinalAnswer(verify=even)(rollouts("<think>3</think>4", "5", "<think>6</think>", "8", truncated=[3]), keys)
    assert rewards.reward.tolist() == [1, 0, 0, 0]
    assert seen == [("4", None), ("5", None)]  # nothing to verify in an empty or cut completion
    assert rewards.settings["verify"].endswith("even")
    with pytest.raises(ValueError, match="invalid literal"):  # a verifier that fails stops the run
        FinalAnswer(verify=even)(rollouts("x"), keys)


def test_wrong_settings_and_missing_keys_raise():
    for wrong in ({"extract": "sympy"}, {"correct": float("inf")}, {"numeric_tolerance": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            FinalAnswer(**wrong)
    with pytest.raises(ValueError, match="f:1"):
        FinalAnswer()(rollouts(r"\boxed{1}"), [demonstration(None)])


def test_every_gsm8k_solution_is_right_about_itself(data_dir):
    for name in ("train.jsonl.gz", "test_1119.jsonl"):
        for row in rows(data_dir / "gsm8k" / name):
            key = row["answer"].rpartition("####")[2].strip()
            assert extract_answer(row["answer"], "hash") == key
            assert same_answer(extract_answer(row["answer"], "last_number"), key)
            assert not same_answer(key + "1", key)


def test_every_math_solution_has_its_answer_boxed(data_dir):
    for row in rows(data_dir / "math_train" / "train.jsonl.gz"):
        assert last_boxed(row["solution"]) == row["answer"], row["id"]


def test_boxed_extraction_against_a_published_grader(data_dir):
    """Measured: 600 of 600 outputs have a box, 592 extractions and all 600 verdicts agree with the reward's."""
    samples = [
        (last_boxed(output), extracted, score, row["reference_answer"])
        for row in rows(data_dir / "graded_outputs" / "qwen25math_8_samples.jsonl.gz")
        for output, extracted, score in zip(row["outputs"], row["extracted"], row["scores"], strict=True)
    ]
    assert len(samples) == 600 and all(found is not None for found, *_ in samples)
    assert sum(same_answer(found, theirs) for found, theirs, *_ in samples) >= 592
    assert all(same_answer(found, key) == score for found, _, score, key in samples)


def test_long_outputs_against_a_published_grader(data_dir):
    """Measured: 164 of 350 outputs have a box; 155 extractions agree, no verdict is right where the reward's is not,
    and 134 of the reward's 148 right ones are: the rest need algebra, or the reward damaged its key.
    """
    samples = [
        (last_boxed(row["output"]), row) for row in rows(data_dir / "graded_outputs" / "skyt1_27b_math500.jsonl.gz")
    ]
    boxed = [(found, row) for found, row in samples if found is not None]
    assert len(boxed) == 164
    assert sum(same_answer(found, row["extracted"]) for found, row in boxed) >= 155
    right = [row["score"] for found, row in boxed if same_answer(found, row["reference_answer"])]
    assert all(right) and len(right) >= 134
