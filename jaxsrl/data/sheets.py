"""Arrays of sheets: which slot a rollout grows in, what its prompt is, with whom it is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from jaxsrl.data.prompt_rows import Placed
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.stretches import lay_runs
from jaxsrl.data.tables import Forest
from jaxsrl.types import BranchPoint, Demonstration, Form, Groups, Tree

FORMS: tuple[Form, ...] = ("action", "solve")


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """Branch points of a round, by demonstration and in their order; each is a group. `N` of them."""

    demonstration: Int[np.ndarray, "N"]
    form: Int[np.ndarray, "N"]  # index into FORMS
    after: Int[np.ndarray, "N"]
    samples: Int[np.ndarray, "N"]
    item: Int[np.ndarray, "N"]  # the node they hang off
    hash: Int[np.ndarray, "N 2"]  # words of the prompt's content


@dataclass(frozen=True, kw_only=True, eq=False)
class Seats:
    """The rollouts of a round by group and sample, `J` of them. Jobs are counted over all sheets."""

    item: Int[np.ndarray, "N"]  # of each branch point: its node among those that prompts need
    group: Int[np.ndarray, "J"]  # index into `Drawn`
    column: Int[np.ndarray, "J"]  # place in the group
    job: Int[np.ndarray, "J"]


def draw(trees: Sequence[Tree], points: Sequence[Sequence[BranchPoint]], forest: Forest) -> Drawn:
    rows: list[tuple[int, ...]] = []
    for m, (tree, drawn) in enumerate(zip(trees, points, strict=True)):
        words = _prompt_words(tree, {tree.branch[point.form, point.after] for point in drawn})
        for point in drawn:
            node = tree.branch[point.form, point.after]
            form = FORMS.index(point.form)
            rows.append((m, form, point.after, point.samples, int(forest.place[m][node]), *words[node]))
    table = np.array(rows, np.int64).reshape(-1, 7)
    return Drawn(
        demonstration=table[:, 0], form=table[:, 1], after=table[:, 2], samples=table[:, 3], item=table[:, 4],
        hash=table[:, 5:],
    )  # fmt: skip


def _prompt_words(tree: Tree, wanted: set[int]) -> dict[int, tuple[int, int]]:
    """64 bits of the content of the paths to some nodes, as two words. A path goes on where its parent's ended."""
    state: list = []
    for node in tree.nodes[: max(wanted, default=-1) + 1]:
        mine = state[node.parent].copy() if node.parent >= 0 else hashlib.blake2b(digest_size=8)
        mine.update(np.ascontiguousarray(node.token, np.int32).tobytes())
        state.append(mine)
    words = lambda digest: (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"))
    return {node: words(state[node].digest()) for node in wanted}


def seat(placed: Placed, drawn: Drawn, shapes: Shapes) -> Seats:
    """Slots of a row go to its groups in the order of their nodes."""
    group = np.repeat(np.arange(len(drawn.item)), drawn.samples)
    column = np.arange(len(group)) - np.repeat(np.cumsum(drawn.samples) - drawn.samples, drawn.samples)
    item = np.searchsorted(placed.which, drawn.item)
    row = _row_of(placed)[item]
    order = np.lexsort((item, row))
    taken = np.cumsum(drawn.samples[order]) - drawn.samples[order]
    first = np.searchsorted(row[order], row[order])
    slot = np.empty(len(order), int)
    slot[order] = taken - taken[first]
    return Seats(item=item, group=group, column=column, job=(row * shapes.slots + slot)[group] + column)


def _row_of(placed: Placed) -> np.ndarray:
    """The row in which each item is itself, not repeated for others."""
    order = np.argsort(placed.first)
    return np.repeat(placed.row[order], (placed.last - placed.first + 1)[order])


def address(
    drawn: Drawn, seats: Seats, refill: int, positions: Int[np.ndarray, "M"], offsets: Int[np.ndarray, "M"]
) -> Int[np.ndarray, "J 6"]:
    """uint32 words that name a rollout's noise: round, position, prompt (2), branch point, sample."""
    g = seats.group
    m = drawn.demonstration[g]
    columns = (np.full(len(g), refill), positions[m], *drawn.hash[g].T, drawn.after[g], seats.column + offsets[m])
    return (np.stack(columns, axis=1).astype(np.int64) & 0xFFFFFFFF).astype(np.uint32)


def prompts(
    forest: Forest, placed: Placed, seats: Seats, words: Int[np.ndarray, "J 6"], shapes: Shapes,
    held: Bool[np.ndarray, "R"] | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Fields of `Prompts` [S R T], [S R K], of the rows `held` alone; None holds all."""
    rows, tokens, slots = placed.sheets * shapes.prompt_rows, shapes.prompt_tokens, shapes.slots
    items = placed.items
    laid = lay_runs(items, placed.first, placed.last, placed.row)
    here = np.ones(rows, bool) if held is None else np.tile(held, placed.sheets)
    each, number, which = here.sum() // max(placed.sheets, 1), np.cumsum(here) - 1, np.flatnonzero(here[laid.row])
    length = laid.length[which]
    run = np.repeat(which, length)
    offset = np.arange(len(run)) - np.repeat(np.cumsum(length) - length, length)
    at = (number[laid.row] * tokens + laid.start)[run] + offset
    fields = {
        "token": (0, forest.token[items.source[laid.item][run] + offset]),
        "position": (0, items.position[laid.item][run] + offset),
        "enter": (-1, laid.index[run]),
        "leave": (-1, laid.leave[run]),
    }
    out = {}
    for name, (empty, value) in fields.items():
        out[name] = np.full(here.sum() * tokens, empty, np.int32)
        out[name][at] = value
        out[name] = out[name].reshape(placed.sheets, each, tokens)
    own = np.empty(len(items), int)  # the run that each item is itself
    own[laid.item[laid.own]] = np.flatnonzero(laid.own)
    mine = own[seats.item][seats.group]
    of_slots = {
        "slot_parent": (0, (laid.start + laid.length - 1)[mine]),
        "slot_enter": (-1, laid.index[mine]),
        "slot_active": (False, True),
        "slot_address": (np.uint32(0), words),
    }
    for name, (empty, value) in of_slots.items():
        dtype = {"slot_active": bool, "slot_address": np.uint32}.get(name, np.int32)
        flat = np.full((rows * slots, *np.shape(value)[1:]), empty, dtype)
        flat[seats.job] = value
        flat = flat.reshape(rows, slots, *flat.shape[1:])[here]
        out[name] = flat.reshape(placed.sheets, each, *flat.shape[1:])
    return out


def groups(
    drawn: Drawn, seats: Seats, sheets: int, shapes: Shapes, refill: int, positions: Int[np.ndarray, "M"]
) -> tuple[Groups, Int[np.ndarray, "N"]]:
    """Groups of all sheets, each with its room, rollouts and groups counted over all; and where each branch point is.

    Raises: ValueError if a sheet holds more groups, or a group more rollouts, than there is room for.
    """
    first = seats.job[seats.column == 0]
    sheet, order = first // shapes.jobs, np.argsort(first)
    number = np.empty(len(order), int)
    number[order] = np.arange(len(order)) - np.searchsorted(sheet[order], sheet[order])
    for name, need in (("groups", number.max(initial=-1) + 1), ("group_size", drawn.samples.max(initial=0))):
        if need > vars(shapes)[name]:
            raise ValueError(f"a sheet takes {name}={need}, and shapes.{name} is {vars(shapes)[name]}: raise it")
    number += sheet * shapes.groups
    count, jobs = sheets * shapes.groups, sheets * shapes.jobs
    words = (np.full(len(order), refill), positions[drawn.demonstration], *drawn.hash.T, drawn.after)
    mine = number[seats.group]
    made = Groups(
        member=scatter((mine, seats.column), seats.job, (count, shapes.group_size)),
        present=scatter((mine, seats.column), True, (count, shapes.group_size), bool),
        demonstration=scatter(number, drawn.demonstration, count),
        hash=scatter(number, _mix(words), count, np.uint32),
        group=scatter(seats.job, mine, jobs),
        column=scatter(seats.job, seats.column, jobs),
        active=scatter(seats.job, True, jobs, bool),
    )
    return made, number


def groups_of_sheet(whole: Groups, sheet: int, shapes: Shapes) -> Groups:
    """Those of one sheet, rollouts and groups counted within it."""
    q = slice(sheet * shapes.groups, (sheet + 1) * shapes.groups)
    p = slice(sheet * shapes.jobs, (sheet + 1) * shapes.jobs)
    return Groups(
        member=np.where(whole.present[q], whole.member[q] - p.start, 0), present=whole.present[q],
        demonstration=whole.demonstration[q], hash=whole.hash[q],
        group=np.where(whole.active[p], whole.group[p] - q.start, 0), column=whole.column[p], active=whole.active[p],
    )  # fmt: skip


def scatter(at, value, shape, dtype=np.int32) -> np.ndarray:
    """Zeros with the values where they belong."""
    out = np.zeros(shape, dtype)
    out[at] = value
    return out


def _mix(words: Sequence[np.ndarray]) -> np.ndarray:
    """uint32 of several words a row: murmur3's rounds and its end, with the words taken modulo 2^32."""
    turn = lambda x, n: (x << np.uint32(n)) | (x >> np.uint32(32 - n))
    out = np.zeros(len(words[0]), np.uint32)
    for word in words:
        k = (np.asarray(word, np.int64) & 0xFFFFFFFF).astype(np.uint32)
        k = turn(k * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        out = turn(out ^ k, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    out = (out ^ (out >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    out = (out ^ (out >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return out ^ (out >> np.uint32(16))


def experts(
    demonstrations: Sequence[Demonstration], drawn: Drawn, number: Int[np.ndarray, "N"], sheets: int, shapes: Shapes
) -> tuple[Int[np.ndarray, "S Q B"], Int[np.ndarray, "S Q"]]:
    """Code points of the expert's next action, as many as there is room for, and how many it has.

    The last action where a whole solution is written: it holds the answer. Empty behind the last action, and where
    there is no room at all.
    """
    code = np.zeros((sheets * shapes.groups, shapes.code_points), np.int32)
    length = np.zeros(sheets * shapes.groups, np.int32)
    if shapes.code_points:
        for m, form, after, q in zip(drawn.demonstration, drawn.form, drawn.after, number, strict=True):
            actions = demonstrations[m].actions
            if after >= len(actions):
                continue
            action = actions[after if FORMS[form] == "action" else -1]
            text = np.frombuffer(action.strip().encode("utf-32-le", "surrogatepass"), np.int32)
            length[q] = len(text)
            code[q, : len(text)] = text[: shapes.code_points]
    return code.reshape(sheets, shapes.groups, shapes.code_points), length.reshape(sheets, shapes.groups)
