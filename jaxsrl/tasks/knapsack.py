"""A knapsack with conflicts: which items are worth most, fit together, and do not exclude each other.

    room 14                  a problem: the weight that there is room for
    a 5 for 9                an item: its weight and its value
    b 7 for 12
    c 4 for 3
    a not b                  two items that cannot be taken together
    b, left 7                an action: an item that is taken, and the room left after it
    c, left 3
    {"take":["b","c"]}       the last action: the answer

Constraints are of two families: the room, and the conflicts. Source of the axes: arXiv:2603.23004; the problem is our
choice.
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

NAMES = "abcdefghijklmnop"


@dataclass(frozen=True, kw_only=True)
class Problem:
    room: int
    items: tuple[tuple[str, int, int], ...]  # name, weight, value
    conflicts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Knapsack:
    """How large problems are.

    Args:
      items: fewest and most. Inclusive.
      conflicts: pairs that exclude each other, for each item there is.
      outage: N-1: one of the first so many training problems without one of the items that its solution takes; 0
        draws whole problems.
      seed: of the problems.
    """

    items: tuple[int, int] = (5, 7)
    conflicts: float = 0.5
    outage: int = 0
    seed: int = 0

    def __post_init__(self):
        low, high = self.items
        if not 3 <= low <= high <= len(NAMES):
            raise ValueError(f"items must be 3 <= fewest <= most <= {len(NAMES)}, got {self.items}")
        if not 0 <= self.conflicts <= 1:
            raise ValueError(f"conflicts must be in 0..1, got {self.conflicts}")
        if self.seed < 0 or self.outage < 0:
            raise ValueError(f"seed and outage must be >= 0, got seed={self.seed} outage={self.outage}")

    def demonstration(self, split: Split, index: int) -> Demonstration:
        return _made(self, split, index)

    def right(self, text: str, demonstration: Demonstration) -> bool:
        """Every constraint holds and nothing is worth more; the lines before the answer do not count."""
        return self.judge(text, demonstration).best

    def judge(self, text: str, demonstration: Demonstration) -> Judgement:
        problem, best = read(demonstration.problem), json.loads(demonstration.actions[-1])["take"]
        return judged(problem, answer_of(text), best)

    def finished(self, action: str, demonstration: Demonstration) -> bool:
        return action.strip().startswith("{")

    def difficulty(self, demonstration: Demonstration) -> float:
        """Items to choose from."""
        return float(len(read(demonstration.problem).items))


@lru_cache(4096)  # N-1 asks for the same training problems again, and solving takes its time
def _made(settings: Knapsack, split: Split, index: int) -> Demonstration:
    rng = stream(
        "knapsack", settings.seed, f"outage of {settings.outage}" if settings.outage else "whole", split, index
    )

    def draw() -> Problem | None:
        if settings.outage:
            whole = replace(settings, outage=0).demonstration("train", below(rng, settings.outage))
            taken = json.loads(whole.actions[-1])["take"]
            found = _without(read(whole.problem), taken[below(rng, len(taken))])
        else:
            found = _draw(settings, rng)
        fits = any(weight <= found.room for _, weight, _ in found.items)
        return found if fits and split_of(spell(found)) == split else None

    found = first_of(draw, f"problem of {settings} in {split}")
    problem, best = spell(found), solve(found)
    return Demonstration(
        problem_id=problem_id("knapsack", problem), problem=problem, actions=_actions(found, best),
        answer=str(value_of(found, best)), source=f"knapsack:{settings.seed}/{split}/{index}",
    )  # fmt: skip


def _draw(settings: Knapsack, rng: random.Random) -> Problem:
    between = lambda low, high: low + below(rng, high - low + 1)
    names = NAMES[: between(*settings.items)]
    items = tuple((name, between(2, 20), between(1, 40)) for name in names)
    pairs = set()
    while len(pairs) < round(settings.conflicts * len(names)):
        a, b = below(rng, len(names)), below(rng, len(names))
        if a < b:
            pairs.add((names[a], names[b]))
    return Problem(room=sum(weight for _, weight, _ in items) // 2, items=items, conflicts=tuple(sorted(pairs)))


def _without(problem: Problem, name: str) -> Problem:
    return replace(
        problem, items=tuple(item for item in problem.items if item[0] != name),
        conflicts=tuple(pair for pair in problem.conflicts if name not in pair),
    )  # fmt: skip


def spell(problem: Problem) -> str:
    """A problem's text."""
    items = [f"{name} {weight} for {value}" for name, weight, value in problem.items]
    return "\n".join([f"room {problem.room}", *items, *(f"{a} not {b}" for a, b in problem.conflicts)])


def read(text: str) -> Problem:
    """The problem of a text. Raises: ValueError if it is none of this task."""
    first, *rest = text.split("\n")
    rows = [parsed(r"([a-z]) (?:(\d+) for (\d+)|not ([a-z]))", line).groups() for line in rest]
    return Problem(
        room=int(parsed(r"room (\d+)", first)[1]),
        items=tuple((name, int(weight), int(value)) for name, weight, value, _ in rows if weight),
        conflicts=tuple((name, other) for name, _, _, other in rows if other),
    )  # fmt: skip


def solve(problem: Problem) -> list[str]:
    """Names of the items that are worth most together, in their order."""
    names = [name for name, _, _ in problem.items]
    rows = [[weight for _, weight, _ in problem.items]]
    rows += [[float(name in pair) for name in names] for pair in problem.conflicts]
    high = [problem.room, *[1] * len(problem.conflicts)]
    cost = [-value for _, _, value in problem.items]
    found = minimise(cost, rows, [0] * len(rows), high, (np.zeros(len(names)), np.ones(len(names))))
    return [name for name, taken in zip(names, found, strict=True) if taken]


def judged(problem: Problem, answer: dict[str, Any] | None, best: list[str]) -> Judgement:
    """An answer to a problem, beside the solver's."""
    names = [name for name, _, _ in problem.items]
    chosen = lambda some: np.array([float(name in some) for name in names])
    least = -value_of(problem, best)
    form = {"parses": answer is not None, "keys": False, "identifiers": False, "decimals": True}
    take = None if answer is None else answer.get("take")
    if not isinstance(take, list) or not all(isinstance(name, str) for name in take):
        return judge(form, {}, None, least, None, chosen(best))
    form |= {"keys": answer.keys() == {"take"}, "identifiers": set(take) <= set(names) and len(set(take)) == len(take)}
    weight = sum(weight for name, weight, _ in problem.items if name in take)
    held = {"room": [weight <= problem.room], "conflicts": [not {a, b} <= set(take) for a, b in problem.conflicts]}
    return judge(form, held, -value_of(problem, take), least, chosen(take), chosen(best))


def value_of(problem: Problem, take) -> int:
    return sum(value for name, _, value in problem.items if name in take)


def _actions(problem: Problem, best: list[str]) -> tuple[str, ...]:
    weights, left, lines = {name: weight for name, weight, _ in problem.items}, problem.room, []
    for name in best:
        left -= weights[name]
        lines.append(f"{name}, left {left}")
    return (*lines, json.dumps({"take": best}, separators=(",", ":")))
