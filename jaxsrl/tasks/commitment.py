"""Unit commitment cut from real systems: which units are on in which hour, and how much each makes, at the least cost.

    load 61 70 84 66               a problem: megawatts needed, and spare capacity wanted, in each hour
    reserve 2 2 3 2
    a 5..12 ramp 20 start 5 up 4 down 2 cost 897 then 128 begin 393 was 0
    b 22..55 ramp 60 start 22 up 2 down 3 cost 1801 then 33 begin 5665 was 40
    1: a=0 b=61                    an action: the outputs of an hour; 0 is off
    {"a":[0,...],"b":[61,...]}     the last action: the answer

A unit has its least and most output, the most change between two hours, the most output in its first and last hour on,
the fewest hours on and off, the cost of its least output, of each megawatt above it, of a start, and what it made
before. Outputs are whole megawatts. Cases are RTS-GMLC instances of the library PGLib-UC, rounded; which units and
hours are taken and how the load is scaled is drawn.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrl.tasks.draw import Split, below, first_of, pick, problem_id, shuffled, split_of, stream
from jaxsrl.tasks.optimum import Judgement, answer_of, judge, minimise, parsed, sparse
from jaxsrl.types import Demonstration

NAMES = "abcdefgh"
UNIT = r"([a-z]) (\d+)\.\.(\d+) ramp (\d+) start (\d+) up (\d+) down (\d+) cost (\d+) then (\d+) begin (\d+) was (\d+)"


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A thermal unit; megawatts, hours and dollars."""

    least: int
    most: int
    ramp: int
    start: int  # most output in its first and its last hour on
    up: int
    down: int
    cost: int  # of an hour at its least output
    then: int  # of each megawatt above
    begin: int  # of a start
    was: int = 0  # output before the first hour; it may change at once


@dataclass(frozen=True, kw_only=True)
class Case:
    """A real system: its units, and its load and reserve as shares of the largest load."""

    units: tuple[Unit, ...]
    load: tuple[float, ...]
    reserve: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Megawatts of each hour, and the units by name.

    Args:
      free: output of wind, sun and water, which costs nothing and may be left: units make load - free to load.
    """

    load: tuple[int, ...]
    reserve: tuple[int, ...]
    units: tuple[tuple[str, Unit], ...]
    free: tuple[int, ...] = ()

    @property
    def least(self) -> tuple[int, ...]:
        """What units must make at least, of each hour."""
        return tuple(x - y for x, y in zip(self.load, self.free or (0,) * len(self.load), strict=True))


def read_case(path: Path) -> Case:
    """A case of PGLib-UC, JSON or gzipped JSON.

    Raises: ValueError naming the file where it is none.
    """
    with _named(path):
        found = _content(path)
        units = tuple(_unit(g) for _, g in sorted(found["thermal_generators"].items()) if not g["must_run"])
        top = max(found["demand"])
        shares = ([x / top for x in found[name]] for name in ("demand", "reserves"))
        return Case(units=units, **dict(zip(("load", "reserve"), map(tuple, shares), strict=True)))


def whole_problem(path: Path, hours: int = 48) -> Problem:
    """The first hours of a case with all of its units, not cut and not scaled: what `solve` makes of a real system.

    Left out of the real one: cost curves in pieces (a line from least to most), starts that cost more after a longer
    pause (that of the shortest), what units still owe of their hours on or off before the first hour, and separate
    limits up and down (the smaller). Units that must run make their least, outside of the problem.

    Raises: ValueError naming the file where it is none, or has fewer hours.
    """
    with _named(path):
        found = _content(path)
        there = len(found["demand"])
    if not 1 <= hours <= there:
        raise ValueError(f"{path} has {there} hours, hours={hours} must be 1 to {there}")
    with _named(path):
        thermal, renewable = sorted(found["thermal_generators"].items()), found["renewable_generators"].values()
        units = [(name, replace(_unit(g), was=round(g["power_output_t0"]))) for name, g in thermal if not g["must_run"]]
        running = sum(g["power_output_minimum"] for _, g in thermal if g["must_run"])
        low, high = (
            np.sum([g[f"power_output_{end}"] for g in renewable], axis=0)[:hours] for end in ("minimum", "maximum")
        )
        load = np.maximum(np.round(np.array(found["demand"][:hours]) - low - running), 0).astype(int)
        free = np.minimum(np.round(high - low).astype(int), load)
        reserve = np.round(found["reserves"][:hours]).astype(int)
        each = dict(load=load, reserve=reserve, free=free)
        return Problem(units=tuple(units), **{name: tuple(x.tolist()) for name, x in each.items()})


def _content(path: Path) -> dict[str, Any]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        return json.load(file)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong with a case file is said with its name."""
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is no case of unit commitment: {error!r}") from error


