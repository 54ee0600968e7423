"""What is left is told from steps that compiled nothing, and evaluations are counted apart."""

import pytest

from jaxsrl.pace import Pace, duration, validations_left

pytestmark = pytest.mark.fast


def test_the_first_step_compiles_and_is_no_pace():
    """The control is the mean over all: 100 s of compiling and a step of 1 s are no 50 s a step."""
    pace = Pace()
    pace.took(100.0)
    assert pace.says(99, {"validation": 1}) == "first step 2 min, compilation included"
    pace.took(1.0)
    assert pace.says(98, {}) == "1.00 s/step, 98 s left"


def test_evaluations_are_added_as_often_as_they_come_and_named_where_unknown():
    pace = Pace()
    pace.took(9.0)
    pace.took(8.0, steps=4)
    assert pace.says(10, {"validation": 2, "test": 1}) == "2.00 s/step, 20 s left + the validation and test evaluation"
    pace.evaluated("validation", 30.0, 7)
    assert pace.says(10, {"validation": 2, "test": 1}) == "2.00 s/step, 80 s left + the test evaluation"
    assert pace.says(10, {"validation": 2, "test": 0}) == "2.00 s/step, 80 s left"


def test_one_long_step_is_not_the_pace():
    pace = Pace()
    for seconds in (9.0, 1.0, 1.0, 60.0, 1.0):
        pace.took(seconds)
    assert pace.says(10, {}).startswith("1.00 s/step, 10 s left")


def test_validations_that_are_left():
    """Every 10 of 30 steps: after 10, 20 and at the end. The one that is due now is still to come."""
    assert [validations_left(step, 30, 10) for step in (1, 9, 10, 11, 20, 21, 30)] == [3, 3, 3, 2, 2, 1, 1]
    assert validations_left(5, 30, 0) == 1


def test_durations():
    found = [duration(x) for x in (7.14, 42.4, 99.0, 1831.0, 11100.0)]
    assert found == ["7.1 s", "42 s", "99 s", "31 min", "3 h 05 min"]
