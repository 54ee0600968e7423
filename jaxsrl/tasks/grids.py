"""Grids to find a way in: mazes of five families. A cell is (column, row); free cells are a set."""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxsrl.tasks.draw import pick, shuffled

Cell = tuple[int, int]
STEPS = ((0, -1), (1, 0), (0, 1), (-1, 0))  # north, east, south, west


def neighbours(cell: Cell, free: frozenset[Cell]) -> list[Cell]:
    return [there for dx, dy in STEPS if (there := (cell[0] + dx, cell[1] + dy)) in free]


def distance(a: Cell, b: Cell) -> int:
    """Manhattan distance: never more than the way between them."""
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def wilson(size: int, rng: random.Random) -> frozenset[Cell]:
    """A spanning tree of the rooms, each as likely as any other: loop-erased random walks."""
    rooms = _rooms(size)
    inside, free = {pick(rng, rooms)}, set()
    free |= inside
    for room in shuffled(rng, rooms):
        way, at = {}, room
        while at not in inside:  # where the walk left a room last is what stays of it
            way[at] = pick(rng, _rooms_beside(at, size))
            at = way[at]
        at = room
        while at not in inside:
            inside.add(at)
            free |= {at, _between(at, way[at])}
            at = way[at]
    return frozenset(free)


def kruskal(size: int, rng: random.Random) -> frozenset[Cell]:
    """A spanning tree of the rooms by walls that are taken away in random order."""
    rooms = _rooms(size)
    of = {room: room for room in rooms}

    def root(room: Cell) -> Cell:
        while of[room] != room:
            of[room] = of[of[room]]
            room = of[room]
        return room

    free = set(rooms)
    walls = [(room, other) for room in rooms for other in _rooms_beside(room, size) if room < other]
    for a, b in shuffled(rng, walls):
        if root(a) != root(b):
            of[root(a)] = root(b)
            free.add(_between(a, b))
    return frozenset(free)


def depth_first(size: int, rng: random.Random) -> frozenset[Cell]:
    """A spanning tree of the rooms with long corridors: a walk that turns back where it is stuck."""
    stack = [pick(rng, _rooms(size))]
    free = set(stack)
    while stack:
        ahead = [room for room in _rooms_beside(stack[-1], size) if room not in free]
        if not ahead:
            stack.pop()
            continue
        room = pick(rng, ahead)
        free |= {room, _between(stack[-1], room)}
        stack.append(room)
    return frozenset(free)


def free_space(size: int, rng: random.Random) -> frozenset[Cell]:
    """No walls."""
    return frozenset((x, y) for x in range(size) for y in range(size))


def drunkard(size: int, rng: random.Random) -> frozenset[Cell]:
    """What a random walk from the middle visits until half of all cells are free."""
    at = (size // 2, size // 2)
    free, inside = {at}, free_space(size, rng)
    while len(free) < size * size / 2:
        at = pick(rng, neighbours(at, inside))
        free.add(at)
    return frozenset(free)


FAMILIES: Mapping[str, Callable[[int, random.Random], frozenset[Cell]]] = MappingProxyType({
    "wilson": wilson, "kruskal": kruskal, "depth_first": depth_first, "free_space": free_space, "drunkard": drunkard,
})  # fmt: skip


def _rooms(size: int) -> list[Cell]:
    """Every second cell; the ones between are walls or doors."""
    return [(x, y) for x in range(0, size, 2) for y in range(0, size, 2)]


def _rooms_beside(room: Cell, size: int) -> list[Cell]:
    some = [(room[0] + 2 * dx, room[1] + 2 * dy) for dx, dy in STEPS]
    return [(x, y) for x, y in some if 0 <= x < size and 0 <= y < size]


def _between(a: Cell, b: Cell) -> Cell:
    return (a[0] + b[0]) // 2, (a[1] + b[1]) // 2
