"""Mazes: grids of each family, the search, and what a replay finds wrong in a trace."""

from collections import deque

import pytest

from jaxsrl.tasks.draw import generate, stream
from jaxsrl.tasks.grids import FAMILIES, neighbours
from jaxsrl.tasks.mazes import Grid, Mazes, plan_fault, plan_of, read, search, shortest, spell, trace_fault, trace_of

ROW = Grid(size=3, free=frozenset([(0, 0), (1, 0), (2, 0), (0, 1)]), start=(0, 0), goal=(2, 0))
TRACE = (
    "create 0 0 c0 c2", "close 0 0 c0 c2", "create 1 0 c1 c1", "create 0 1 c1 c3", "close 1 0 c1 c1",
    "create 2 0 c2 c0", "close 2 0 c2 c0",
)  # fmt: skip


def test_a_search_by_hand():
    assert search(ROW) == TRACE and shortest(ROW) == [(0, 0), (1, 0), (2, 0)]
    assert read(spell(ROW)) == ROW
    with pytest.raises(ValueError, match="not a maze"):
        read("start 0 0\nsize 3")


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_what_they_are_called(family):
    size, rng = 9, stream(family)
    for _ in range(20):
        free = FAMILIES[family](size, rng)
        edges = sum(len(neighbours(cell, free)) for cell in free) // 2
        rooms = {(x, y) for x in range(0, size, 2) for y in range(0, size, 2)}
        reached, todo = set(), [next(iter(free))]
        while todo:
            cell = todo.pop()
            reached.add(cell)
            todo += [there for there in neighbours(cell, free) if there not in reached]
        assert reached == free  # in one piece
        if family in ("wilson", "kruskal", "depth_first"):
            assert rooms <= free and edges == len(free) - 1  # a tree of all rooms
        elif family == "free_space":
            assert len(free) == size * size
        else:
            assert len(free) == 41


def test_wilsons_trees_are_equally_likely():
    """Of the four trees of 2 x 2 rooms each comes up a quarter of the time; depth-first has them too, by symmetry."""
    rng, count = stream("w"), {}
    for _ in range(2000):
        free = FAMILIES["wilson"](3, rng)
        count[free] = count.get(free, 0) + 1
    assert len(count) == 4 and max(count.values()) < 1.2 * 500


def test_ways_are_as_short_as_breadth_first_finds_them():
    for family in FAMILIES:
        for d in generate(Mazes(family=family, size=9), 30):
            grid = read(d.problem)
            far, todo = {grid.start: 0}, deque([grid.start])
            while todo:
                cell = todo.popleft()
                for there in neighbours(cell, grid.free):
                    if there not in far:
                        far[there] = far[cell] + 1
                        todo.append(there)
            assert len(shortest(grid)) - 1 == far[grid.goal] == int(d.answer)


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda t: t[1:], "not open"),
        (lambda t: t[:2] + t[3:], "not open"),  # the goal's way is never made
        (lambda t: t[:3] + ("close 0 1 c1 c3",), "not open"),
        (lambda t: t[:4] + ("close 0 1 c1 c3",) + t[4:], "an open cell has a lower sum"),
        (lambda t: t[:2] + t[1:], "not open"),  # closed twice
        (lambda t: t[:3] + t[2:], "not a new neighbour"),  # made twice
        (lambda t: t[:2] + ("create 2 0 c1 c0",) + t[2:], "not a new neighbour"),
        (lambda t: t[:2] + ("create 1 1 c1 c2",) + t[2:], "no free cell"),
        (lambda t: t[:2] + ("create 1 0 c2 c1",) + t[3:], "not a new neighbour"),
        (lambda t: t[:2] + ("create 1 0 c1 c2",) + t[3:], "not its distance"),
        (lambda t: t[:-1], "the goal is not closed last"),
        (lambda t: (), "the goal is not closed last"),
        (lambda t: ("open 0 0 c0 c2",) + t, "not an operation"),
        (lambda t: ("so it goes",) + t, "not an operation"),
    ],
)
def test_a_replay_finds_what_is_wrong(change, fault):
    assert trace_fault(ROW, TRACE) is None
    assert fault in trace_fault(ROW, change(TRACE))


def test_plans_are_judged_apart_from_traces():
    plan = "plan 0 0\nplan 1 0\nplan 2 0"
    assert plan_fault(ROW, plan_of(plan)) is None
    for wrong, fault in (
        ("plan 1 0\nplan 2 0", "begin at the start"), ("plan 0 0\nplan 2 0", "no step from"),
        ("plan 0 0\nplan 1 0", "end at the goal"), ("plan 0 0\nsee above", "begin"), ("", "begin"),
    ):  # fmt: skip
        assert fault in plan_fault(ROW, plan_of(wrong))
    d = generate(Mazes(), 1)[0]
    way = plan_of("\n".join(d.actions))
    detour = "\n".join(f"plan {x} {y}" for x, y in (way[0], way[1], way[0], *way[1:]))
    assert plan_fault(read(d.problem), plan_of(detour)) is None and not Mazes().right(detour, d)  # legal, not shortest


@pytest.mark.parametrize("shape", [{}, {"size": 3, "family": "free_space", "least": 1}])
def test_swapped_traces_have_no_validity(shape):
    """The plan is the problem's own all the same; this is the control of what traces teach. Small mazes share some."""
    some = generate(Mazes(trace="swapped", **shape), 60)
    faults = [trace_fault(read(d.problem), trace_of("\n".join(d.actions))) for d in some]
    assert all(faults) and all(Mazes().right("\n".join(d.actions), d) for d in some)
    assert [d.problem for d in some] == [d.problem for d in generate(Mazes(trace="none", **shape), 60)]