def _unit(found: dict[str, Any]) -> Unit:
    low, high = found["piecewise_production"][0], found["piecewise_production"][-1]
    least, most = max(round(low["mw"]), 1), max(round(high["mw"]), 2)
    return Unit(
        least=least, most=max(most, least + 1),
        ramp=max(round(min(found["ramp_up_limit"], found["ramp_down_limit"])), 1),
        start=max(round(min(found["ramp_startup_limit"], found["ramp_shutdown_limit"])), least),
        up=max(int(found["time_up_minimum"]), 1), down=max(int(found["time_down_minimum"]), 1), cost=round(low["cost"]),
        then=max(round((high["cost"] - low["cost"]) / max(high["mw"] - low["mw"], 1e-9)), 0),
        begin=round(found["startup"][0]["cost"]),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Commitment:
    """How large the cuts are.

    Args:
      cases: see `read_case`.
      units, hours: fewest and most. Inclusive.
      outage: N-1: one of the first so many training problems without one of its units, feasible still; 0 draws whole
        problems.
      seed: of the problems.
    """

    cases: tuple[Case, ...]
    units: tuple[int, int] = (3, 5)
    hours: tuple[int, int] = (4, 6)
    outage: int = 0
    seed: int = 0

    def __post_init__(self):
        if not self.cases:
            raise ValueError("cases must hold a system to cut problems from")
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
        return right(text, demonstration)

    def judge(self, text: str, demonstration: Demonstration) -> Judgement:
        return judge_text(text, demonstration)

    def finished(self, action: str, demonstration: Demonstration) -> bool:
        return action.strip().startswith("{")

    def difficulty(self, demonstration: Demonstration) -> float:
        """Outputs to find."""
        problem = read(demonstration.problem)
        return float(len(problem.units) * len(problem.load))


def right(text: str, demonstration: Demonstration) -> bool:
    """As `Commitment.right`, which needs no cases."""
    return judge_text(text, demonstration).best


def judge_text(text: str, demonstration: Demonstration) -> Judgement:
    best = np.array(list(json.loads(demonstration.actions[-1]).values()))
    return judged(read(demonstration.problem), answer_of(text), best)


@lru_cache(4096)  # N-1 asks for the same training problems again, and solving takes its time
def _made(settings: Commitment, split: Split, index: int) -> Demonstration:
    kind = f"outage of {settings.outage}" if settings.outage else "whole"
    rng = stream("commitment", settings.seed, kind, split, index)
    whole = replace(settings, outage=0)

    def draw() -> tuple[Problem, np.ndarray] | None:
        if settings.outage:
            found = read(whole.demonstration("train", below(rng, settings.outage)).problem)
            gone = below(rng, len(found.units))
            found = replace(found, units=found.units[:gone] + found.units[gone + 1 :])
        else:
            found = _cut(settings, rng)
        best = solve(found) if split_of(spell(found)) == split else None
        return None if best is None else (found, best)

    found, best = first_of(draw, f"unit commitment in {split}")
    problem = spell(found)
    return Demonstration(
        problem_id=problem_id("commitment", problem), problem=problem, actions=_actions(found, best),
        answer=str(cost_of(found, best)), source=f"commitment:{settings.seed}/{split}/{index}",
    )  # fmt: skip


def _cut(settings: Commitment, rng) -> Problem:
    between = lambda low, high: low + below(rng, high - low + 1)
    case = pick(rng, settings.cases)
    count, hours = between(*settings.units), between(*settings.hours)
    chosen = shuffled(rng, case.units)[:count]
    first = below(rng, len(case.load) - hours + 1)
    # So much load that it can be met without the largest unit, and not by the smallest alone.
    peak = (sum(u.most for u in chosen) - max(u.most for u in chosen)) * (0.6 + 0.35 * rng.random())
    scaled = lambda shares: tuple(max(round(peak * share), 0) for share in shares[first : first + hours])
    top = max(case.load[first : first + hours])
    load, reserve = (scaled([x / top for x in some]) for some in (case.load, case.reserve))
    units = [replace(u, was=pick(rng, (0, u.least)), up=min(u.up, hours), down=min(u.down, hours)) for u in chosen]
    return Problem(load=load, reserve=reserve, units=tuple(zip(NAMES, units, strict=False)))


def spell(problem: Problem) -> str:
    """A problem's text."""
    units = [
        f"{name} {u.least}..{u.most} ramp {u.ramp} start {u.start} up {u.up} down {u.down} cost {u.cost} then {u.then} "
        f"begin {u.begin} was {u.was}"
        for name, u in problem.units
    ]
    given = (("load", problem.load), ("reserve", problem.reserve), ("free", problem.free))
    hours = (f"{name} " + " ".join(map(str, x)) for name, x in given if x)
    return "\n".join([*hours, *units])


def read(text: str) -> Problem:
    """The problem of a text. Raises: ValueError if it is none of this task."""
    lines = text.split("\n")
    each = ("load", "reserve", "free") if lines[2:3] and lines[2].startswith("free ") else ("load", "reserve")
    hours = {
        name: tuple(map(int, parsed(rf"{name}((?: \d+)+)", line)[1].split()))
        for name, line in zip(each, lines[: len(each)], strict=True)
    }
    names = ("least", "most", "ramp", "start", "up", "down", "cost", "then", "begin", "was")
    rows = [parsed(UNIT, line).groups() for line in lines[len(each) :]]
    units = ((name, Unit(**dict(zip(names, map(int, numbers), strict=True)))) for name, *numbers in rows)
    return Problem(**hours, units=tuple(units))


def solve(problem: Problem, *, gap: float = 0.0) -> np.ndarray | None:
    """[U H] outputs of least cost, or at most that share above it; None if no outputs hold every constraint."""
    units, hours = [u for _, u in problem.units], len(problem.load)
    size = len(units) * hours  # outputs, then on or off, then starts
    p, on, begun = (lambda g, t, k=k: k * size + g * hours + t for k in range(3))
    rows: list[tuple[dict[int, float], float, float]] = []
    add = lambda terms, low=-np.inf, high=np.inf: rows.append((terms, low, high))
    for t in range(hours):
        add({p(g, t): 1 for g in range(len(units))}, problem.least[t], problem.load[t])
        spare = {on(g, t): u.most for g, u in enumerate(units)} | {p(g, t): -1 for g in range(len(units))}
        add(spare, low=problem.reserve[t])
    for g, u in enumerate(units):
        for t in range(hours):
            add({p(g, t): 1, on(g, t): -u.most}, high=0)
            add({p(g, t): 1, on(g, t): -u.least}, low=0)
            was_on, was = float(u.was > 0), float(u.was)
            # Up by the ramp, or to the start's limit where it begins; down by the ramp, or from that limit where it
            # ends, (on before) - on + begun. It raises the bound of two real systems' relaxations by 1.3 and 1.5 %.
            if t:
                add({p(g, t): 1, p(g, t - 1): -1, on(g, t - 1): -u.ramp, begun(g, t): -u.start}, high=0)
                ends = {on(g, t - 1): -u.start, on(g, t): u.start - u.ramp, begun(g, t): -u.start}
                add(ends | {p(g, t - 1): 1, p(g, t): -1}, high=0)
                add({begun(g, t): 1, on(g, t): -1, on(g, t - 1): 1}, low=0)
            else:
                add({p(g, 0): 1}, high=u.start + was + (u.ramp - u.start) * was_on)
                add({p(g, 0): -1, on(g, 0): -(u.ramp - u.start)}, high=u.start - was)
                add({begun(g, 0): 1, on(g, 0): -1}, low=-was_on)
            # Who began within the last `up` hours is on; who is on before `down` hours does not begin within them.
            add({begun(g, s): 1 for s in range(max(t - u.up + 1, 0), t + 1)} | {on(g, t): -1}, high=0)
            begins = {begun(g, s): 1 for s in range(max(t - u.down + 1, 0), t + 1)}
            add(begins | ({on(g, t - u.down): 1} if t >= u.down else {}), high=1 if t >= u.down else 1 - was_on)
    matrix = sparse([terms for terms, _, _ in rows], 3 * size)
    each = lambda *names: np.concatenate([np.repeat([getattr(u, n) if n else 1 for u in units], hours) for n in names])
    cost = np.concatenate([each("then"), each("cost") - each("then") * each("least"), each("begin")])
    most = np.concatenate([each("most"), np.ones(2 * size)])
    found = minimise(cost, matrix, [r[1] for r in rows], [r[2] for r in rows], (np.zeros(3 * size), most), gap)
    return None if found is None else found[:size].reshape(len(units), hours)


def judged(problem: Problem, answer: dict[str, Any] | None, best: np.ndarray) -> Judgement:
    """An answer beside the solver's outputs [U H]."""
    names, hours, least = [name for name, _ in problem.units], len(problem.load), cost_of(problem, best)
    form = {"parses": answer is not None, "keys": False, "identifiers": False, "decimals": False}
    if answer is None:
        return judge(form, {}, None, least, None, best)
    rows = [answer.get(name) for name in names]
    form["identifiers"] = answer.keys() <= set(names)
    form["decimals"] = all(isinstance(row, list) and all(type(x) is int for x in row) for row in answer.values())
    form["keys"] = set(names) <= answer.keys() and all(isinstance(row, list) and len(row) == hours for row in rows)
    if not (form["keys"] and form["decimals"]):
        return judge(form, {}, None, least, None, best)
    made = np.array(rows, float)
    held: dict[str, list[bool]] = {name: [] for name in ("bounds", "balance", "reserve", "ramps", "times")}
    total = made.sum(axis=0)
    held["balance"] = list((total >= problem.least) & (total <= problem.load))
    most = np.array([u.most for _, u in problem.units])[:, None]
    held["reserve"] = list(((most * (made > 0)) - made).sum(axis=0) >= problem.reserve)
    for (_, u), row in zip(problem.units, made, strict=True):
        held["bounds"] += [x == 0 or u.least <= x <= u.most for x in row]
        held["ramps"] += [_ramps(u, a, b) for a, b in zip([u.was, *row], row, strict=False)]
        held["times"] += _times(u, row)
    return judge(form, held, cost_of(problem, made), least, made, best)


def _ramps(unit: Unit, before: float, after: float) -> bool:
    if (before > 0) != (after > 0):
        return max(before, after) <= unit.start
    return abs(after - before) <= unit.ramp


def _times(unit: Unit, row: Sequence[float]) -> list[bool]:
    """Of every change, whether what it leads to lasts long enough, as far as the hours go."""
    on = [unit.was > 0, *(x > 0 for x in row)]
    out = []
    for t in range(1, len(on)):
        if on[t] != on[t - 1]:
            stays = on[t : t + (unit.up if on[t] else unit.down)]
            out.append(len(set(stays)) == 1)
    return out


def cost_of(problem: Problem, made: np.ndarray) -> int:
    total = 0.0
    for (_, u), row in zip(problem.units, made, strict=True):
        on = row > 0
        total += float((on * (u.cost + (row - u.least) * u.then)).sum())
        total += u.begin * int((on & ~np.concatenate([[u.was > 0], on[:-1]])).sum())
    return round(total)


def _actions(problem: Problem, made: np.ndarray) -> tuple[str, ...]:
    names = [name for name, _ in problem.units]
    lines = [
        f"{hour + 1}: " + " ".join(f"{name}={x}" for name, x in zip(names, column, strict=True))
        for hour, column in enumerate(made.T)
    ]
    answer = {name: row.tolist() for name, row in zip(names, made, strict=True)}
    return (*lines, json.dumps(answer, separators=(",", ":")))
