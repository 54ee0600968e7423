"""difflib's matched length in few large operations: the rectangles of one depth of the search at once, for all pairs.

run[i, j], the length of the common run that ends at (i, j), is made once, by doubling. In a rectangle from (top, left)
that run is min(run[i, j], i - top + 1, j - left + 1), so that one reduction over the columns gives the best of every
row, and a few operations over rows the best of every rectangle. These separate at least one row and column that are in
none, so a row belongs to one rectangle at most.

Pairs need as many passes as their search is deep: ordinary text up to 25, repeats of one period against another as
many as they have elements. So a chunk of pairs makes BUDGET passes, and the few that are not done go on in groups so
small that a pass costs next to nothing: a straggler there has the lanes of thousands to itself.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Int16

BUDGET = 32  # passes of a chunk
CHUNK = 1 << 27  # cells of a chunk's matrices: 256 MiB each, three with autojunk, and as much again while they are made
GROUP = 1 << 24  # cells of those that go on: one pair of 4,096 elements a side
BITS = 13  # of a length up to 4,096
LAST = (1 << BITS) - 1

I32 = jnp.int32


class Runs(NamedTuple):
    """Of each cell (i, j): elements in the runs on its diagonal, at most 4,096."""

    found: Int16[Array, "P A B"]  # that end here, without popular elements
    ending: Int16[Array, "P A B"] | None  # with them; None where no element can be popular
    beginning: Int16[Array, "P A B"] | None


class State(NamedTuple):
    """Of each row of a: the rectangle it is in, empty where it is in none."""

    top: Int[Array, "P A"]
    bottom: Int[Array, "P A"]
    left: Int[Array, "P A"]
    right: Int[Array, "P A"]
    total: Int[Array, "P"]


@partial(jax.jit, static_argnames=("autojunk", "budget", "chunk", "group"))
def with_passes(
    a, a_len, b, b_len, b_index, *, autojunk: bool, budget: int = BUDGET, chunk: int = CHUNK, group: int = GROUP
) -> tuple[Int[Array, "P"], Int[Array, ""]]:
    """(M, passes times the pairs that took part in each)."""
    pairs, cells = a.shape[0], a.shape[1] * b.shape[1]
    if not pairs * cells:
        return jnp.zeros(pairs, I32), I32(0)
    chunk, group = min(max(1, chunk // cells), pairs), min(max(1, group // cells), pairs)
    operands = (a, a_len, b_index)
    run = partial(_go_on, b, b_len, autojunk=autojunk and b.shape[1] >= 200)

    parts = jax.tree.map(partial(_split, size=chunk), operands)
    begin = lambda part: run(part, _begin(part[1], b_len[part[2]], a.shape[1]), budget)
    state, passes = lax.map(begin, parts)
    state = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:pairs], state)

    def few(carry):
        state, passes = carry
        order = lax.sort(((~_open(state)).astype(I32), lax.iota(I32, pairs)), num_keys=1)[1]
        some = order[:group]
        take = partial(jax.tree.map, lambda x: x[some])
        after, more = run(take(operands), take(state), jnp.iinfo(I32).max)
        return jax.tree.map(lambda x, y: x.at[some].set(y), state, after), passes + group * more

    state, passes = lax.while_loop(lambda carry: _open(carry[0]).any(), few, (state, chunk * passes.sum(dtype=I32)))
    return state.total, passes


def _split(x, size: int):
    """[P ...] as [chunks size ...], the last one filled up with empty pairs."""
    return jnp.pad(x, [(0, -x.shape[0] % size)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, size, *x.shape[1:])


def _begin(a_len, b_len, rows: int) -> State:
    inside = (lax.iota(I32, rows)[None] < a_len[:, None]) & (b_len[:, None] > 0)
    zero = jnp.zeros(inside.shape, I32)
    end = lambda length: jnp.where(inside, length[:, None], 0)
    return State(zero, end(a_len), zero, end(b_len), jnp.zeros(len(a_len), I32))


def _open(state: State) -> Bool[Array, "P"]:
    return (state.top < state.bottom).any(axis=1)


def _go_on(b, b_len, part, state: State, most, *, autojunk: bool):
    """(State, passes) after as many passes as these pairs need, or `most`."""
    a, a_len, b_index = part
    runs = _runs(a, a_len, b[b_index], b_len[b_index], autojunk)

    def more(carry):
        return (carry[1] < most) & _open(carry[0]).any()

    return lax.while_loop(more, lambda carry: (_pass(runs, carry[0]), carry[1] + 1), (state, I32(0)))


def _runs(a, a_len, b, b_len, autojunk: bool) -> Runs:
    inside = lambda x, length: lax.broadcasted_iota(I32, x.shape, 1) < length[:, None]
    equal = a[:, :, None] == b[:, None, :]
    equal &= inside(a, a_len)[:, :, None] & inside(b, b_len)[:, None, :]
    if not autojunk:
        return Runs(_ending(equal), None, None)
    n = b_len[:, None]
    popular = (n >= 200) & (equal.sum(axis=2, dtype=I32) > n // 100 + 1)
    backwards = lambda x: x[:, ::-1, ::-1]
    return Runs(_ending(equal & ~popular[:, :, None]), _ending(equal), backwards(_ending(backwards(equal))))


def _ending(match: Bool[Array, "P A B"]) -> Int16[Array, "P A B"]:
    """Runs of at most k are known; a full one goes on with the run that ends k cells further up."""
    run, k = match.astype(jnp.int16), 1
    while k < min(match.shape[1:]):
        above = jnp.pad(run[:, :-k, :-k], ((0, 0), (k, 0), (k, 0)))
        run = lax.optimization_barrier(run + jnp.where(run == k, above, 0))  # or all steps are fused, and done again
        k *= 2
    return run


def _pass(runs: Runs, s: State) -> State:
    """Each rectangle's longest block is counted, and the rectangle becomes the two beside it."""
    i, j, size = _longest(runs.found, s)
    if runs.ending is not None:
        cell = lambda x, i, j: x[jnp.arange(len(x))[:, None], jnp.maximum(i, 0), jnp.maximum(j, 0)].astype(I32)
        up = jnp.minimum(cell(runs.ending, i - 1, j - 1), jnp.minimum(i - s.top, j - s.left))
        room = jnp.minimum(s.bottom - i, s.right - j) - size
        down = jnp.minimum(cell(runs.beginning, i + size, j + size), room)
        i, j, size = i - up, j - up, size + up + down
    row = _rows(s)
    before = (size > 0) & (row < i) & (s.left < j)
    after = (size > 0) & (row >= i + size) & (row < s.bottom) & (j + size < s.right)
    either = lambda x, y: jnp.where(before, x, jnp.where(after, y, 0))
    here = (s.top < s.bottom) & (row == s.top)
    return State(
        top=either(s.top, i + size),
        bottom=either(i, s.bottom),
        left=either(s.left, j + size),
        right=either(j, s.right),
        total=s.total + jnp.where(here, size, 0).sum(axis=1, dtype=I32),
    )


