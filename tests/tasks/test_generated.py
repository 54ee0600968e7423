"""What every task promises: its expert is right, splits share nothing, and a problem is a function of its address."""

from dataclasses import replace
from itertools import pairwise

import pytest

from jaxsrl.config.generated import Generated
from jaxsrl.tasks.dispatch import Dispatch
from jaxsrl.tasks.draw import SPLITS, generate, split_of
from jaxsrl.tasks.facts import Facts
from jaxsrl.tasks.grids import FAMILIES
from jaxsrl.tasks.knapsack import Knapsack
from jaxsrl.tasks.mazes import Mazes
from jaxsrl.tasks.operators import LONG, SHORT, Operators

TASKS = {
    "operators": Operators(operators=(2, 9)), "facts": Facts(), "facts kept": Facts(half="kept", hops=(2, 5)),
    **{name: Mazes(family=name) for name in FAMILIES}, "swapped": Mazes(trace="swapped"), "plan": Mazes(trace="none"),
    "dispatch": Dispatch(), "outage": Dispatch(outage=64), "knapsack": Knapsack(), "item gone": Knapsack(outage=64),
}  # fmt: skip
COUNT = {name: 20 if name in ("dispatch", "outage", "knapsack", "item gone") else 200 for name in TASKS}
every_task = pytest.mark.parametrize("name", TASKS)


@pytest.fixture(scope="module")
def made():
    return {name: {s: generate(task, COUNT[name], s) for s in SPLITS} for name, task in TASKS.items()}


@every_task
def test_the_expert_is_right_and_ends_with_its_last_action(made, name):
    for demonstration in (d for some in made[name].values() for d in some):
        assert TASKS[name].right("\n".join(demonstration.actions), demonstration)
        assert not TASKS[name].right("", demonstration)
        ends = [TASKS[name].finished(action, demonstration) for action in demonstration.actions]
        assert ends == [False] * (len(ends) - 1) + [True]


@every_task
def test_splits_share_no_problem(made, name):
    for split, some in made[name].items():
        assert {split_of(d.problem) for d in some} == {split}
        assert all((a.problem == b.problem) == (a.problem_id == b.problem_id) for a, b in pairwise(some))


@every_task
def test_a_problem_is_a_function_of_settings_split_and_index(made, name):
    task, some = TASKS[name], made[name]["train"]
    assert generate(task, 3, "train", first=4) == some[4:7]
    assert generate(replace(task, seed=1), 9)[0].problem != some[0].problem
    assert len({d.problem for d in some}) > 0.3 * len(some)


@every_task
def test_problems_differ_in_difficulty_by_their_settings(made, name):
    assert all(TASKS[name].difficulty(d) >= 1 for d in made[name]["test"])


def test_more_of_a_setting_is_harder():
    mean = lambda task: sum(map(task.difficulty, generate(task, 30))) / 30
    for easy, hard in (
        (SHORT, LONG), (Facts(hops=(1, 1)), Facts(hops=(3, 3))), (Mazes(size=5), Mazes(size=9)),
        (Dispatch(units=(2, 2)), Dispatch(units=(4, 4))), (Knapsack(items=(4, 4)), Knapsack(items=(8, 8))),
    ):  # fmt: skip
        assert mean(easy) < mean(hard)


@pytest.mark.parametrize(
    "task, settings, message",
    [
        (Operators, {"operators": (3, 2)}, r"operators must be 1 <= fewest <= most, got \(3, 2\)"),
        (Operators, {"per_action": ()}, r"per_action must hold numbers >= 1, got \(\)"),
        (Mazes, {"size": 6}, "size must be odd and >= 3, got 6"),
        (Mazes, {"family": "prim"}, "family must be one of wilson, .*, got 'prim'"),
        (Mazes, {"trace": "wrong"}, "trace must be one of correct, swapped, none"),
        (Facts, {"hops": (2, 6)}, r"hops must be 1 <= fewest <= most <= 5, got \(2, 6\)"),
        (Facts, {"half": "other"}, "half must be one of all, taught, kept"),
        (Dispatch, {"units": (1, 3)}, r"units must be 2 <= fewest <= most <= 8, got \(1, 3\)"),
        (Knapsack, {"conflicts": 2.0}, "conflicts must be in 0..1, got 2.0"),
    ],
)
def test_settings_out_of_range_are_named(task, settings, message):
    with pytest.raises(ValueError, match=message):
        task(**settings)


def test_a_split_that_there_is_none_of():
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
        generate(SHORT, 1, "dev")


def test_as_a_stages_data():
    data = Generated(task=SHORT, held_out=LONG, train=4, validation=2, test=3, shuffle_experts=True)
    loaded = data.load(None)
    assert [len(part) for part in (loaded.train, loaded.validation, loaded.test)] == [4, 2, 3]
    honest = replace(data, shuffle_experts=False).load(None)
    assert [d.actions for d in loaded.train] == [honest.train[i].actions for i in (1, 2, 3, 0)]
    assert [d.problem for d in loaded.train] == [d.problem for d in honest.train]
    assert len(loaded.test[0].actions) > len(honest.train[0].actions)
    assert loaded.first_action("\n 1+1=2 \n3") == "1+1=2"
