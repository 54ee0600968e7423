"""Checks of single lines: the expert's all hold, and one mistake is one mistake."""

import json
from dataclasses import replace

import pytest

from jaxsrl.tasks import arithmetic
from jaxsrl.tasks.checks import StepsHold, check_of
from jaxsrl.tasks.dispatch import Dispatch
from jaxsrl.tasks.draw import generate
from jaxsrl.tasks.facts import Facts
from jaxsrl.tasks.knapsack import Knapsack
from jaxsrl.tasks.mazes import Mazes
from jaxsrl.tasks.operators import Operators
from jaxsrl.types import Demonstration

TASKS = (Operators(), Facts(), Mazes(size=5), Dispatch(units=(2, 2), hours=(3, 3)), Knapsack())


def holds(task, lines, demonstration):
    """Of each line, the kinds of its claims that fail; None for no claim."""
    found = check_of(task)(lines, demonstration)
    return [[one.kind for one in some if not one.holds] if some else None for some in found]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_what_the_expert_writes_holds(task):
    for demonstration in generate(task, 20, "test"):
        assert holds(task, demonstration.actions, demonstration) == [[]] * len(demonstration.actions)
        whole = "\n".join(demonstration.actions)
        assert StepsHold(task=task)(whole, demonstration) == (1,) * len(demonstration.actions)
        assert holds(task, ["I think", "", "so {"], demonstration) == [None] * 3


def test_the_wired_machine_holds():
    for demonstration in arithmetic.generate(arithmetic.LONG, 5):
        assert holds(arithmetic.LONG, demonstration.actions, demonstration) == [[]] * 8
        wrong = arithmetic.corrupt(demonstration, 0, "slip")  # one digit is wrong, and all that follows goes on from it
        assert sum(some == ["state"] for some in holds(arithmetic.LONG, wrong, demonstration)) == 1


def test_a_wrong_sum_is_one_mistake_and_what_skips_terms_another():
    task, problem = Operators(), Demonstration(problem_id="p", problem="t1:17+25-8+40", actions=("17",), answer="74")
    lines = ["17+25=43", "43-8=35", "35+4=39", "35+40=75"]
    assert holds(task, lines, problem) == [["sum"], [], ["next"], []]
    found = check_of(task)(lines, problem)
    assert found[0][0].feedback == "17+25 does not come to that" and found[1][0].feedback == ""
    assert StepsHold(task=task)("so\n17+25=43\n43-8=35", problem) == (0, 1)


def test_a_false_fact_is_found():
    task = Facts()
    first, second = generate(task, 2, "test")
    name = first.actions[0].rpartition(" ")[2]
    other = next(n for n in ("Kela", *second.actions[0].split(" ")) if n[0].isupper() and n != name)
    assert holds(task, [first.actions[0].replace(name, other)], first)[0] == ["fact"]


def test_a_maze_is_replayed_without_its_faulty_lines():
    task = Mazes(size=5)
    demonstration = task.demonstration("test", 0)
    lines = list(demonstration.actions)
    lines.insert(2, "create 4 4 c9 c9")
    lines.insert(len(lines) - 1, "plan 99 99")
    found = holds(task, lines, demonstration)
    assert found[2] == ["search"] and found[-2] == ["plan"] and sum(bool(some) for some in found) == 2


def test_constraints_are_told_apart():
    problem = "load 20 24\na 0..20 at 3 ramp 2\nb 0..20 at 5 ramp 20"
    demonstration = Demonstration(
        problem_id="p", problem=problem, actions=(json.dumps({"a": [20, 20], "b": [0, 4]}),), answer="140"
    )
    lines = ["1: a=20 b=0", "2: a=10 b=4", "2: a=21 b=3", "3: a=1 b=1", '{"a":[20,20],"b":[0,0]}', '{"a":[20,20.5]}']
    assert holds(Dispatch(), lines, demonstration) == [
        [], ["balance", "ramps"], ["bounds", "ramps"], None, ["balance"], ["form: keys", "form: decimals"]
    ]  # fmt: skip


def test_a_knapsack_knows_its_room_and_conflicts():
    problem = "room 14\na 5 for 9\nb 7 for 12\nc 4 for 3\na not b"
    demonstration = Demonstration(problem_id="p", problem=problem, actions=('{"take":["b","c"]}',), answer="15")
    lines = ["b, left 7", "a, left 2", "c, left 9", "c, left 0"]
    assert holds(Knapsack(), lines, demonstration) == [[], ["conflicts"], ["room"], None]


def test_a_task_without_checks_says_so():
    assert check_of(object()) is None
    with pytest.raises(ValueError, match="no line of object can be checked"):
        StepsHold(task=object())


def test_feedback_never_holds_the_expert_s_value():
    """What is said of a mistake names the claim. It is no hint at what would hold."""
    for task in TASKS:
        demonstration = replace(task.demonstration("test", 1))
        wrong = [line[:-1] + ("1" if line[-1] != "1" else "2") for line in demonstration.actions]
        for some, line in zip(check_of(task)(wrong, demonstration), demonstration.actions, strict=True):
            assert all(line.rpartition("=")[2].rpartition(" is ")[2] not in one.feedback for one in some)
