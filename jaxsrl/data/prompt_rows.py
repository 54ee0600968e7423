"""Which trunks share a prompt row, and which rows a sheet: the sampler's jobs under two budgets, tokens and slots."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from jaxsrl.data.stretches import Budget, cut
from jaxsrl.data.tables import Tables, select

ROUNDING = 1e-9  # shares of a row are sums of fractions
# What makes a stretch large, given its shares of a row's tokens and slots.
ORDERS = (np.maximum, np.add, lambda tokens, slots: tokens, lambda tokens, slots: slots)


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Stretches of trunk nodes and their rows; row r is of sheet r // R."""

    items: Tables  # nodes that prompts need
    which: Int[np.ndarray, "L"]  # which items they are in the tables they were taken from
    first: Int[np.ndarray, "S"]
    last: Int[np.ndarray, "S"]
    row: Int[np.ndarray, "S"]
    sheets: int


def place(
    nodes: Tables,
    samples: Int[np.ndarray, "I"],
    *,
    prompt_rows: int,
    prompt_tokens: int,
    slots: int,
    sheets: int | None = None,
) -> Placed:
    """Puts every branch point's prompt into a row, as few sheets as do.

    A tree stays in one row where that is possible; where it is not it is cut between branch points, whose rollouts stay
    together.

    Args:
      samples: rollouts that start behind each node.
      sheets: exactly so many; None takes what is needed.
    Raises: ValueError if a prompt is longer than a row, a branch point wants more rollouts than a row has slots, or the
      sheets given do not hold all.
    """
    items, which = select(nodes, samples > 0)
    samples = samples[which]
    tokens = Budget.of(items.length, items.position, prompt_tokens)
    jobs = Budget.of(samples, np.zeros(len(items), int), slots)
    refuse = lambda first, last: _refusal(tokens, jobs, first, last)
    first, last = cut(items.demonstration, samples > 0, (tokens, jobs), refuse)
    latest = np.maximum.accumulate(np.where(samples > 0, np.arange(len(items)), -1))
    share = max(tokens.take(first, last).sum() / prompt_tokens, jobs.take(first, last).sum() / slots)
    count = max(-(-int(np.ceil(share)) // prompt_rows), 1) if len(first) else 0
    if sheets is not None:
        count = max(sheets, count)
    assign = lambda rows: _assign(first, last, latest, tokens, jobs, rows)
    while isinstance(found := assign(count * prompt_rows), float):
        count += max(int(found / 2) // prompt_rows, 1)
    if sheets is not None and count > sheets:
        raise ValueError(
            f"the round takes {count} sheets of {prompt_rows} rows of {prompt_tokens} tokens and {slots} slots, and "
            f"there are {sheets}: raise sheets to at least {count}"
        )
    return Placed(items=items, which=which, first=found[0], last=found[1], row=found[2], sheets=count)


def _refusal(tokens: Budget, jobs: Budget, first: int, last: int) -> ValueError:
    need, samples = int(tokens.take(first, last)), int(jobs.take(first, last))
    if samples > jobs.limit:
        return ValueError(
            f"a branch point of {samples} rollouts does not fit a prompt row of {jobs.limit} slots: raise slots to at "
            f"least {samples}, or draw fewer"
        )
    return ValueError(
        f"a prompt of {need} tokens does not fit a prompt row of {tokens.limit}: raise prompt_tokens to at least "
        f"{need}, or leave out or cut the demonstration"
    )


def _assign(first, last, latest, tokens: Budget, jobs: Budget, rows: int):
    """First and last items and rows of all stretches, by the first rule that finds room.

    If none does: how much is left over, in rows.
    """
    over = []
    for order in ORDERS:
        found = _assign_in(order, first, last, latest, tokens, jobs, rows)
        if not isinstance(found, float):
            return found
        over.append(found)
    return min(over)


def _assign_in(order, first, last, latest, tokens: Budget, jobs: Budget, rows: int):
    """Largest first, where what is free looks most like what is taken, so that tokens and slots run out together."""
    limit = np.array([tokens.limit, jobs.limit], float)
    takes = lambda a, b: np.array([tokens.take(a, b), jobs.take(a, b)]) / limit.reshape(2, *(1,) * np.ndim(a))
    size = lambda a, b: order(*takes(a, b))
    waiting = sorted(zip((-size(first, last)).tolist(), first.tolist(), last.tolist(), strict=True))
    free = np.ones((2, rows))
    out: list[tuple[int, int, int]] = []
    while waiting:
        _, a, b = waiting.pop(0)
        need = takes(a, b)
        fits = (free >= need[:, None] - ROUNDING).all(axis=0)
        if fits.any():
            alike = need @ free / np.maximum(np.sqrt((free**2).sum(axis=0)), ROUNDING)
            row = int(np.where(fits, alike, -1.0).argmax())
        else:
            left = np.floor(free * limit[:, None] + 0.5)
            far = np.minimum(np.minimum(tokens.reach(a, left[0]), jobs.reach(a, left[1])), b)
            stop = np.where(far < a, -1, latest[far])
            row = int(stop.argmax())
            if stop[row] < a:
                return float(takes(*np.array([(a, b), *(rest[1:] for rest in waiting)]).T).max(axis=0).sum())
            rest = int(stop[row]) + 1, b
            insort(waiting, (-float(size(*rest)), *rest))
            b = int(stop[row])
            need = takes(a, b)
        free[:, row] -= need
        out.append((a, b, row))
    return tuple(np.array(column, int) for column in zip(*out, strict=True)) if out else (np.zeros(0, int),) * 3
