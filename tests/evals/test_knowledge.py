"""Knowledge index, form against substance, guesses: by hand, and against policies built to fool them."""

import json

import pytest

from jaxsrl.evals.audits import form, knowledge, output_space
from jaxsrl.evals.audits.knowledge import index, said_in_steps
from jaxsrl.evals.find import audit_names, find_probe
from jaxsrl.evals.probe import DoesNotApply
from jaxsrl.tasks import dispatch
from jaxsrl.tasks.checks import check_of
from jaxsrl.tasks.dispatch import Dispatch
from jaxsrl.tasks.draw import generate
from jaxsrl.tasks.facts import Facts
from jaxsrl.types import Demonstration

from .told import Told

SUM = Demonstration(problem_id="a", problem="sum", actions=("7",), answer="7")


@pytest.mark.parametrize("name", audit_names())
def test_audits_are_found_and_say_what_they_measure(name):
    found = find_probe(name)
    assert found.name == name and len({m.name for m in found.measures}) == len(found.measures)
    assert all(len(m.meaning) > 10 for m in found.measures) and type(found).__doc__.count("\n") > 3


def test_the_index_by_hand():
    steps = said_in_steps("3 + 4 = 7\nso far so good\n2 * 5 = 11\n1 + 1 = 2, 2 + 2 = 4", SUM)
    assert index(steps) == {
        "index": 2 / 3, "coverage": 3 / 4, "index_all_steps": 3 / 4, "arithmetic": 3 / 4, "rules": None, "steps": 4
    }  # fmt: skip
    assert index([[]])["index"] is None and index([[]])["index_all_steps"] == 1 and index([])["coverage"] is None
    assert said_in_steps("<think>3 + 4 = 7</think>8 + 1 = 9", SUM) == [
        [("arithmetic", "3 + 4 = 7", True)], [("arithmetic", "8 + 1 = 9", True)]
    ]  # fmt: skip


def test_who_claims_nothing_has_no_index_and_full_marks_of_the_code():
    """Steps without a claim are the trap: counted as true, emptiness is perfect knowledge."""
    empty = Told(says=lambda one, sample: "hm\nwell\n7", verdict=lambda text, one: True)
    found, _ = knowledge.PROBE(empty, [SUM], None)
    assert found["index"] is None and found["coverage"] == 0 and found["index_all_steps"] == 1


def test_a_right_answer_after_false_facts_has_no_knowledge():
    task = Facts(entities=8)
    some = generate(task, 6, "test")
    names = sorted({line.rpartition(" ")[2] for one in some for line in one.actions})

    def lies(one, sample):
        lines = [f"{line.rpartition(' ')[0]} {next(n for n in names if n not in line)}" for line in one.actions]
        return "\n".join([*lines, f"it is {one.answer}"])

    policy = Told(says=lies, verdict=task.right, task=task)
    found, records = knowledge.PROBE(policy, some, None)
    assert found["right"] == 1 and found["index"] == found["rules"] == 0 and found["right_without"] == 1
    assert records[0]["false"][0][0] == "fact"
    told = Told(says=lambda one, sample: "\n".join(one.actions), verdict=task.right, task=task)
    assert knowledge.PROBE(told, some, None)[0]["index"] == 1
    assert check_of(task) is not None


TASK = Dispatch(units=(2, 2), hours=(2, 2))
LOADS = generate(TASK, 8, "test")


def recited(one, sample):
    """The form of an answer: every unit at its least."""
    problem = dispatch.read(one.problem)
    return json.dumps({u.name: [u.least] * len(problem.load) for u in problem.units})


def test_who_recites_form_has_form_and_no_feasibility():
    found, records = form.PROBE(Told(says=recited, verdict=TASK.right, task=TASK), LOADS, None)
    assert found["form"] == found["parses"] == 1 and found["feasible"] == found["best"] == 0
    assert found["held_bounds"] == found["held_ramps"] == 1 and 0.5 < found["satisfied"] < 0.9
    assert found["gap"] is None and found["squared_error"] > 0 and found["held_room"] is None
    assert len(records) == 8 and records[0]["values"]["feasible_formed"] == 0


def test_the_expert_has_both_and_silence_has_neither():
    expert = Told(says=lambda one, sample: one.actions[-1], verdict=TASK.right, task=TASK)
    found, _ = form.PROBE(expert, LOADS, None)
    assert found["best"] == found["satisfied"] == 1 and found["gap"] == found["squared_error"] == 0
    silent, _ = form.PROBE(Told(says=lambda one, sample: "", verdict=TASK.right, task=TASK), LOADS, None)
    assert silent["form"] == silent["satisfied"] == 0 and silent["feasible_formed"] is None
    with pytest.raises(DoesNotApply, match="dispatch"):
        form.PROBE(Told(says=None, verdict=None), LOADS, None)


def test_guesses_by_hand():
    keys = ("a", "a", "b")
    some = [Demonstration(problem_id=str(i), problem=str(i), actions=(k,), answer=k) for i, k in enumerate(keys)]
    policy = Told(says=lambda one, sample: "a", verdict=lambda text, one: text == one.answer)
    found, records = output_space.PROBE(policy, some, None)
    assert found["guess"] == pytest.approx(1 / 2) and found["guess_prior"] == pytest.approx(5 / 9)
    assert found["right"] == found["guess_majority"] == pytest.approx(2 / 3) and found["above_guess"] == 0
    assert records[0]["best_guess"] == "guess_majority"
