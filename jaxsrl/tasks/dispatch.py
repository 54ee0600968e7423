"""Economic dispatch: which unit makes how much of the power that each hour needs, at the least cost.

    load 90 120 110          a problem: megawatts needed in each hour
    a 10..60 at 7 ramp 30    a unit: least and most output, cost of a megawatt-hour, most change between two hours
    b 0..80 at 19 ramp 40
    1: a=60 b=30             an action: the outputs of an hour
    2: a=60 b=60
    3: a=60 b=50
    {"a":[60,60,60],"b":[30,60,50]}        the last action: the answer

Every unit is on in every hour, and outputs are whole numbers, so that the optimum is exact. Constraints are of three
families: bounds, balance and ramps. Source of the axes: arXiv:2603.23004; the problem is our choice.
"""

import json
import random
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from jaxsrl.tasks.draw import Split, below, first_of, problem_id, split_of, stream
from jaxsrl.tasks.optimum import Judgement, answer_of, judge, minimise, parsed
from jaxsrl.types import Demonstration

NAMES = "abcdefgh"


@dataclass(frozen=True, kw_only=True)
class Unit:
    name: str
    least: int
    most: int
    cost: int
    ramp: int


@dataclass(frozen=True, kw_only=True)
class Problem:
    load: tuple[int, ...]
    units: tuple[Unit, ...]


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """How large problems are.

    Args:
      units, hours: fewest and most. Inclusive.
      outage: N-1: one of the first so many training problems without one of its units, which can still be solved; 0
        draws whole problems. Held-out problems of this kind are near to what was trained on, and ask for another
        solution.
      seed: of the problems.
    """

    units: tuple[int, int] = (3, 4)
    hours: tuple[int, int] = (3, 4)
    outage: int = 0
    seed: int = 0

    def __post_init__(self):
        for name, most in (("units", len(NAMES)), ("hours", 24)):
            low, high = getattr(self, name)
            if not 2 <= low <= high <= most:
                raise ValueError(f"{name} must be 2 <= fewest <= most <= {most}, got {getattr(self, name)}")
        if self.seed < 0 or self.outage < 0:
            raise ValueError(f"seed and outage must be >= 0, got seed={self.seed} outage={self.outage}")

    def demonstration(self, split: Split, index: int) -> Demonstration:
        return _made(self, split, index)

    def right(self, text: str, demonstration: Demonstration) -> bool:
        """Every constraint holds and nothing is cheaper; the lines before the answer do not count."""
        return self.judge(text, demonstration).best

    def judge(self, text: str, demonstration: Demonstration) -> Judgement:
        problem = read(demonstration.problem)
        return judged(problem, answer_of(text), int(demonstration.answer), solve_again(demonstration))

    def finished(self, action: str, demonstration: Demonstration) -> bool:
        return action.strip().startswith("{")

    def difficulty(self, demonstration: Demonstration) -> float:
        """Outputs to find."""
        problem = read(demonstration.problem)
        return float(len(problem.units) * len(problem.load))


@lru_cache(4096)  # N-1 asks for the same training problems again, and solving takes its time
def _made(settings: Dispatch, split: Split, index: int) -> Demonstration:
    rng = stream(
        "dispatch", settings.seed, f"outage of {settings.outage}" if settings.outage else "whole", split, index
    )
    whole = replace(settings, outage=0)

    def draw() -> tuple[Problem, np.ndarray] | None:
        if settings.outage:
            trained = whole.demonstration("train", below(rng, settings.outage))
            found = _without(read(trained.problem), below(rng, len(NAMES)))
        else:
            found = _draw(settings, rng)
        best = solve(found) if split_of(spell(found)) == split else None
        return None if best is None else (found, best)

    found, best = first_of(draw, f"problem of {settings} in {split}")
    problem = spell(found)
    return Demonstration(
        problem_id=problem_id("dispatch", problem), problem=problem, actions=_actions(found, best),
        answer=str(cost_of(found, best)), source=f"dispatch:{settings.seed}/{split}/{index}",
    )  # fmt: skip


def _draw(settings: Dispatch, rng: random.Random) -> Problem:
    """A problem that may have no solution, where ramps are too small."""
    between = lambda low, high: low + below(rng, high - low + 1)
    count, hours = between(*settings.units), between(*settings.hours)
    costs: list[int] = []
    while len(costs) < count:
        cost = between(5, 60)
        costs += [cost] if cost not in costs else []
    units = []
    for name, cost in zip(NAMES[:count], costs, strict=True):
        least, most = 5 * between(0, 4), 5 * between(8, 20)
        units.append(Unit(name=name, least=least, most=most, cost=cost, ramp=5 * between(3, 10)))
    floor, roof = sum(u.least for u in units), sum(u.most for u in units) - max(u.most for u in units)
    load = tuple(between(floor, max(floor, roof)) for _ in range(hours))
    return Problem(load=load, units=tuple(units))


