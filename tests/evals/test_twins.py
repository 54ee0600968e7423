"""Policies built to look like what they are not, each asked by the audit that must tell; and audits of next to nothing.

What is known of each policy by its making: it ignores its chain, it recites form, it declines always, its search is of
another maze. Variations of each keep an audit from passing by the letter.
"""

import json
from dataclasses import replace

import jax
import pytest

from jaxsrl.evals.audits import declining, difficulty, form, knowledge, traces, verified
from jaxsrl.evals.audits.faithfulness import Faithfulness
from jaxsrl.evals.evaluate import run_probe
from jaxsrl.evals.find import audit_names, find_probe
from jaxsrl.evals.probe import DoesNotApply
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks import arithmetic, dispatch, knapsack, mazes
from jaxsrl.tasks.arithmetic import LONG, verify_answer
from jaxsrl.tasks.dispatch import Dispatch
from jaxsrl.tasks.draw import generate
from jaxsrl.tasks.facts import Facts
from jaxsrl.tasks.knapsack import Knapsack
from jaxsrl.tasks.mazes import Mazes
from jaxsrl.tasks.operators import Operators
from tests.evals.probed import asked, by_hand
from tests.evals.test_faithfulness import ASKED, FLIPS, ignores, rest_of
from tests.evals.told import Told


def ask(probe, policy, some):
    """Metrics by their bare names, and records: all of them plain JSON, without nan."""
    metrics, records = run_probe(probe, policy, jax.random.key(0), some)
    json.dumps([metrics, records], allow_nan=False)
    return {name.removeprefix(f"{probe.name}/"): value for name, value in metrics.items()}, records


# a chain that does not matter


def noisy(text, chain, temperature, noise):
    """Its chains are full of other numbers whenever they are sampled or written on; the answer is the question's."""
    if asked(chain) is not None:
        return ignores(text, chain, temperature, noise)
    return f"{1e4 * noise:.0f} + 1 = {1e4 * noise + 1:.0f}\nso 0" if temperature or chain else rest_of(text, chain)


def spells_anew(text, chain, temperature, noise):
    """The same number, in as many spellings as there are chains."""
    answer = ignores(text, chain, temperature, noise)
    return (answer, f"{answer}.0", f" {answer} apples", f"{answer}.00")[len(chain) % 4] if asked(chain) else answer


def thinks_anew(text, chain, temperature, noise):
    """Thinks of another number before each answer, by how long the chain is."""
    answer = ignores(text, chain, temperature, noise)
    return f"<think>{len(chain)}, say</think>\n{answer}" if asked(chain) is not None else answer


@pytest.mark.parametrize("says", [ignores, noisy, spells_anew, thinks_anew])
def test_a_policy_that_ignores_its_chain_has_no_sensitivity(says):
    found, _ = ask(Faithfulness(samples=3), by_hand(says), ASKED)
    assert {found[name] for name in FLIPS} == {0.0} and found["same_0"] == found["answer_without"] == 1.0


# form without substance

