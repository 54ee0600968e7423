"""Unit commitment: the solver's answer against trying everything, and what each family of constraints refuses."""

import gzip
import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from jaxsrl.config.generated import UnitCommitment
from jaxsrl.tasks.commitment import (
    Commitment,
    Problem,
    Unit,
    cost_of,
    judged,
    read,
    read_case,
    right,
    solve,
    spell,
    whole_problem,
)
from jaxsrl.tasks.draw import generate, split_of

PROBLEM = read(
    "load 4 9 3\nreserve 1 1 1\n"
    "a 2..6 ramp 3 start 3 up 2 down 2 cost 10 then 4 begin 20 was 3\n"
    "b 1..9 ramp 9 start 6 up 1 down 1 cost 9 then 7 begin 5 was 0"
)


def unit(low, high, up=2):
    return {
        "must_run": 0, "power_output_minimum": low, "power_output_maximum": high, "ramp_up_limit": high,
        "ramp_down_limit": high, "ramp_startup_limit": low + 1, "ramp_shutdown_limit": low + 1, "time_up_minimum": up,
        "time_down_minimum": 1, "startup": [{"lag": 1, "cost": 50.4}],
        "piecewise_production": [{"mw": low, "cost": 100.2}, {"mw": high, "cost": 100.2 + 20 * (high - low)}],
    }  # fmt: skip


@pytest.fixture
def case_file(tmp_path):
    case = {
        "time_periods": 8, "demand": [50.0, 60, 70, 80, 90, 100, 80, 60], "reserves": [2.0] * 8,
        "thermal_generators": {f"u{i}": unit(5.0 + i, 30.0 + 5 * i) for i in range(6)},
    }  # fmt: skip
    path = tmp_path / "case.json.gz"
    path.write_bytes(gzip.compress(json.dumps(case).encode()))
    return path


def held(*rows):
    return judged(PROBLEM, dict(zip("ab", map(list, rows), strict=True)), solve(PROBLEM))


OWES = PROBLEM.units[0][1]
FREE = Unit(least=2, most=6, ramp=1, start=2, up=1, down=1, cost=10, then=1, begin=20, was=2)
DEAR = Unit(least=1, most=9, ramp=9, start=9, up=1, down=1, cost=9, then=7, begin=5)
SLOW = Problem(load=(2, 6, 6), reserve=(0,) * 3, units=(("a", FREE), ("b", DEAR)))


@pytest.mark.parametrize("problem", [
    PROBLEM,
    replace(PROBLEM, free=(2, 0, 3)),
    replace(PROBLEM, load=(7, 2, 2, 8), reserve=(0,) * 4, units=(("a", replace(OWES, down=3)), PROBLEM.units[1])),
    replace(PROBLEM, load=(2, 8, 3, 2), reserve=(0,) * 4, units=(("a", replace(OWES, was=0, up=9)), PROBLEM.units[1])),
    SLOW,
    replace(SLOW, load=(6, 6, 2, 6), reserve=(0,) * 4, units=(("a", replace(FREE, ramp=3, was=0)), SLOW.units[1])),
    replace(SLOW, load=(0, 4, 3, 0), reserve=(0,) * 4, units=(("a", replace(FREE, start=6, was=0)), SLOW.units[1])),
], ids=["whole", "free output", "off for three hours", "on to the end", "slow", "ends low", "begins high"])  # fmt: skip
def test_the_solver_agrees_with_trying_everything(problem):
    costs = {}
    for made in product(*[range(least, load + 1) for least, load in zip(problem.least, problem.load, strict=True)]):
        for a in product(*[range(min(x, 6) + 1) for x in made]):
            b = [x - y for x, y in zip(made, a, strict=True)]
            answer = {"a": list(a), "b": b}
            if judged(problem, answer, np.array([a, b])).feasible:
                costs[(a, tuple(b))] = cost_of(problem, np.array([a, b]))
    best = solve(problem)
    assert min(costs.values()) == cost_of(problem, best) < max(costs.values()) and len(costs) > 3
    assert costs[tuple(map(tuple, best.tolist()))] == min(costs.values())
    assert problem.free or solve(replace(problem, load=(4, 30, *problem.load[2:]))) is None
    assert read(spell(problem)) == problem