def _without(problem: Problem, index: int) -> Problem:
    gone = index % len(problem.units)
    return replace(problem, units=problem.units[:gone] + problem.units[gone + 1 :])


def spell(problem: Problem) -> str:
    """A problem's text."""
    units = [f"{u.name} {u.least}..{u.most} at {u.cost} ramp {u.ramp}" for u in problem.units]
    return "\n".join(["load " + " ".join(map(str, problem.load)), *units])


def read(text: str) -> Problem:
    """The problem of a text. Raises: ValueError if it is none of this task."""
    first, *rest = text.split("\n")
    load = tuple(map(int, parsed(r"load((?: \d+)+)", first)[1].split()))
    rows = [parsed(r"([a-z]) (\d+)\.\.(\d+) at (\d+) ramp (\d+)", line).groups() for line in rest]
    units = [Unit(name=n, least=int(a), most=int(b), cost=int(c), ramp=int(r)) for n, a, b, c, r in rows]
    return Problem(load=load, units=tuple(units))


def solve(problem: Problem) -> np.ndarray | None:
    """[U H] outputs of least cost; None if no outputs hold every constraint."""
    count, hours = len(problem.units), len(problem.load)
    at = lambda unit, hour: unit * hours + hour
    rows, low, high = [], [], []
    for hour, load in enumerate(problem.load):
        row = np.zeros(count * hours)
        row[[at(unit, hour) for unit in range(count)]] = 1
        rows, low, high = [*rows, row], [*low, load], [*high, load]
    for unit, settings in enumerate(problem.units):
        for hour in range(1, hours):
            row = np.zeros(count * hours)
            row[at(unit, hour)], row[at(unit, hour - 1)] = 1, -1
            rows, low, high = [*rows, row], [*low, -settings.ramp], [*high, settings.ramp]
    each = lambda name: np.repeat([getattr(u, name) for u in problem.units], hours)
    found = minimise(each("cost"), rows, low, high, (each("least"), each("most")))
    return None if found is None else found.reshape(count, hours)


def solve_again(demonstration: Demonstration) -> np.ndarray:
    """[U H] of the demonstration's own answer: that of the solver."""
    return np.array(list(json.loads(demonstration.actions[-1]).values()))


def judged(problem: Problem, answer: dict[str, Any] | None, least: int, best: np.ndarray) -> Judgement:
    """An answer to a problem whose least cost and solver's outputs [U H] are known."""
    names, hours = [u.name for u in problem.units], len(problem.load)
    form = {"parses": answer is not None, "keys": False, "identifiers": False, "decimals": False}
    if answer is None:
        return judge(form, {}, None, least, None, best)
    rows = [answer.get(name) for name in names]
    form["keys"] = set(names) <= answer.keys()
    form["identifiers"] = answer.keys() <= set(names)
    form["decimals"] = all(isinstance(row, list) and all(type(x) is int for x in row) for row in answer.values())
    shaped = all(isinstance(row, list) and len(row) == hours for row in rows)
    if not (shaped and form["decimals"]):
        return judge(form | {"keys": form["keys"] and shaped}, {}, None, least, None, best)
    made = np.array(rows, float)
    change = np.abs(np.diff(made, axis=1))
    held = {
        "bounds": [u.least <= x <= u.most for u, row in zip(problem.units, made, strict=True) for x in row],
        "balance": list(made.sum(axis=0) == problem.load),
        "ramps": [x <= u.ramp for u, row in zip(problem.units, change, strict=True) for x in row],
    }
    return judge(form, held, cost_of(problem, made), least, made, best)


def cost_of(problem: Problem, made: np.ndarray) -> int:
    return int(sum(u.cost * row.sum() for u, row in zip(problem.units, made, strict=True)))


def _actions(problem: Problem, made: np.ndarray) -> tuple[str, ...]:
    names = [u.name for u in problem.units]
    hours = [
        f"{hour + 1}: " + " ".join(f"{name}={x}" for name, x in zip(names, column, strict=True))
        for hour, column in enumerate(made.T)
    ]
    answer = json.dumps({name: row.tolist() for name, row in zip(names, made, strict=True)}, separators=(",", ":"))
    return (*hours, answer)
