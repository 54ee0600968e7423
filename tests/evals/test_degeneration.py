"""Degeneration: signs by hand, and policies that lose what was mastered or are right for no reason."""

from dataclasses import replace

import jax
import pytest

from jaxsrl.evals.audits import degeneration
from jaxsrl.evals.probe import Written
from jaxsrl.types import Demonstration

from .told import Told

SUMS = [
    Demonstration(problem_id=str(i), problem=f"{i}+2+3", actions=(f"{i} + 2 = {i + 2}", f"{i + 2} + 3 = {i + 5}"),
                  answer=str(i + 5))
    for i in range(8)
]  # fmt: skip
KEY = jax.random.key(0)
PROBE = replace(degeneration.PROBE, short_tokens=16)


def last(text, one):
    return text.split("\n")[-1].rpartition(" ")[2] == one.answer


def told(says, judge=None):
    return Told(says=says, verdict=last, judge=judge, name="start" if judge is None else "trained")


def whole(one):
    return "\n".join(one.actions)


def test_signs_by_hand():
    repeat = "The answer is 5. The answer is 5. The answer is 5."
    signs = PROBE.look(Written(text=repeat, tokens=40, truncated=False), SUMS[0], None)
    assert signs == {"answer_repetition": 1, "ngram": pytest.approx(3 / 9), "computation": 0, "short_answer": 0}
    short = PROBE.look(Written(text="0 + 5 = 5", tokens=9, truncated=False), SUMS[0], None)
    assert short == {"answer_repetition": 0, "ngram": 0, "computation": 1 / 2, "short_answer": 1}


def half(one, sample):
    """Even problems always right, odd ones never."""
    return whole(one) if int(one.problem_id) % 2 == 0 else "0"


def test_the_start_policy_loses_nothing_against_itself():
    found, _ = PROBE(told(half), SUMS, KEY)
    assert found["mastered"] == found["hard"] == 1 / 2 and found["kept"] == found["kept_start"] == 1
    assert found["lost"] == 0 and found["hard_solved"] == 0 and found["supported"] is None


def test_what_was_mastered_and_is_lost_shows_beside_what_was_gained():
    gained = told(lambda one, sample: whole(one) if int(one.problem_id) % 2 else "0", judge=told(half))
    found, records = PROBE(gained, SUMS, KEY)
    assert found["right"] == 1 / 2 and found["kept"] == 0 and found["lost"] == 1
    assert found["hard_solved"] == found["supported"] == 1
    assert next(r for r in records if "first_success" in r)["faults"] == []


def test_a_bare_answer_is_a_success_that_nothing_supports():
    bare = told(lambda one, sample: one.answer, judge=told(half))
    found, records = PROBE(bare, SUMS, KEY)
    assert found["right"] == found["hard_solved"] == 1 and found["supported"] == 0 and found["computation"] == 0
    assert found["short_answer"] == 1
    wrong = told(lambda one, sample: f"1 + 1 = 3\n2 + 2 = 4\n{one.answer}", judge=told(half))
    _, records = PROBE(wrong, SUMS, KEY)
    assert next(r for r in records if "faults" in r)["faults"] == ["false: 1 + 1 = 3"]


def test_luck_in_choosing_is_no_loss():
    """Right in the samples that choose and in no other: the accuracy before is taken from the others."""
    calls = []

    def lucky(one, sample):
        calls.append(sample)
        return whole(one) if len(calls) <= 8 * (1 + 8) else "0"

    found, _ = PROBE(told(lucky), SUMS, KEY)
    assert found["mastered"] == 1 and found["kept_start"] == found["lost"] == 0


def test_settings_are_checked_and_problems_bounded():
    with pytest.raises(ValueError, match="samples must be >= 2"):
        replace(PROBE, samples=1)
    _, records = replace(PROBE, problems=3)(told(half), SUMS, KEY)
    assert sum("mastered" in r["values"] for r in records) == 3
