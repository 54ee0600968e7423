"""A depth-first sequence of items cut into stretches that fit a row, and stretches laid as runs into rows.

A stretch needs the nodes above its first item too: they are repeated in front of it. Later items of a stretch have
theirs within it, so what a stretch takes is a difference of two sums.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from jaxsrl.data.tables import Tables

LITTLE = 0.03  # of the places, empty: then no stretch is cut to save rows
WORTH = 0.6  # what a further cut may repeat, of what it places: about equal, it would save nothing


@dataclass(frozen=True, eq=False)
class Budget:
    """What L items take of something of which a row has `limit`."""

    before: Int[np.ndarray, "L+1"]  # taken by the items before each
    above: Int[np.ndarray, "L"]  # taken by the nodes above each
    limit: int

    @classmethod
    def of(cls, size: Int[np.ndarray, "L"], above: Int[np.ndarray, "L"], limit: int) -> Budget:
        return cls(np.concatenate([[0], np.cumsum(size, dtype=np.int64)]), above, limit)

    def take(self, first, last):
        """What the stretches first … last take."""
        return self.above[first] + self.before[last + 1] - self.before[first]

    def reach(self, first, free):
        """The last item of the longest stretch from `first` on that takes at most `free`; less than first: none."""
        return np.searchsorted(self.before, self.before[first] + free - self.above[first], side="right") - 2


def cut(
    demonstration: Int[np.ndarray, "L"],
    ends: Bool[np.ndarray, "L"],
    budgets: Sequence[Budget],
    refuse: Callable[[int, int], ValueError],
) -> tuple[Int[np.ndarray, "S"], Int[np.ndarray, "S"]]:
    """First and last item of stretches, as long as they may be: each within one tree and every budget.

    Args:
      ends: items behind which a stretch may end; the last one of a tree is one.
      refuse: makes the error for a stretch (first, last) that cannot be made shorter and does not fit.
    """
    count = len(demonstration)
    tree = np.flatnonzero(np.diff(demonstration, prepend=-1))  # first item of each
    last = np.append(tree[1:], count) - 1
    latest = np.maximum.accumulate(np.where(ends, np.arange(count), -1))
    firsts, lasts = [], []
    while tree.size:
        far = np.minimum.reduce([last, *(budget.reach(tree, budget.limit) for budget in budgets)])
        stop = np.where(far < tree, -1, latest[far])
        short = np.flatnonzero(stop < tree)
        if short.size:
            at = int(tree[short[0]])
            raise refuse(at, at + int(np.argmax(ends[at:])))
        firsts.append(tree)
        lasts.append(stop)
        more = stop < last
        tree, last = stop[more] + 1, last[more]
    if not firsts:
        return np.zeros(0, int), np.zeros(0, int)
    first, last = np.concatenate(firsts), np.concatenate(lasts)
    order = np.argsort(first)
    return first[order], last[order]


def fit(
    first: Int[np.ndarray, "S"], last: Int[np.ndarray, "S"], ends: Bool[np.ndarray, "L"], tokens: Budget, runs: Budget
) -> tuple[Int[np.ndarray, "S"], Int[np.ndarray, "S"], Int[np.ndarray, "S"]]:
    """First and last items and rows of stretches, in few rows; a function of the sizes alone.

    Stretches stay as they are if that leaves little empty. Otherwise one that no row has room for is cut once more, and
    fills what is left of a row; that takes fewer rows, though what is above the cut is repeated.
    """
    stretches = list(zip(first.tolist(), last.tolist(), strict=True))
    whole = _best_fit(stretches, None, tokens, runs)
    rows = max((row for *_, row in whole), default=-1) + 1
    if rows * tokens.limit > int(tokens.take(first, last).sum()) * (1 + LITTLE) + tokens.limit:
        latest = np.maximum.accumulate(np.where(ends, np.arange(len(ends)), -1))
        parted = _best_fit(stretches, latest, tokens, runs)
        whole = parted if max(row for *_, row in parted) + 1 < rows else whole
    return tuple(np.array(column, int) for column in zip(*whole, strict=True)) if whole else (np.zeros(0, int),) * 3


def _best_fit(stretches: Sequence[tuple[int, int]], latest: np.ndarray | None, tokens: Budget, runs: Budget):
    """(first, last, row) of each: the largest first, where the least is left over. `latest` allows cuts."""
    first, last = np.array(stretches, int).reshape(-1, 2).T
    sizes, counts = tokens.take(first, last).tolist(), runs.take(first, last).tolist()
    waiting = sorted(zip(sizes, (-first).tolist(), counts, last.tolist(), strict=True))
    free: list[tuple[int, int, int]] = []  # of each row: tokens, runs, which row
    out: list[tuple[int, int, int]] = []
    while waiting:
        size, a, count, b = waiting.pop()
        a = -a
        at = bisect_left(free, (size, count))
        while at < len(free) and free[at][1] < count:
            at += 1
        if at == len(free) and latest is not None and free:
            far = min(int(tokens.reach(a, free[-1][0])), int(runs.reach(a, free[-1][1])))
            stop = int(latest[far]) if far >= a else -1
            if stop >= a and tokens.above[stop + 1] <= WORTH * (part := int(tokens.take(a, stop))):
                rest = stop + 1, b
                insort(waiting, (int(tokens.take(*rest)), -rest[0], int(runs.take(*rest)), b))
                at, size, count, b = len(free) - 1, part, int(runs.take(a, stop)), stop
        left = free.pop(at) if at < len(free) else (tokens.limit, runs.limit, len(free))
        insort(free, (left[0] - size, left[1] - count, left[2]))
        out.append((a, b, left[2]))
    return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Runs of rows, in the order of rows and places. `N` runs of which each is one item, or a part's repeat of it."""

    item: Int[np.ndarray, "N"]
    own: Bool[np.ndarray, "N"]  # not repeated above another stretch
    row: Int[np.ndarray, "N"]
    index: Int[np.ndarray, "N"]  # within the row; the interval begins there
    leave: Int[np.ndarray, "N"]
    start: Int[np.ndarray, "N"]  # place of its first token
    length: Int[np.ndarray, "N"]
    parent: Int[np.ndarray, "N"]  # place of the token before its first one; -1 where a path begins