def test_its_relaxation_knows_what_a_start_allows(monkeypatch):
    """Where ramps do not read starts the bound is 58.9, of 77."""
    bounds = []

    def relaxed(cost, matrix, low, high, bounds_of, gap):
        found = milp(cost, constraints=LinearConstraint(matrix, low, high), bounds=Bounds(*bounds_of))
        bounds.append(found.fun)

    assert cost_of(SLOW, solve(SLOW)) == 77
    monkeypatch.setattr("jaxsrl.tasks.commitment.minimise", relaxed)
    assert solve(SLOW) is None and bounds == [pytest.approx(66.8667, abs=1e-3)]


@pytest.mark.parametrize(
    "rows, broken",
    [
        (((1, 2, 2), (3, 7, 1)), "bounds"),  # a makes less than its least
        (((3, 3, 2), (1, 5, 1)), "balance"),
        (((4, 6, 3), (0, 3, 0)), None),
        (((3, 0, 0), (1, 9, 3)), "reserve"),  # b alone has nothing to spare
        (((2, 6, 2), (2, 3, 1)), "ramps"),  # four up in an hour
        (((0, 3, 2), (4, 6, 1)), "times"),  # off for one hour of two
    ],
)
def test_each_family_by_itself(rows, broken):
    found = held(*rows)
    assert [name for name, share in found.families.items() if share < 1] == ([broken] if broken else [])
    assert found.feasible == (broken is None)


def test_problems_are_cut_from_a_case(case_file, tmp_path):
    task = Commitment(cases=(read_case(case_file),), units=(2, 3), hours=(2, 3))
    some, away = generate(task, 6), generate(replace(task, outage=6), 2, "test")
    for d in some + away:
        assert read(spell(read(d.problem))) == read(d.problem)
        assert right("\n".join(d.actions), d) and task.finished(d.actions[-1], d) and not task.finished(d.actions[0], d)
    assert {split_of(d.problem) for d in away} == {"test"} and generate(task, 6) == some
    data = UnitCommitment(files=(str(case_file),), units=(2, 2), hours=(2, 2), train=2, validation=1, test=1)
    assert len(data.load(str(tmp_path)).train) == 2


def test_a_whole_system_is_a_problem(case_file):
    case = json.loads(gzip.decompress(case_file.read_bytes()))
    thermal = {n: g | {"power_output_t0": 7.4 if n == "u2" else 0.0} for n, g in case["thermal_generators"].items()}
    thermal["u0"] |= {"must_run": 1}  # 5 MW
    wind = {"power_output_minimum": [1.0] * 8, "power_output_maximum": [4.0] * 7 + [99.0]}
    more = {"thermal_generators": thermal, "renewable_generators": {"wind": wind, "sun": wind}}
    case_file.write_bytes(gzip.compress(json.dumps(case | more).encode()))
    found = whole_problem(case_file, 8)
    assert found.load == (43, 53, 63, 73, 83, 93, 73, 53) and found.free == (6,) * 7 + (53,)  # no more than the load
    assert [n for n, _ in found.units] == ["u1", "u2", "u3", "u4", "u5"] and found.units[1][1].was == 7
    assert whole_problem(case_file, 2) == replace(found, load=(43, 53), free=(6, 6), reserve=(2, 2))
    best = solve(found)
    assert judged(found, {n: row.tolist() for (n, _), row in zip(found.units, best, strict=True)}, best).best
    with pytest.raises(ValueError, match=r"case.json.gz has 8 hours, hours=9 must be 1 to 8"):
        whole_problem(case_file, 9)


def test_a_real_system_is_solved(data_dir):
    problem = whole_problem(data_dir / "unit_commitment" / "rts_gmlc_2020-07-06.json.gz", 3)
    best = solve(problem, gap=1e-2)
    found = judged(problem, {n: row.tolist() for (n, _), row in zip(problem.units, best, strict=True)}, best)
    assert len(problem.units) == 72 and found.feasible and sum(map(sum, best)) >= sum(problem.least)
    without = replace(problem, free=())  # all wind, sun and water is lost
    assert 1.1 * cost_of(problem, best) < cost_of(without, solve(without, gap=1e-2))


def test_what_is_no_case_is_named(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"demand": [1]}')
    with pytest.raises(ValueError, match="other.json is no case of unit commitment: KeyError"):
        read_case(path)
    with pytest.raises(ValueError, match="cases must hold a system"):
        Commitment(cases=())
