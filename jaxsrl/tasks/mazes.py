"""The shortest way through a maze, with the search that found it: plans and traces that can be checked apart.

    size 5                   a problem: the side of the grid, where to start, where to go, and the walls
    start 0 0
    goal 2 4
    wall 1 0
    ...
    create 0 0 c0 c6         an action of the search: cost so far, and Manhattan distance to the goal
    close 0 0 c0 c6          the open cell of the lowest sum is expanded
    create 0 1 c1 c5
    ...
    plan 0 0                 an action of the plan: the cells of the way, start and goal included
    plan 0 1

Each line is an action. What a trace shows follows from `trace`: the search of this problem, that of another one, or
none. Source of the form and of the checks: arXiv:2505.13775; grids, ties and sizes are our choice.
"""

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, get_args

from jaxsrl.tasks.draw import Split, first_of, lines_of, pick, problem_id, split_of, stream
from jaxsrl.tasks.grids import FAMILIES, Cell, distance, neighbours
from jaxsrl.types import Demonstration

Trace = Literal["correct", "swapped", "none"]
PLAN = re.compile(r"plan (\d{1,4}) (\d{1,4})")


@dataclass(frozen=True, kw_only=True)
class Mazes:
    """How large and how winding mazes are, and what their demonstrations show.

    Args:
      size: cells a side; odd, so that every second cell is a room.
      family: see `grids.py`.
      trace: `correct` shows the search before the plan, `swapped` that of the next problem of the split (a control: it
        is no search of this one), `none` the plan alone.
      least: fewest steps of a shortest way.
      seed: of the problems.
    """

    size: int = 7
    family: str = "wilson"
    trace: Trace = "correct"
    least: int = 3
    seed: int = 0

    def __post_init__(self):
        if self.size < 3 or self.size % 2 == 0:
            raise ValueError(f"size must be odd and >= 3, got {self.size}")
        if self.family not in FAMILIES:
            raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {self.family!r}")
        if self.trace not in get_args(Trace):
            raise ValueError(f"trace must be one of {', '.join(get_args(Trace))}, got {self.trace!r}")
        if not 1 <= self.least <= self.size or self.seed < 0:
            raise ValueError(f"least must be in 1..size and seed >= 0, got least={self.least} seed={self.seed}")

    def demonstration(self, split: Split, index: int) -> Demonstration:
        grid = self._draw(split, index)
        shown: tuple[str, ...] = ()
        if self.trace != "none":
            shown = search(grid) if self.trace == "correct" else self._other(grid, split, index)
        problem = spell(grid)
        return Demonstration(
            problem_id=problem_id("mazes", problem), problem=problem, actions=(*shown, *map(_plan, shortest(grid))),
            answer=str(len(shortest(grid)) - 1), source=f"mazes:{self.family}/{self.seed}/{split}/{index}",
        )  # fmt: skip

    def right(self, text: str, demonstration: Demonstration) -> bool:
        """The plan is legal and as short as the shortest; what the trace says does not count."""
        grid, way = read(demonstration.problem), plan_of(text)
        return plan_fault(grid, way) is None and len(way) == len(shortest(grid))

    def finished(self, action: str, demonstration: Demonstration) -> bool:
        return action.strip() == _plan(read(demonstration.problem).goal)

    def difficulty(self, demonstration: Demonstration) -> float:
        """Operations of the search."""
        return float(len(search(read(demonstration.problem))))

    def _other(self, grid: "Grid", split: Split, index: int) -> tuple[str, ...]:
        """The search of the next problem whose search is none of this grid: small mazes share some."""
        others = (search(self._draw(split, number)) for number in count(index + 1))
        draw = lambda: lines if trace_fault(grid, lines := next(others)) is not None else None
        return first_of(draw, f"search of another maze than {self} has")

    def _draw(self, split: Split, index: int) -> "Grid":
        rng = stream("mazes", self.family, self.size, self.seed, split, index)

        def draw() -> Grid | None:
            free = FAMILIES[self.family](self.size, rng)
            cells = sorted(free)
            grid = Grid(size=self.size, free=free, start=pick(rng, cells), goal=pick(rng, cells))
            return grid if split_of(spell(grid)) == split and len(shortest(grid)) > self.least else None

        return first_of(draw, f"maze of {self} in {split}")


@dataclass(frozen=True, kw_only=True)
class Grid:
    size: int
    free: frozenset[Cell]
    start: Cell
    goal: Cell


def spell(grid: Grid) -> str:
    """A problem's text."""
    every = [(x, y) for x in range(grid.size) for y in range(grid.size)]
    walls = [f"wall {x} {y}" for x, y in every if (x, y) not in grid.free]
    head = f"size {grid.size}\nstart {grid.start[0]} {grid.start[1]}\ngoal {grid.goal[0]} {grid.goal[1]}"
    return "\n".join([head, *walls])