def lay_runs(items: Tables, first: Int[np.ndarray, "S"], last: Int[np.ndarray, "S"], row: Int[np.ndarray, "S"]) -> Runs:
    """The stretches first … last as runs of their rows, one after another in the order of the items."""
    order = np.argsort(row, kind="stable")
    first, last, row = first[order], last[order], row[order]
    size = last - first + 1
    stretch = np.repeat(np.arange(len(first)), size)
    item = np.arange(len(stretch)) + np.repeat(first - np.cumsum(size) + size, size)
    who, above = _above(items, first)
    stretch, item = np.concatenate([stretch, who]), np.concatenate([item, above])
    own = np.arange(len(item)) < len(item) - len(above)
    key = stretch * len(items) + item
    order = np.argsort(key, kind="stable")
    key, stretch, item, own = key[order], stretch[order], item[order], own[order]
    length, row = items.length[item].astype(np.int64), row[stretch]
    begins = np.flatnonzero(np.diff(row, prepend=-1))  # the first run of each row
    runs = np.diff(np.append(begins, len(row)))
    begin = np.repeat(begins, runs)
    start = np.cumsum(length) - length
    start -= start[begin]
    base = stretch * len(items)
    leave = np.searchsorted(key, base + items.end[item]) - begin
    up = items.parent[item]
    parent = np.searchsorted(key, base + up)
    parent = np.where(up < 0, -1, (start + length - 1)[np.minimum(parent, len(key) - 1)])
    index = np.arange(len(row)) - begin
    return Runs(
        item=item, own=own, row=row, index=index, leave=leave, start=start, length=length, parent=parent
    )  # fmt: skip


def _above(items: Tables, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which, item) of everything above the items `first`."""
    which, item = np.arange(len(first)), items.parent[first]
    whiches, found = [np.zeros(0, int)], [np.zeros(0, int)]
    for _ in range(int(items.level[first].max(initial=0))):
        which, item = which[item >= 0], item[item >= 0]
        whiches.append(which)
        found.append(item)
        item = items.parent[item]
    return np.concatenate(whiches), np.concatenate(found)
