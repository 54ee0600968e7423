"""Sums of known length: what is right, what a step claims, and which chains a verifier follows."""

from jaxsrl.tasks.draw import generate
from jaxsrl.tasks.operators import LONG, Operators, chain, claim_is_right, right_steps
from jaxsrl.types import Demonstration

SUM = Demonstration(problem_id="s", problem="t2:17+25-8+40-3", actions=chain("17+25-8+40-3", 2), answer="71")


def test_a_sum_by_hand():
    assert SUM.actions == ("17+25-8=34", "34+40-3=71")
    assert chain("17+25-8+40-3", 3) == ("17+25-8+40=74", "74-3=71")
    assert generate(Operators(), 1)[0].problem == GOLDEN


GOLDEN = "t4:72-27+96-72-34+40-46-12-17"


def test_the_length_of_a_chain_is_known():
    for d in generate(Operators(operators=(6, 6), per_action=(1, 2, 3, 4)), 40):
        step = int(d.problem[1])
        assert len(d.actions) == -(-6 // step)
    told, untold = (generate(Operators(tells=tells), 1)[0].problem for tells in (True, False))
    assert told[0] == "t" and untold[0].isdigit()


def test_totals_stay_in_range():
    for d in generate(LONG, 200):
        assert all(0 <= int(action.rpartition("=")[2]) <= 990 for action in d.actions)


def test_a_claim_is_a_sum_that_can_be_checked():
    assert [claim_is_right(x) for x in ("2+3=5", "2+3=6", "10-3+1=8", "so 5", "5", "2*3=6")] == [
        True, False, True, None, None, None,
    ]  # fmt: skip


def test_only_steps_that_go_on_from_the_value_before_are_right():
    steps = lambda *lines: right_steps("\n".join(lines), SUM)
    assert steps(*SUM.actions) == (1, 1)
    assert steps("17+25=42", "42-8+40=74", "74-3=71") == (1, 1, 1)  # in steps of another length
    assert steps("17+25-8=35", "35+40-3=72") == (0, 0)  # true to itself, from a wrong value
    assert steps("17+25-8=34", "34+40-3=72") == (1, 0)
    assert steps("17+40=57") == (0,)  # not the next term
    assert steps("17+2=19") == (0,)  # half of a term
    assert steps("34+40-3=71") == (0,)  # the last line alone: right answer, no chain
    assert LONG.right("71", SUM) and not LONG.right("70", SUM)
