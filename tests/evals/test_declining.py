"""Declining is calibrated only where it depends on the problem."""

from dataclasses import replace

import pytest

from jaxsrl.evals.audits import declining
from jaxsrl.evals.probe import DoesNotApply
from jaxsrl.tasks import arithmetic
from jaxsrl.tasks.arithmetic import LONG, verify_answer

from .told import Told

SOME = arithmetic.generate(LONG, 6, "test")
WHOLE = {one.problem: "\n".join(one.actions) for one in SOME}


def asked(says, **more):
    policy = Told(says=lambda one, sample: says(one), verdict=verify_answer, task=LONG, **more)
    return declining.PROBE(policy, SOME, None)


def old(one):
    return WHOLE[one.problem.partition("\n")[2]]


def test_who_knows_the_wires_is_calibrated():
    found, records = asked(lambda one: "no answer" if one.answer == "no answer" else old(one))
    assert found["declined"] == found["calibration"] == found["right_control"] == 1 and found["declined_control"] == 0
    assert records[0]["asked"].startswith("cut ") and records[0]["control"].startswith("cut ")


def test_who_always_declines_declines_all_and_is_not_calibrated():
    found, _ = asked(lambda one: "no answer")
    assert found["declined"] == found["declined_control"] == 1 and found["calibration"] == found["right_control"] == 0


def test_who_never_does_answers_what_has_no_answer():
    found, _ = asked(old)
    assert found["declined"] == found["calibration"] == 0 and found["answered"] == found["right_control"] == 1


def test_what_was_cut_or_only_thought_declines_nothing():
    found, _ = asked(lambda one: "no answer" + " " * 40, cap=20)
    assert found["declined"] == found["answered"] == 0 and found["capped"] == 1
    found, _ = asked(lambda one: "<think>\nno answer\n</think>7")
    assert found["declined"] == 0
    with pytest.raises(DoesNotApply, match="wired machine"):
        declining.PROBE(Told(says=None, verdict=None), SOME, None)


def test_words_can_be_put_behind_a_problem():
    seen = []
    policy = Told(says=lambda one, sample: seen.append(one.problem) or "no answer", verdict=verify_answer, task=LONG)
    replace(declining.PROBE, say="\nIf there is none say: no answer")(policy, SOME[:1], None)
    assert len(seen) == 2 and all(text.endswith("say: no answer") for text in seen)
