"""Optimisation under constraints: answers that look right, are allowed, or are best, told apart."""

import json
from itertools import combinations, product

import numpy as np
import pytest

from jaxsrl.tasks import dispatch, knapsack
from jaxsrl.tasks.dispatch import Dispatch
from jaxsrl.tasks.draw import generate
from jaxsrl.tasks.knapsack import Knapsack
from jaxsrl.tasks.optimum import answer_of, minimise
from jaxsrl.types import Demonstration

POWER = dispatch.read("load 20 24\na 0..20 at 3 ramp 2\nb 0..20 at 5 ramp 20")
BEST = np.array([[20, 20], [0, 4]])
WHOLE = json.dumps({"a": [20, 20], "b": [0, 4]})


def told(answer):
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return dispatch.judged(POWER, answer_of(text), dispatch.cost_of(POWER, BEST), BEST)


def test_an_optimum_by_hand():
    assert np.array_equal(dispatch.solve(POWER), BEST)
    assert dispatch.read(dispatch.spell(POWER)) == POWER
    found = told("a line before\n" + WHOLE)
    assert found.best and found.dense == 1 and found.gap == found.squared_error == 0


@pytest.mark.parametrize(
    "answer, form, families, feasible",
    [
        ("no answer", (0, 0, 0, 0), None, False),
        ('{"a":[20,20],"b":[0,4]', (0, 0, 0, 0), None, False),
        ({"a": [20, 20]}, (1, 0, 1, 1), None, False),
        ({"a": [20, 20], "b": [0]}, (1, 0, 1, 1), None, False),
        ({"a": [20, 20], "b": [0, 4.5]}, (1, 1, 1, 0), None, False),
        ({"a": [20, 20], "b": [0, 4], "c": [0, 0]}, (1, 1, 0, 1), (1, 1, 1), False),  # a unit that there is none of
        ({"a": [20, 24], "b": [0, 0]}, (1, 1, 1, 1), (3 / 4, 1, 1 / 2), False),
        ({"a": [20, 20], "b": [0, 0]}, (1, 1, 1, 1), (1, 1 / 2, 1), False),
        ({"a": [0, 0], "b": [20, 24]}, (1, 1, 1, 1), (3 / 4, 1, 1), False),
        ({"a": [18, 20], "b": [2, 4]}, (1, 1, 1, 1), (1, 1, 1), True),  # allowed, and dearer
    ],
)
def test_axes_are_apart(answer, form, families, feasible):
    found = told(answer)
    assert tuple(found.form.values()) == form and found.feasible == feasible and not found.best
    assert found.families == (
        {} if families is None else dict(zip(("bounds", "balance", "ramps"), families, strict=True))
    )
    assert (found.gap is not None) == feasible
    assert found.dense == (-1 if not form[0] else 0 if families is None else pytest.approx(np.mean(families)))


def test_a_gap_is_relative_to_the_optimum():
    assert told({"a": [18, 20], "b": [2, 4]}).gap == pytest.approx(4 / 140)
    assert told({"a": [18, 20], "b": [2, 4]}).squared_error == pytest.approx(2)


@pytest.mark.parametrize(
    "text", ["[1]", '{"a":NaN}', '{"a":' + "[" * 3000 + "]" * 900, '{"a":[' + "9" * 4000 + "]}", "{" * 9999]
)
def test_hostile_answers_are_read_in_no_time(text):
    assert not told(text).feasible


def test_dispatch_agrees_with_trying_everything():
    problem = dispatch.read("load 9 14\na 1..8 at 4 ramp 3\nb 0..9 at 6 ramp 9")
    costs = {}
    for made in product(range(10), repeat=4):
        made = np.array(made).reshape(2, 2)
        answer = {"a": made[0].tolist(), "b": made[1].tolist()}
        if (made.sum(0) == problem.load).all() and dispatch.judged(problem, answer, 1, made).feasible:
            costs[tuple(made.ravel())] = dispatch.cost_of(problem, made)
    assert costs[tuple(dispatch.solve(problem).ravel())] == min(costs.values()) < max(costs.values())
    assert dispatch.solve(dispatch.read("load 9 30\na 0..20 at 3 ramp 2\nb 0..9 at 5 ramp 20")) is None


def test_knapsack_agrees_with_trying_everything():
    for d in generate(Knapsack(items=(6, 6)), 10):
        problem = knapsack.read(d.problem)
        names = [name for name, _, _ in problem.items]
        some = [set(c) for k in range(7) for c in combinations(names, k)]
        allowed = [s for s in some if knapsack.judged(problem, {"take": sorted(s)}, []).feasible]
        assert int(d.answer) == max(knapsack.value_of(problem, s) for s in allowed)
        assert 1 < len(allowed) < len(some)


def test_what_is_wrong_with_a_knapsack():
    problem = knapsack.read("room 10\na 5 for 9\nb 5 for 8\nc 5 for 1\na not b")
    say = lambda answer: knapsack.judged(problem, answer, ["a", "c"])
    assert say({"take": ["a", "c"]}).best and say({"take": ["c", "a"]}).best
    assert say({"take": ["a", "b"]}).families == {"room": 1, "conflicts": 0}
    assert say({"take": ["a", "b", "c"]}).families == {"room": 0, "conflicts": 0}
    assert say({"take": ["b", "c"]}).gap == pytest.approx(1 / 10)
    for wrong in (
        {"take": "a"},
        {"take": [1]},
        {},
        None,
        {"take": ["a", "a"]},
        {"take": ["z"]},
        {"take": ["a"], "b": 1},
    ):
        assert not say(wrong).feasible


def test_n_minus_1_is_near_a_training_problem_and_solved_anew():
    for task in (Dispatch(), Knapsack()):
        train = {d.problem: d for d in generate(task, 64)}
        gone = generate(type(task)(outage=64), 8, "test")
        for d in gone:
            mine = set(d.problem.split("\n"))
            of = [text for text in train if mine < set(text.split("\n"))]
            assert of  # a training problem with one element more
            assert task.right("\n".join(d.actions), d)
        old = [task.right("\n".join(train[text].actions), d) for d in gone for text in train
               if set(d.problem.split("\n")) < set(text.split("\n"))]  # fmt: skip
        assert not any(old)  # what was learned by heart does not do


def test_one_that_always_takes_nothing_has_full_form_and_no_feasibility():
    """The form is perfect and two of three families hold: only the joint test tells."""
    d = generate(Dispatch(), 1)[0]
    problem = dispatch.read(d.problem)
    least = {u.name: [u.least] * len(problem.load) for u in problem.units}
    found = Dispatch().judge(json.dumps(least), d)
    assert all(found.form.values()) and not found.feasible and found.dense >= 2 / 3 and found.gap is None
    assert isinstance(d, Demonstration)


def test_a_solver_that_finds_nothing_says_so():
    assert minimise([1], [[1]], [3], [3], (np.zeros(1), np.full(1, 2))) is None