def read(problem: str) -> Grid:
    """The grid of a problem's text. Raises: ValueError if it is not one of this task."""
    try:
        words = [line.split() for line in problem.split("\n")]
        (_, size), (_, *start), (_, *goal), *walls = words
        if [line[0] for line in words] != ["size", "start", "goal", *["wall"] * len(walls)]:
            raise ValueError("lines are not size, start, goal and walls")
        cell = lambda pair: (int(pair[0]), int(pair[1]))
        blocked = {cell(pair) for _, *pair in walls}
        free = frozenset((x, y) for x in range(int(size)) for y in range(int(size)) if (x, y) not in blocked)
        return Grid(size=int(size), free=free, start=cell(start), goal=cell(goal))
    except (ValueError, IndexError) as error:
        raise ValueError(f"not a maze: {problem[:80]!r}") from error


def search(grid: Grid) -> tuple[str, ...]:
    """The operations of A* until the goal is closed. Ties go to the cell nearer the goal, then to the older."""
    return tuple(_operation(*one) for one in _search(grid)[0])


def shortest(grid: Grid) -> list[Cell]:
    """The way that A* finds, start and goal included; empty where there is none."""
    _, before = _search(grid)
    if grid.goal not in before:
        return []
    way = [grid.goal]
    while way[-1] != grid.start:
        way.append(before[way[-1]])
    return way[::-1]


def _search(grid: Grid) -> tuple[list[tuple[str, Cell, int, int]], dict[Cell, Cell]]:
    """Operations (name, cell, cost, estimate), and of every cell the one before it on its way."""
    estimate = lambda cell: distance(cell, grid.goal)
    cost, before, closed = {grid.start: 0}, {grid.start: grid.start}, set()
    heap = [(estimate(grid.start), estimate(grid.start), 0, grid.start)]
    done = [("create", grid.start, 0, estimate(grid.start))]
    while heap:
        *_, cell = heapq.heappop(heap)
        if cell in closed:
            continue
        closed.add(cell)
        done.append(("close", cell, cost[cell], estimate(cell)))
        if cell == grid.goal:
            break
        for there in neighbours(cell, grid.free):
            through = cost[cell] + 1
            if there not in closed and through < cost.get(there, through + 1):
                cost[there], before[there] = through, cell
                done.append(("create", there, through, estimate(there)))
                heapq.heappush(heap, (through + estimate(there), estimate(there), len(done), there))
    return done, before


def trace_fault(grid: Grid, lines: Sequence[str]) -> str | None:
    """Why a trace is no search of this grid, or None where it is one. It is replayed line by line.

    A created cell must be a free neighbour of the cell closed last, at its cost plus one; a closed cell must be open,
    and no open cell may have a lower sum; the last line closes the goal.
    """
    opened: dict[Cell, tuple[int, int]] = {}
    closed: dict[Cell, int] = {}
    last: Cell | None = None
    for number, line in enumerate(lines, 1):
        where = f"line {number}, {line!r}: "
        try:
            name, x, y, cost, estimate = line.split()
            cell, (g, h) = (int(x), int(y)), (int(part.removeprefix("c")) for part in (cost, estimate))
        except ValueError:
            return where + "not an operation"
        if cell not in grid.free or h != distance(cell, grid.goal):
            return where + "no free cell, or not its distance to the goal"
        if name == "create":
            first = number == 1 and cell == grid.start and g == 0
            legal = last is not None and cell in neighbours(last, grid.free) and g == closed[last] + 1
            if not (first or legal) or cell in closed or (cell in opened and opened[cell][0] <= g):
                return where + "not a new neighbour of the cell closed last, at its cost plus one"
            opened[cell] = (g, h)
        elif name == "close":
            if opened.get(cell) != (g, h):
                return where + "not open, or not at this cost"
            if min(map(sum, opened.values())) < g + h:
                return where + "an open cell has a lower sum"
            closed[cell], last = g, cell
            del opened[cell]
        else:
            return where + "not an operation"
    return None if last == grid.goal else "the goal is not closed last"


def plan_fault(grid: Grid, way: Sequence[Cell]) -> str | None:
    """Why a plan does not lead from start to goal, or None where it does."""
    if not way or way[0] != grid.start:
        return "does not begin at the start"
    for a, b in zip(way, way[1:], strict=False):
        if b not in neighbours(a, grid.free):
            return f"no step from {a} to {b}"
    return None if way[-1] == grid.goal else "does not end at the goal"


def trace_of(text: str) -> list[str]:
    """The lines of a solution before its plan."""
    lines = lines_of(text)
    first = next((i for i, line in enumerate(lines) if line.startswith("plan")), len(lines))
    return lines[:first]


def plan_of(text: str) -> list[Cell]:
    """The plan of a solution; empty where a line of it is no cell."""
    found = [PLAN.fullmatch(line) for line in lines_of(text)[len(trace_of(text)) :]]
    return [(int(one[1]), int(one[2])) for one in found] if all(found) else []


def _operation(name: str, cell: Cell, cost: int, estimate: int) -> str:
    return f"{name} {cell[0]} {cell[1]} c{cost} c{estimate}"


def _plan(cell: Cell) -> str:
    return f"plan {cell[0]} {cell[1]}"
