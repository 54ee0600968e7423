"""The learner's rows, planned from lengths and kept flags alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from jaxsrl.data.shapes import Shapes
from jaxsrl.data.stretches import Budget, Runs, cut, fit, lay_runs
from jaxsrl.data.tables import Tables, select
from jaxsrl.types import Metrics, Segments

LEVELS = 1.03, 1.07  # of the mean, what a row may hold where rows are levelled


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Batches for the learner. Each rollout that is kept is in one of them, whole."""

    batches: tuple[Segments, ...]
    rows: tuple[int, ...]  # of each batch, those of all processes
    metrics: Metrics


def plan(
    tables: Tables,
    length: Int[np.ndarray, "P"],
    kept: Bool[np.ndarray, "P"],
    trunk_used: Bool[np.ndarray, "M"],
    shapes: Shapes,
    *,
    whole_groups: bool = False,
    rows: Sequence[int] | None = None,
    parts: int = 1,
    held: Callable[[int], Sequence[bool]] | None = None,
) -> Plan:
    """Rows of the rollouts that are kept, of the target tokens in use, and of what stands above either.

    A tree too large for a row is cut between its leaves and its trunk repeated. A target token belongs to the first
    part that it is in; where it is repeated it is context.

    Args:
      length: tokens of each rollout; the cap of all of them makes the plan that holds whatever is sampled.
      trunk_used: demonstrations whose target tokens have weight.
      whole_groups: a group stays in one row.
      rows: of each batch, filled up with empty ones; None takes as few of `shapes.rows` as hold the step.
      parts: that work on rows of their own. Of several none is left with empty rows while others have full ones: rows
        are filled less, and all of them alike.
      held: (rows of a batch) -> which of them this process places; batches have these alone. None: all.
    Returns: batches, and what packing did: `pack/tokens`; `pack/tree_tokens`, the same without those repeated because
      a tree was cut; `pack/dense_tokens` of a row for each path; `pack/slots`, token places; `pack/cut_trees`.
    Raises: ValueError if a path or a group does not fit a row, or the step not the rows given.
    """
    items, ends = _wanted(tables, length, kept, trunk_used, whole_groups)
    tokens = Budget.of(items.length, items.position, shapes.tokens)
    runs = Budget.of(np.ones(len(items), int), items.level, shapes.runs)
    refuse = lambda first, last: _refusal(tokens, runs, first, last, whole_groups)
    first, last, row = _fitted(items, ends, tokens, runs, refuse)
    count = int(row.max(initial=-1)) + 1
    sizes = compose(count, shapes.rows) if rows is None else tuple(rows)
    if parts > 1 and 0 < count < sum(sizes):
        first, last, row = _levelled(items, ends, tokens, runs, sum(sizes), (first, last, row))
    if sum(sizes) < count:
        raise ValueError(
            f"{count} rows of {shapes.tokens} tokens are needed, and there are {sum(sizes)}: raise round_rows"
        )
    laid = lay_runs(items, first, last, row)
    here = [np.ones(size, bool) if held is None else np.asarray(held(size), bool) for size in sizes]
    whole = _segments(items, laid, np.concatenate([np.zeros(0, bool), *here]), shapes)
    edges = np.cumsum([0, *(mask.sum() for mask in here)])
    batches = tuple(
        Segments(**{name: value[a:b] for name, value in whole.items()})
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    )
    return Plan(batches=batches, rows=sizes, metrics=_metrics(items, laid, first, sum(sizes) * shapes.tokens))


