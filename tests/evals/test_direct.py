"""Whole solutions: answers, their absence, lengths."""

import pytest

from jaxsrl.rewards.answer import FinalAnswer

from .conftest import DEMONSTRATIONS, expert_of, perfect, sums


def direct(run, policy, demonstrations=DEMONSTRATIONS, **settings):
    metrics, records = run(policy, demonstrations, modes=("direct",), **settings)
    return {name.removeprefix("direct/"): value for name, value in metrics.items()}, records


def test_the_expert_scores_1(run):
    metrics, records = direct(run, perfect)
    assert metrics["answer"] == metrics["thinks"] == 1 and metrics["malformed"] == metrics["truncated"] == 0
    assert metrics["answer_low"] == pytest.approx(5 / (5 + 1.96**2), abs=1e-4)  # Wilson: one trial a problem
    assert metrics["count"] == metrics["problems"] == len(records) == 5
    assert records[2]["action"] == records[2]["expert_action"] == "34" and records[2]["correct"] is True


def test_wrong_missing_and_cut_off_answers(run):
    def odd(prompt, *_):
        demonstration, _ = expert_of(prompt)
        right = f"answer: {demonstration.answer}"
        return {"a": right, "b": "answer: 0", "c": "none", "d": right + "<|cut|>", "e": f"<think>{right}</think>"}[
            demonstration.problem_id]  # fmt: skip

    metrics, records = direct(run, odd)
    assert metrics["answer"] == 0.2 and metrics["malformed"] == 0.6 and metrics["truncated"] == 0.2
    assert [r["correct"] for r in records] == [True, False, False, False, False]


def test_lengths_count_thoughts_and_the_end_token(run):
    metrics, _ = direct(run, lambda *_: "<think>one two</think>three 4")
    assert metrics["tokens_mean"] == len("one two") + len("three 4") + 3
    assert metrics["words_mean"] == 4


def test_samples_of_a_problem(run):
    """Problem a is right in 2 of 4 samples, the others always wrong with the same wrong answer."""

    def policy(prompt, temperature, sample, noise):
        demonstration, _ = expert_of(prompt)
        right = demonstration.problem_id == "a" and sample % 2 == 0
        return f"answer: {demonstration.answer if right else 1000 + sample}"

    metrics, records = direct(run, policy, samples=4, temperature=0.7)
    assert metrics["answer"] == 0.2 and metrics["avg@4"] == pytest.approx(0.1)
    assert metrics["pass@2"] == pytest.approx((1 - 1 / 6) / 5) and metrics["pass@4"] == pytest.approx(0.2)
    assert metrics["pass^4"] == 0 and metrics["maj@4"] == pytest.approx(0.2)  # 3 twice beats 1001 and 1003
    assert 0 <= metrics["avg@4_low"] < 0.1 < metrics["avg@4_high"] < 1
    assert len(records) == 5 + 20 and {r["decoding"] for r in records} == {"greedy", "sampled"}


def test_the_majority_is_of_equal_answers(run):
    """Right as 2, 2.0 and +2, wrong as 9 twice: as text the wrong answer would win."""
    reward = FinalAnswer(extract="last_line")

    def policy(prompt, temperature, sample, noise):
        right = expert_of(prompt)[0].answer
        return [right, "9", f"{right}.0", "9", f"+{right}"][sample]

    metrics, _ = direct(run, policy, samples=5, temperature=0.7, reward=reward, same=reward.same)
    assert metrics["maj@5"] == 1 and metrics["avg@5"] == pytest.approx(0.6)
    metrics, _ = direct(run, policy, samples=5, temperature=0.7, reward=reward)
    assert metrics["maj@5"] == 0


def test_two_solutions_of_a_problem_are_one_problem(run):
    metrics, records = direct(run, perfect, (*DEMONSTRATIONS, sums(4, 5, 6, name="b")))
    assert metrics["problems"] == 5 and [r["problem"] for r in records] == list("abcde")