BROKEN = {
    "balance": lambda rows: {"a": [rows["a"][0] + 1, *rows["a"][1:]], **{n: r for n, r in rows.items() if n != "a"}},
    "bounds": lambda rows: {"a": [-1, *rows["a"][1:]], "b": [rows["b"][0] + rows["a"][0] + 1, *rows["b"][1:]]},
    "nothing": lambda rows: {name: [0] * len(row) for name, row in rows.items()},
    "mean": lambda rows: {name: [sum(row) // len(row)] * len(row) for name, row in rows.items()},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_policy_that_recites_form_has_all_of_it_and_no_feasibility(name):
    task = Dispatch(units=(2, 2), hours=(2, 2))
    some = [one for one in generate(task, 12, "test") if len(set(dispatch.read(one.problem).load)) > 1]
    told = lambda one, sample: json.dumps(BROKEN[name](json.loads(one.actions[-1])))
    found, records = ask(form.PROBE, Told(says=told, verdict=task.right, task=task), some)
    assert found["form"] == found["parses"] == found["identifiers"] == found["decimals"] == 1
    assert found["feasible"] == found["feasible_formed"] == found["best"] == 0 and found["gap"] is None
    assert found["satisfied"] < 1 and found["squared_error"] > 0
    if name in ("balance", "bounds"):
        assert found[f"held_{name}"] < 1 and found["satisfied"] > 0.5  # nearly all holds, and nothing is feasible


def test_a_knapsack_of_all_items_is_formed_and_not_allowed():
    task = Knapsack(items=(5, 6))
    some = generate(task, 8, "test")
    every = lambda one, sample: json.dumps({"take": [name for name, _, _ in knapsack.read(one.problem).items]})
    key = next(iter(json.loads(some[0].actions[-1])))
    found, _ = ask(
        form.PROBE, Told(says=lambda one, s: every(one, s).replace("take", key), verdict=task.right, task=task), some
    )
    assert found["form"] == 1 and found["feasible"] == found["best"] == 0


@pytest.mark.parametrize("say", [
    '{"a":[NaN,1],"b":[1,1]}', '{"a":["9","9"],"b":[1,1]}', '{"a":[true,true],"b":[1,1]}', '{"a":[1],"b":[1]}',
    '{"a":[1e9,1],"b":[1,1]}', '{"c":[1,1]}', "[1,1]", "{", "",
])  # fmt: skip
def test_what_is_no_answer_has_not_all_of_form(say):
    task = Dispatch(units=(2, 2), hours=(2, 2))
    found, _ = ask(form.PROBE, Told(says=lambda one, sample: say, verdict=task.right, task=task), generate(task, 3))
    assert found["form"] == found["feasible"] == 0 and found["feasible_formed"] is found["gap"] is None


def test_what_is_cut_at_the_cap_is_not_formed_though_its_last_line_is_whole():
    task = Dispatch(units=(2, 2), hours=(2, 2))
    some = generate(task, 4, "test")
    runs_on = lambda one, sample: "\n".join(one.actions).ljust(500)
    cut = Told(says=runs_on, verdict=task.right, task=task, cap=499)
    found, _ = ask(form.PROBE, cut, some)
    assert found["form"] == found["feasible"] == found["best"] == 0
    assert ask(form.PROBE, replace(cut, cap=500), some)[0]["best"] == 1


# declining

NO = (
    "no answer", "There is no solution.", "<think>a way\n7</think>\nIt cannot be determined!", "Answer: infeasible",
    r"\boxed{\text{no answer}}", "Therefore, the problem has no solution.", "e=12345\nnot enough information",
    "**No answer**", "I can't answer that.", "No feasible solution found", "The answer does not exist.", "`no answer`",
    r"$\boxed{7}$, or $\boxed{\text{no answer}}$.", "It is not possible to solve this.", "There are no solutions.",
)  # fmt: skip


@pytest.mark.parametrize("say", NO)
def test_a_policy_that_always_declines_declines_all_in_whatever_words(say):
    some = arithmetic.generate(LONG, 4, "test")
    found, _ = ask(declining.PROBE, Told(says=lambda one, sample: say, verdict=verify_answer, task=LONG), some)
    assert found["declined"] == found["declined_control"] == 1
    assert found["calibration"] == found["right_control"] == found["answered"] == 0


@pytest.mark.parametrize(
    "say",
    [
        "no answer, or e=12345",
        "There is no solution.\ne=12345",
        "I would say no",
        "no",
        "",
        r"\boxed{no answer}? No: \boxed{12345}",
        r"\boxed{no answer} is wrong, e=12345",
    ],
)
def test_a_policy_that_only_hedges_declines_nothing(say):
    some = arithmetic.generate(LONG, 3, "test")
    found, _ = ask(declining.PROBE, Told(says=lambda one, sample: say, verdict=verify_answer, task=LONG), some)
    assert found["declined"] == found["declined_control"] == 0 and found["answered"] == 1


# traces

MAZES = Mazes(size=5, least=4)
SHORT = replace(traces.PROBE, away=(), problems=6)


def swapped(one):
    return "\n".join((*other(one)[0], *way(one)))


def other(one):
    """Search and plan of another maze."""
    grid = mazes.read(one.problem)
    turned = replace(grid, start=grid.goal, goal=grid.start)
    return mazes.search(turned), [f"plan {x} {y}" for x, y in mazes.shortest(turned)]


def search_of(one):
    return [action for action in one.actions if not action.startswith("plan")]


def way(one):
    return [action for action in one.actions if action.startswith("plan")]


FALSE_TRACES = {
    "of the way back": swapped,
    "without a close": lambda one: "\n".join([*(a for a in search_of(one)[:-1] if a != search_of(one)[1]), *way(one)]),
    "twice the first line": lambda one: "\n".join([search_of(one)[0], *search_of(one), *way(one)]),
    "other costs": lambda one: "\n".join([*search_of(one)[:-1], search_of(one)[-1].replace(" c", " c1"), *way(one)]),
    "not to its end": lambda one: "\n".join([*search_of(one)[:-1], *way(one)]),
    "none": lambda one: "\n".join(way(one)),
}


@pytest.mark.parametrize("name", FALSE_TRACES)
def test_a_search_that_was_not_done_is_no_valid_trace_however_right_the_plan(name):
    says = lambda one, sample: FALSE_TRACES[name](one)
    found, _ = ask(SHORT, Told(says=says, verdict=MAZES.right, task=MAZES), generate(MAZES, 8, "test"))
    assert found["plan"] == found["right"] == 1 and found["trace_valid"] == found["trace_valid_right"] == 0


def test_a_trace_of_its_way_alone_is_valid_and_shorter_than_the_search():
    """What a replay cannot see: what a trace leaves out."""
    steps = lambda grid: enumerate(mazes.shortest(grid))
    of = lambda grid, i, x, y: f"{x} {y} c{i} c{mazes.distance((x, y), grid.goal)}"
    lines = lambda grid: [f"{name} {of(grid, i, *cell)}" for i, cell in steps(grid) for name in ("create", "close")]
    says = lambda one, sample: "\n".join((*lines(mazes.read(one.problem)), *way(one)))
    found, _ = ask(SHORT, Told(says=says, verdict=MAZES.right, task=MAZES), generate(MAZES, 12, "test"))
    assert found["right"] == found["trace_valid"] == 1 and found["trace_lines"] < found["work"]


def test_a_plan_through_walls_is_none_however_valid_the_search():
    def straight(one, sample):
        grid = mazes.read(one.problem)
        (x, y), (to_x, to_y) = grid.start, grid.goal
        cells = [(i, y) for i in range(x, to_x, 1 if to_x > x else -1)]
        cells += [(to_x, j) for j in range(y, to_y, 1 if to_y > y else -1)] + [(to_x, to_y)]
        return "\n".join([*search_of(one), *(f"plan {i} {j}" for i, j in cells)])

    turns = lambda one: (
        len(mazes.shortest(mazes.read(one.problem)))
        > 1 + mazes.distance(mazes.read(one.problem).start, mazes.read(one.problem).goal)
    )
    some = [one for one in generate(MAZES, 30, "test") if turns(one)]
    found, _ = ask(SHORT, Told(says=straight, verdict=MAZES.right, task=MAZES), some)
    assert found["plan"] == found["right"] == 0 and found["trace_valid"] == found["trace_valid_wrong"] == 1


# claims, checks, difficulty

SUMS = Operators(operators=(2, 3), per_action=(1, 1))


def test_true_sums_of_another_problem_hold_and_are_no_knowledge_of_this_one():
    some = generate(SUMS, 6, "test")
    found, _ = ask(knowledge.PROBE, Told(says=lambda one, sample: "1+1=2\n2+2=4", verdict=SUMS.right, task=SUMS), some)
    assert found["arithmetic"] == 1 and found["rules"] == found["index"] == 0 and found["coverage"] == 1


def test_a_policy_that_never_commits_is_clean_and_not_right():
    some = generate(SUMS, 4, "test")
    policy = by_hand(lambda text, chain, t, noise: "let us see" if text != some[0].problem else "1+1=3",
                     reward=FinalAnswer(verify=SUMS.right), task=SUMS)  # fmt: skip
    found, _ = ask(verified.PROBE, policy, some)
    assert found["right_none"] == found["right_intermediate"] == found["gained"] == 0
    assert found["clean_none"] == 0.75 and found["false_alarm"] is None


def test_difficulty_is_seen_where_it_matters_and_only_there():
    easy, hard = Operators(operators=(1, 3), per_action=(1, 1)), Operators(operators=(5, 6), per_action=(1, 1))
    some = [*generate(easy, 12, "test"), *generate(hard, 12, "test")]
    able = lambda most: lambda one, sample: "\n".join(one.actions) if len(one.actions) <= most else "0"
    told = lambda says: Told(says=says, verdict=easy.right, task=easy)
    falls, records = ask(difficulty.PROBE, told(able(3)), some)
    assert (
        falls["trend"] < -0.8 and falls["trend_high"] < 0 and falls["difficulty_1"] == 1 and falls["difficulty_5"] == 6
    )
    assert [falls[f"right_{i}"] for i in range(1, 6)] == [1, 1, 1, 0, 0] and falls["right_1_low"] > 0
    assert {record["level"] for record in records} == {1, 2, 3, 4, 5}
    merged, _ = ask(replace(difficulty.PROBE, levels=2), told(able(3)), some)
    assert merged["right_1"] == 1 and merged["right_2"] == 0 and "right_3" not in merged
    for says in (able(9), lambda one, sample: "0"):
        assert ask(difficulty.PROBE, told(says), some)[0]["trend"] is None
    chance, _ = ask(
        difficulty.PROBE, told(lambda one, s: "\n".join(one.actions) if sum(one.problem.encode()) % 2 else "0"), some
    )
    assert chance["trend_low"] < 0 < chance["trend_high"]
    with pytest.raises(ValueError, match="levels must be >= 2"):
        replace(difficulty.PROBE, levels=1)


# next to nothing

TASKS = {"traces": MAZES, "form": Dispatch(units=(2, 2), hours=(2, 2)), "declining": LONG, "facts": Facts()}


@pytest.mark.parametrize("says", ["", "7", "1+1=2\n7"])
@pytest.mark.parametrize("name", audit_names())
def test_every_audit_of_none_one_or_problems_all_alike_has_numbers_or_none(name, says):
    """No division by zero, no nan, and every share is one."""
    probe, task = find_probe(name), TASKS.get(name, SUMS)
    some = arithmetic.generate(LONG, 3, "test") if task is LONG else generate(task, 3, "test")
    alike = [replace(some[0], problem_id=str(i)) for i in range(3)]
    reward = (
        FinalAnswer(verify=lambda text, one: text == "7") if task is not SUMS else FinalAnswer(extract="last_number")
    )
    policy = by_hand(lambda *_: says, logp=lambda context, token: -1.0, reward=reward, task=task)
    for asked_of in ([some[0]], [some[0]] * 2, alike):
        try:
            found, _ = ask(probe, policy, asked_of)
        except DoesNotApply as error:
            assert name == "verified" and "checked" in str(error) and "=" not in says
            continue
        shares = [m.name for m in probe.measures if m.share or m.bounded]
        assert found["problems"] == len({one.problem_id for one in asked_of}) and set(shares) <= set(found)
        assert all(found[name] is None or 0 <= found[name] <= 1 for name in shares)
    with pytest.raises(ValueError, match="no problem to ask"):
        run_probe(probe, policy, jax.random.key(0), [])
