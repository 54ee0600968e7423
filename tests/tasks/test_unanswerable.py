"""Problems without an answer have none, their controls have the old one, and a decline is what it says."""

from dataclasses import replace

import pytest

from jaxsrl.tasks import arithmetic, dispatch
from jaxsrl.tasks.arithmetic import LETTERS, LONG, verify_answer
from jaxsrl.tasks.dispatch import Dispatch
from jaxsrl.tasks.draw import generate
from jaxsrl.tasks.knapsack import Knapsack
from jaxsrl.tasks.unanswerable import DECLINE, Finishes, OrDeclines, declines, pair_of, without_cut


@pytest.mark.parametrize(
    "text, yes",
    [
        ("no answer", True), ("a\nNo answer.\n", True), (r"\boxed{\text{no solution}}", True),
        ("cannot be determined", True), ("", False), ("no answer\n7", False), ("no answer is 7", False),
        ("I have no answer", False), (r"\boxed{7}", False), ("e=76814", False),
        ("Therefore, the problem has no solution!", True), ("Answer: infeasible", True),
        ("It is impossible to solve.", True), ("There exists no feasible solution", True),
        ("I don\u2019t know the answer.", True), ("I cannot solve this", True), ("This cannot be solved.", True),
        ("not enough information to answer the question", True), ("no solution is smaller than 7", False),
        ("it is impossible to solve by hand, so 7", False), ("Answer: 7", False), ("the answer is not 7", False),
        ("so", False), ("I don't know the answer, so 7", False),
    ],
)  # fmt: skip
def test_a_decline_is_the_last_line_and_nothing_else(text, yes):
    assert declines(text) is yes


def test_a_needed_wire_is_cut_and_in_the_control_another():
    for one in arithmetic.generate(LONG, 40):
        pair = pair_of(LONG, one)
        cut, spare = (some.problem[4] for some in (pair.unanswerable, pair.control))
        way = LETTERS[LETTERS.index(one.problem.split("\n")[1][0]) : LETTERS.index(one.problem[0])]
        assert len(way) == 8 and cut in way and spare not in way
        assert pair.unanswerable.actions == (DECLINE,) and pair.control.actions == one.actions
        assert without_cut(pair.control).problem == without_cut(pair.unanswerable).problem == one.problem
        assert len({one.problem_id, pair.control.problem_id, pair.unanswerable.problem_id}) == 3


def test_an_overloaded_hour_cannot_be_met():
    task = Dispatch(units=(2, 2), hours=(2, 2))
    for one in generate(task, 10, "test"):
        pair = pair_of(task, one)
        assert dispatch.solve(dispatch.read(pair.unanswerable.problem)) is None and pair.control == one
    assert pair_of(Knapsack(), None) is None  # taking nothing is always allowed


def test_a_verifier_of_both_kinds():
    one = arithmetic.generate(LONG, 1)[0]
    pair, right = pair_of(LONG, one), OrDeclines(verify=verify_answer)
    whole = "\n".join(one.actions)
    assert right(DECLINE, pair.unanswerable) and not right(whole, pair.unanswerable)
    assert right(whole, pair.control) and not right(DECLINE, pair.control) and right(whole, one)
    ends = Finishes(finished=lambda action, some: action == some.actions[-1])
    assert ends(DECLINE, pair.control) and ends(one.actions[-1], pair.control) and not ends("e=1", pair.unanswerable)
    assert not ends(one.actions[0], replace(one))
