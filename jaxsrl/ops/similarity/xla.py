"""Exact difflib matching as a state machine of vector operations: jit- and vmap-able, static shapes.

Diagonal d of A + B - 1 holds the cells (i, j) with j = d + i - (A - 1), so a block is a run of rows on one diagonal.
A rectangle's longest block is found by galloping: a block longer than the best so far needs `length + 1` rows in a
run, tested from the last one upwards; where the test dies at row z, every window over z is dead, and the next one to
test begins below z. Ordinary text costs about 2.5 row operations per row of a.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

ROWS = 8  # row operations between two checks for finished rectangles; a pair that finishes earlier waits
CPU_CELLS = 8192  # diagonals in lockstep on a CPU: what fills a loop trip; more only wait for the chunk's straggler


class Pair(NamedTuple):
    a: Int[Array, "A"]
    b: Int[Array, "A+B+A-2"]  # A - 1 zeros on both sides, so that a row's diagonals are one slice of it
    live: Bool[Array, "A"]  # a[i] is not popular in b


class Search(NamedTuple):
    """The longest block of one rectangle, so far."""

    length: Int[Array, ""]
    start: Int[Array, ""]  # its first row
    found: Bool[Array, "D"]  # the diagonals it lies on
    end: Int[Array, ""]  # last row of the window under test
    row: Int[Array, ""]  # the row to look at next
    alive: Bool[Array, "D"]  # diagonals on which every row looked at matches
    growing: Bool[Array, ""]  # the window passed; rows are added below it


class State(NamedTuple):
    running: Bool[Array, ""]
    total: Int[Array, ""]
    rectangle: Int[Array, "4"]  # first row, end row, first column, end column
    stack: Int[Array, "S 4"]  # the larger child waits, so log2(A) + 1 are enough
    depth: Int[Array, ""]
    search: Search


@partial(jax.jit, static_argnames="autojunk")
def matched_length(a, a_len, b, b_len, b_index, *, autojunk: bool) -> Int[Array, "P"]:
    a, a_len, b, b_len, b_index = (jnp.asarray(x, jnp.int32) for x in (a, a_len, b, b_len, b_index))
    b, b_len = b[b_index], b_len[b_index]
    if 0 in a.shape or 0 in b.shape:
        return jnp.zeros(a.shape[0], jnp.int32)
    autojunk = autojunk and b.shape[1] >= 200
    live = ~_popular(a, b, b_len) if autojunk else jnp.ones(a.shape, bool)
    every = jax.vmap(partial(_matched, autojunk=autojunk))
    return lax.platform_dependent(a, a_len, b, b_len, live, cpu=partial(_in_chunks, every), default=every)


def _in_chunks(function, *args):
    """function(*args) over a few pairs at a time, the last chunk filled up with empty pairs."""
    rows = args[0].shape[0]
    size = max(1, CPU_CELLS // (args[0].shape[1] + args[2].shape[1]))
    if rows <= size:
        return function(*args)
    chunks = -(-rows // size)
    fill = [jnp.pad(x, [(0, chunks * size - rows)] + [(0, 0)] * (x.ndim - 1)) for x in args]
    parts = [x.reshape(chunks, size, *x.shape[1:]) for x in fill]
    return lax.map(lambda part: function(*part), tuple(parts)).reshape(-1)[:rows]


def _popular(a, b, b_len) -> Bool[Array, "P A"]:
    """Whether a[i] occurs more than b_len // 100 + 1 times in a b of 200 elements or more; counted by sorting b."""
    n = b_len[:, None]
    last = jnp.iinfo(jnp.int32).max
    ordered = jnp.sort(jnp.where(jnp.arange(b.shape[1])[None] < n, b, last), axis=1)

    def rank(side):  # padding sorts last; min() takes it out even where an element equals it
        return jnp.minimum(jax.vmap(partial(jnp.searchsorted, side=side, method="sort"))(ordered, a), n)

    return (n >= 200) & (rank("right") - rank("left") > n // 100 + 1)


def _matched(a, a_len, b, b_len, live, *, autojunk: bool) -> Int[Array, ""]:
    margin = a.shape[0] - 1
    pair = Pair(a, jnp.pad(b, (margin, margin)), live)
    zero = jnp.int32(0)
    nowhere = jnp.zeros(a.shape[0] + b.shape[0] - 1, bool)
    search = Search(zero, zero, nowhere, zero, zero, nowhere, jnp.bool_(False))
    stack = jnp.zeros((a.shape[0].bit_length() + 1, 4), jnp.int32)
    state = State((a_len > 0) & (b_len > 0), zero, jnp.stack([zero, a_len, zero, b_len]), stack, zero, search)

    def step(state):
        state = state._replace(search=_gallop(pair, state.rectangle, state.search))
        finished = state.running & (state.search.end >= state.rectangle[1])
        return lax.cond(finished, partial(_split, pair, autojunk=autojunk), lambda s: s, state)

    return lax.while_loop(lambda s: s.running, step, state).total


def _gallop(pair, rectangle, search):
    """Up to ROWS row operations, fewer when the rectangle is done."""

    def more(carry):
        count, search = carry
        return (count < ROWS) & (search.end < rectangle[1])

    def step(carry):
        count, search = carry
        return count + 1, _look_at_row(pair, rectangle, search)

    return lax.while_loop(more, step, (jnp.int32(0), search))[1]


def _look_at_row(pair, rectangle, s):
    matches = _row(pair, rectangle, s.row)
    alive = jnp.where((s.row == s.end) & ~s.growing, matches, s.alive & matches)
    some = alive.any()
    longer = some & (s.growing | (s.row <= s.end - s.length))  # all length + 1 rows match
    upwards = some & ~longer
    skip = jnp.where(s.growing, s.end + 1, s.row + s.length + 1)
    end = jnp.where(longer, s.end + 1, jnp.where(upwards, s.end, skip))
    return Search(
        length=s.length + longer,
        start=jnp.where(longer, s.end - s.length, s.start),
        found=jnp.where(longer, alive, s.found),
        end=end,
        row=jnp.where(upwards, s.row - 1, end),
        alive=alive,
        growing=longer,
    )


def _row(pair, rectangle, i) -> Bool[Array, "D"]:
    """The diagonals on which row i has a match inside the rectangle that may begin or carry a block."""
    rows = pair.a.shape[0]
    i = jnp.clip(i, 0, rows - 1)
    diagonals = pair.b.shape[0] - rows + 1
    column = jnp.arange(diagonals, dtype=jnp.int32) + (i - (rows - 1))
    end = jnp.where(pair.live[i], rectangle[3], 0)
    return (lax.dynamic_slice(pair.b, (i,), (diagonals,)) == pair.a[i]) & (column >= rectangle[2]) & (column < end)


def _split(pair, state, *, autojunk: bool):
    """Counts the block that was found and goes on with the smaller of the two rectangles beside it."""
    top, bottom, left, right = state.rectangle
    s = state.search
    lowest = jnp.argmax(s.found).astype(jnp.int32)  # the earliest column: diagonals ascend with it
    i = jnp.where(s.length > 0, s.start, top)
    j = jnp.where(s.length > 0, lowest + i - (pair.a.shape[0] - 1), left)
    size = s.length
    if autojunk:
        i, j, size = _prolong(pair, state.rectangle, i, j, size)
    before = jnp.stack([top, i, left, j])
    after = jnp.stack([i + size, bottom, j + size, right])
    has_before = (size > 0) & (top < i) & (left < j)
    has_after = (size > 0) & (i + size < bottom) & (j + size < right)
    both, none = has_before & has_after, ~has_before & ~has_after
    before_first = jnp.where(both, i - top <= bottom - i - size, has_before)
    here = (jnp.arange(state.stack.shape[0]) == state.depth) & both
    stack = jnp.where(here[:, None], jnp.where(before_first, after, before)[None], state.stack)
    waiting = stack[jnp.maximum(state.depth - 1, 0)]
    rectangle = jnp.where(none, waiting, jnp.where(before_first, before, after))
    zero = jnp.zeros_like(size)
    return State(
        running=state.running & ~(none & (state.depth == 0)),
        total=state.total + size,
        rectangle=rectangle,
        stack=stack,
        depth=jnp.maximum(state.depth + both - none, 0),
        search=s._replace(length=zero, end=rectangle[0], row=rectangle[0], growing=jnp.zeros_like(s.growing)),
    )


def _prolong(pair, rectangle, i, j, size):
    """The block with its equal neighbours on the diagonal, popular ones included; all rows compared at once."""
    top, bottom, left, right = rectangle
    rows = jnp.arange(pair.a.shape[0], dtype=jnp.int32)
    column = rows + (j - i)
    beside = lax.dynamic_slice(pair.b, (j - i + pair.a.shape[0] - 1,), pair.a.shape)
    equal = (beside == pair.a) & (column >= left) & (column < right) & (rows >= top) & (rows < bottom)
    first = jnp.max(jnp.where(~equal & (rows < i), rows, top - 1)) + 1
    end = jnp.minimum(jnp.min(jnp.where(~equal & (rows >= i + size), rows, bottom)), bottom)
    first = jnp.maximum(first, top)
    return first, j - (i - first), end - first