def _fitted(items: Tables, ends, tokens: Budget, runs: Budget, refuse) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and last items of stretches, and their rows."""
    first, last = cut(items.demonstration, ends, (tokens, runs), refuse)
    return fit(first, last, ends, tokens, runs)


def _levelled(items: Tables, ends, tokens: Budget, runs: Budget, rows: int, found):
    """The same over all `rows`, each filled about alike; as found where that takes more of them."""
    mean = int(tokens.take(*found[:2]).sum()) / rows
    for more in LEVELS:
        lower = replace(tokens, limit=min(math.ceil(mean * more), tokens.limit))
        try:
            again = _fitted(items, ends, lower, runs, lambda *_: ValueError("a path is longer"))
        except ValueError:
            continue
        if int(again[2].max()) < rows:
            return again
    return found


def compose(count: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Batches of the given sizes, largest first, that hold `count` rows with as few empty ones as can be."""
    least = min(sizes)
    left = -(-count // least) * least
    out: list[int] = []
    for size in sorted(sizes, reverse=True):
        out += [size] * (left // size)
        left %= size
    return tuple(out) if left == 0 else (*out, least)


def _wanted(tables, length, kept, trunk_used, whole_groups) -> tuple[Tables, np.ndarray]:
    """The items that rows must hold, with the rollouts' lengths, and whether a stretch may end behind each."""
    leaf = tables.job >= 0
    job = np.maximum(tables.job, 0)
    size = np.where(leaf, np.asarray(length)[job], tables.length).astype(np.int32) if len(length) else tables.length
    carries = np.asarray(kept, bool)[job] & (size > 0) if len(length) else np.zeros(len(tables), bool)
    used = (tables.target >= 0) & np.asarray(trunk_used, bool)[tables.demonstration]
    wanted = np.where(leaf, carries, used)
    items, which = select(replace(tables, length=size), wanted)
    items = replace(items, target=np.where(used[which], items.target, -1))
    ends = wanted[which]
    if whole_groups:
        ends &= (items.group < 0) | (items.group != np.append(items.group[1:], -1))
    return items, ends


def _refusal(tokens: Budget, runs: Budget, first: int, last: int, whole_groups: bool) -> ValueError:
    what = "a path, or a group of completions that must not be parted," if whole_groups else "a path"
    need, count = int(tokens.take(first, last)), int(runs.take(first, last))
    if need > tokens.limit:
        return ValueError(
            f"{what} of {need} tokens does not fit a row of {tokens.limit}: raise tokens to at least {need}, or leave "
            "out or cut the demonstration"
        )
    return ValueError(f"{what} of {count} runs does not fit a row of {runs.limit}: raise runs to at least {count}")


def _segments(items: Tables, laid: Runs, here: Bool[np.ndarray, "R"], shapes: Shapes) -> dict[str, np.ndarray]:
    """Fields of `Segments` [R Z] of the rows that are `here`."""
    mine, number = here[laid.row], np.cumsum(here) - 1
    laid = laid if mine.all() else Runs(**{name: value[mine] for name, value in vars(laid).items()})
    values = {
        "start": laid.start,
        "length": laid.length,
        "source": items.source[laid.item],
        "rollout": items.job[laid.item],
        "target": np.where(laid.own, items.target[laid.item], -1),
        "position": items.position[laid.item],
        "enter": laid.index,
        "leave": laid.leave,
        "parent": laid.parent,
    }
    unused = {name: -1 for name in values} | {"start": shapes.tokens, "length": 0, "source": 0, "position": 0}
    out = {}
    for name, value in values.items():
        out[name] = np.full((here.sum(), shapes.runs), unused[name], np.int32)
        out[name][number[laid.row], laid.index] = value
    return out


def _metrics(items: Tables, laid: Runs, first: np.ndarray, slots: int) -> Metrics:
    inner = np.zeros(len(items), bool)
    inner[items.parent[items.parent >= 0]] = True
    dense = (items.position + items.length)[~inner]
    trees = np.bincount(items.demonstration[first]) if len(first) else np.zeros(0, int)
    return {
        "pack/tokens": int(laid.length.sum()),
        "pack/tree_tokens": int(items.length.sum()),
        "pack/dense_tokens": int(dense.sum()),
        "pack/cut_trees": int((trees > 1).sum()),
        "pack/slots": slots,
    }