def _rows(s: State) -> Int[Array, "P A"]:
    return lax.broadcasted_iota(I32, s.top.shape, 1)


def _longest(found: Int16[Array, "P A B"], s: State):
    """(i, j, size), each [P A]: of the rectangle that a row is in, the earliest in a, then in b; else its corner."""
    row, column = _rows(s), lax.broadcasted_iota(I32, found.shape, 2)
    inside = s.top < s.bottom
    clipped = jnp.minimum((row - s.top)[:, :, None], column - s.left[:, :, None]) + 1
    clipped = jnp.minimum(found.astype(I32), clipped)
    clipped = jnp.where(column < s.right[:, :, None], clipped, 0)
    best = jnp.max(clipped << BITS | LAST - column, axis=2)  # the longest that ends in a row; of these, the leftmost
    length, end_column = jnp.maximum(best >> BITS, 0), LAST - (best & LAST)
    at = partial(jnp.take_along_axis, axis=1)
    so_far = lax.cummax(jnp.where(inside, s.top << BITS | length, -1), axis=1)  # tops ascend
    size = at(so_far, jnp.maximum(s.bottom - 1, 0)) & LAST
    hit = jnp.where(inside & (length == size), row, found.shape[1] - 1)
    end = at(lax.cummin(hit, axis=1, reverse=True), s.top)
    j = at(end_column, end) - size + 1
    some = size > 0
    return jnp.where(some, end - size + 1, s.top), jnp.where(some, j, s.left), jnp.where(some, size, 0)
