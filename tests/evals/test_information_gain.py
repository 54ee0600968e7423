"""Information gain: the arithmetic, whose answer is scored where, and policies whose steps say nothing."""

import math

import jax
import numpy as np
import pytest

from jaxsrl.evals.audits.information_gain import InformationGain, gains
from jaxsrl.evals.evaluate import run_probe

from .conftest import BYTES
from .probed import LEAD, by_hand, problem

ASKED = [problem("x", "1+2?", "34"), problem("y", "5+6?", "7")]


def test_the_numbers_of_a_case_by_hand():
    found = gains(np.log([12, 9, 10, 4]))
    assert found["gain"] == pytest.approx(8 / 3) and found["gain_nats"] == pytest.approx((math.log(3)) / 3)
    assert found["gain_nats"] == pytest.approx(0.3662, abs=5e-5) and found["gaining"] == pytest.approx(2 / 3)
    assert (found["ppl_question"], found["ppl_chain"], found["steps"]) == (pytest.approx(12), pytest.approx(4), 3)
    released = gains(np.log([12, 9, 10, 4]), np.log([6, 5, 4, 3]))["gain_released"]
    assert released == pytest.approx((6 - 3) / 4)  # over t + 1
    assert gains(np.log([12]))["gain"] is None and gains(np.log([12]))["ppl_chain"] == pytest.approx(12)


def test_the_mean_telescopes():
    """Steps between count through their number alone."""
    rng = np.random.default_rng(0)
    for steps in (1, 2, 7):
        nats = rng.uniform(0, 3, steps + 1)
        found, direct = gains(nats), gains(nats[[0, -1]])
        assert found["gain"] == pytest.approx(direct["gain"] / steps)
        assert found["gain_nats"] == pytest.approx((nats[0] - nats[-1]) / steps)


def by_lines(context: str, token: int) -> float:
    """A scorer that knows the answer better with each line before it: 4, 3, 2 … nats a token."""
    return -4.0 + context.partition("?")[2].count("\n") - 1


def solver(text, chain, temperature, noise):
    return "one line\nanother\nthe last" if text == "1+2?" else "nothing more"


def test_only_the_answers_tokens_are_scored_after_each_step_under_the_judge():
    scored = []

    def logp(context, token):
        scored.append((context, chr(token) if token < 256 else "mark"))
        return by_lines(context, token)

    policy = by_hand(solver)
    judge = by_hand(None, logp=logp)
    policy = type(policy)(**{**vars(policy), "judge": judge})
    metrics, (first, second) = run_probe(InformationGain(released=False), policy, jax.random.key(0), ASKED)
    assert {character for _, character in scored} == set("347")
    contexts = {context for context, character in scored if character == "3"}
    head = BYTES.decode(list(BYTES.begin)) + "<|solve|>1+2?\n"
    assert contexts == {
        head + LEAD, head + "one line\n" + LEAD, head + "one line\nanother\n" + LEAD,
        head + "one line\nanother\nthe last\n" + LEAD,
    }  # fmt: skip
    assert first["nats"] == [4.0, 3.0, 2.0, 1.0] and first["values"]["gain_nats"] == pytest.approx(1)
    assert first["values"]["answer_tokens"] == 2 and second["values"]["answer_tokens"] == 1
    assert first["scorer"] == "by hand" and second["nats"] == [4.0, 3.0]
    assert metrics["information_gain/gaining"] == 1.0 and metrics["information_gain/steps"] == 2.0
    assert "information_gain/gain_released" in metrics and metrics["information_gain/gain_released"] is None
    assert metrics["information_gain/gain"] == pytest.approx(
        np.mean([(math.exp(4) - math.exp(1)) / 3, math.exp(4) - math.exp(3)])
    )


def test_a_scorer_that_reads_the_question_alone_gives_no_gain():
    policy = by_hand(solver, logp=lambda context, token: -1.5)
    metrics, _ = run_probe(InformationGain(), policy, jax.random.key(0), ASKED)
    for name in ("gain", "gain_nats", "gain_released", "gaining"):
        assert metrics[f"information_gain/{name}"] == 0.0
    assert metrics["information_gain/nats_chain"] == 1.5


def test_the_released_variant_scores_what_stands_before_the_answer_too():
    """A scorer that finds steps dear and answers free: no gain in the answer, a loss in the whole text."""

    def dear(context, token):
        return 0.0 if "Answer: " in context or LEAD in context else -float("line" in context)

    metrics, _ = run_probe(InformationGain(), by_hand(solver, logp=dear), jax.random.key(0), ASKED[:1])
    assert metrics["information_gain/gain"] == 0.0 and metrics["information_gain/gain_released"] < -0.01


def test_a_policy_without_steps_is_counted_and_has_no_gain():
    silent = by_hand(lambda *_: "", logp=lambda context, token: -1.0)
    metrics, records = run_probe(InformationGain(), silent, jax.random.key(0), ASKED)
    assert metrics["information_gain/gain"] is None and metrics["information_gain/without_steps"] == 1.0
    assert metrics["information_gain/nats_question"] == 1.0 and records[0]["steps"] == []
