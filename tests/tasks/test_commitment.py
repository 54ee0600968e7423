"""Unit commitment: the solver's answer against trying everything, and what each family of constraints refuses."""

import gzip
import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from jaxsrl.config.generated import UnitCommitment
from jaxsrl.tasks.commitment import Commitment, cost_of, judged, read, read_case, right, solve, spell
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


def test_the_solver_agrees_with_trying_everything():
    costs = {}
    for a in product(range(7), repeat=3):
        b = [load - x for load, x in zip(PROBLEM.load, a, strict=True)]
        if min(b) >= 0 and held(a, b).feasible:
            costs[(a, tuple(b))] = cost_of(PROBLEM, np.array([a, b]))
    best = solve(PROBLEM)
    assert min(costs.values()) == cost_of(PROBLEM, best) < max(costs.values()) and len(costs) > 3
    assert costs[tuple(map(tuple, best.tolist()))] == min(costs.values())
    assert solve(replace(PROBLEM, load=(4, 30, 3))) is None


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


def test_what_is_no_case_is_named(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"demand": [1]}')
    with pytest.raises(ValueError, match="other.json is no case of unit commitment: KeyError"):
        read_case(path)
    with pytest.raises(ValueError, match="cases must hold a system"):
        Commitment(cases=())
