"""difflib's matched length on a CPU: XLA's loops as `host.cpp` writes them, one pair after another, a word at a time.

Bit j of an element's mask says that b[j] is that element. A block of n rows that ends at row i of a is a bit that
survives mask(a[i]) & mask(a[i-1]) << 1 & ... & mask(a[i-n+1]) << n-1. The longest block is found by galloping, as in
`gallop.py`; a window that survived PROBE rows is asked for its first row before the others, which is what saves a loop
of one element against half of it.

On a CPU XLA dispatches every operation by itself, at up to a microsecond each: more than a row of the search takes.
A loop that it calls small it compiles into one function instead, where an operation costs a few nanoseconds. NATIVE
asks for that; an XLA that does not know these names computes the same, slower. In such a loop an array that is
written stays where it is only if nothing else reads it before that in the same trip: hence two loops for an expert.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Int, UInt32

NATIVE = {"inlineable": "false", "xla_cpu_small_call": "true"}
PROBE = 3  # rows a window survives before its first row is asked, too
WAITING = 16  # rectangles: the one with more rows waits, so one more than the bits of 4,096 are enough

U32, I32 = jnp.uint32, jnp.int32
EVERY = 0xFFFFFFFF
loop = lax.while_loop


class Expert(NamedTuple):
    """The masks of one b; element b[j] owns row j if its earliest column is j."""

    slots: Int[Array, "S"]  # hash table of earliest columns, -1 where free
    earliest: Int[Array, "B"]  # the column at which the element of column j occurs first
    count: Int[Array, "B"]  # of the element whose earliest column it is
    words: UInt32[Array, "F"]  # masks of W words; one row more is empty; all in a margin that shifted reads run into


class Rows(NamedTuple):
    """The masks of a's elements."""

    words: UInt32[Array, "F"]
    offset: Int[Array, "A"]  # where the mask of a[i] begins
    barrier: Int[Array, "A"]  # the last row up to i whose mask is empty, -1 if there is none


class Found(NamedTuple):
    matched: Int[Array, "P"]
    reads: Int[Array, "P"]  # masks read in the search, which is what a pair costs
    learned: Int[Array, "P"]  # 1 where the pair is the first one of its expert, whose masks it made


@partial(jax.jit, static_argnames="autojunk")
def search(a, a_len, b, b_len, b_index, *, autojunk: bool) -> Found:
    """M of each pair; an expert's masks are made once, however many pairs share it."""
    if 0 in a.shape or 0 in b.shape:
        return Found(*(jnp.zeros(a.shape[0], I32) for _ in Found._fields))
    by_expert = lax.sort((b_index, lax.iota(I32, a.shape[0])), num_keys=1)[1]
    found = _all_pairs(by_expert, a, a_len, b, b_len, b_index, autojunk=autojunk and b.shape[1] >= 200)
    return Found(*set_xla_metadata(found, **NATIVE).T)  # tags the call


@partial(jax.jit, static_argnames="autojunk")
def _all_pairs(order, a, a_len, b, b_len, b_index, *, autojunk: bool) -> Int[Array, "P 3"]:
    columns = b.shape[1]
    width = -(-columns // 32)
    zeros = lambda n, dtype=I32: jnp.zeros(n, dtype)
    slots = 1 << (2 * columns - 1).bit_length()
    expert = Expert(zeros(slots), zeros(columns), zeros(columns), zeros((columns + 4) * width + 3, U32))

    def step(state):
        n, out, current, expert, offset, barrier = state
        p = _at(order, n)
        q = _at(b_index, p)
        new = q != current
        expert = _learn(b, q, _at(b_len, q), new, expert, width)
        allowed = lax.div(_at(b_len, q), I32(100)) + 1
        allowed = jnp.where((_at(b_len, q) >= 200) & autojunk, allowed, columns)
        rows = _look_up(a, p, _at(a_len, p), b, q, expert, allowed, Rows(expert.words, offset, barrier), width)
        beside = partial(_prolong, a, p, b, q) if autojunk else None
        total, reads = _pair(rows, width, _at(a_len, p), _at(b_len, q), beside)
        out = lax.dynamic_update_slice(out, jnp.stack([total, reads, new.astype(I32)])[None], (p, I32(0)))
        return n + 1, out, q, expert, rows.offset, rows.barrier

    state = (I32(0), zeros((len(order), 3)), I32(-1), expert, zeros(a.shape[1]), zeros(a.shape[1]))
    return loop(lambda state: state[0] < len(order), step, state)[1]


def _at(x, *index):
    return lax.dynamic_slice(x, index, (1,) * x.ndim).reshape(())


def _put(x, value, *index):
    return lax.dynamic_update_slice(x, value.reshape((1,) * x.ndim), index)


def _margin(width: int) -> int:
    return width + 1


def _slot(element, slots: int):
    hashed = element.astype(U32) * U32(2654435761)
    return ((hashed ^ hashed >> 15) & U32(slots - 1)).astype(I32)


def _learn(b, q, length, new, expert: Expert, width: int) -> Expert:
    """The masks of row q of b, which are those of `expert` unless it is `new`."""
    count = expert.slots.shape[0]
    slots = jnp.where(new, -1, expert.slots)  # of an empty b, too: a search ends at a free slot
    length = jnp.where(new, length, 0)

    def meet(state):  # one slot tried: free, or of this element, or of another
        j, slot, owner, slots, earliest = state
        owner = jnp.where(owner < 0, j, owner)
        same = _at(b, q, owner) == _at(b, q, j)
        slots, earliest = _put(slots, owner, slot), _put(earliest, owner, j)
        j = j + same.astype(I32)
        slot = jnp.where(same, _slot(_at(b, q, j), count), (slot + 1) & (count - 1))
        return j, slot, _at(slots, slot), slots, earliest

    first = _slot(_at(b, q, I32(0)), count)
    state = (I32(0), first, _at(slots, first), slots, expert.earliest)
    *_, slots, earliest = loop(lambda state: state[0] < length, meet, state)
    word = lax.iota(I32, width)

    def mark(state):
        j, times, words = state
        owner = _at(earliest, j)
        at = _margin(width) + owner * width
        fresh = owner == j
        times = _put(times, jnp.where(fresh, 0, _at(times, owner)) + 1, owner)
        row = jnp.where(fresh, U32(0), lax.dynamic_slice(words, (at,), (width,)))
        row = row | jnp.where(word == j >> 5, U32(1) << (j & 31).astype(U32), U32(0))
        return j + 1, times, lax.dynamic_update_slice(words, row, (at,))

    state = (I32(0), expert.count, expert.words)
    _, times, words = loop(lambda state: state[0] < length, mark, state)
    return Expert(slots, earliest, times, words)


def _look_up(a, p, length, b, q, expert: Expert, allowed, rows: Rows, width: int) -> Rows:
    """An element that b lacks, or has more than `allowed` times, gets the empty mask."""
    count, columns = expert.slots.shape[0], b.shape[1]

    def step(state):
        i, last, offset, barrier = state
        element = _at(a, p, i)
        other = lambda owner: (owner >= 0) & (_at(b, q, owner) != element)
        slot = loop(
            lambda slot: other(_at(expert.slots, slot)), lambda slot: (slot + 1) & (count - 1), _slot(element, count)
        )
        owner = _at(expert.slots, slot)
        none = (owner < 0) | (_at(expert.count, owner) > allowed)
        last = jnp.where(none, i, last)
        at = _margin(width) + jnp.where(none, columns, owner) * width
        return i + 1, last, _put(offset, at, i), _put(barrier, last, i)

    state = (I32(0), I32(-1), rows.offset, rows.barrier)
    _, _, offset, barrier = loop(lambda state: state[0] < length, step, state)
    return Rows(expert.words, offset, barrier)


def _pair(rows: Rows, width: int, a_len, b_len, beside):
    """(M, masks read); `beside` is None, or the function that prolongs a block over equal neighbours."""

    def step(state):
        rectangle, depth, total, reads, stack = state
        top, bottom, left, right = rectangle
        i, j, size, read = _longest(rows, width, *rectangle)
        if beside is not None:
            i, j, size = beside(*rectangle, i, j, size)
        before, after = (top, i, left, j), (i + size, bottom, j + size, right)
        has_before = (size > 0) & (top < i) & (left < j)
        has_after = (size > 0) & (i + size < bottom) & (j + size < right)
        both, none = has_before & has_after, ~has_before & ~has_after
        smaller = jnp.where(both, i - top <= bottom - i - size, has_before)
        for k in range(4):  # what is written above the stack's depth is never read
            stack = _put(stack, jnp.where(smaller, after[k], before[k]), depth, I32(k))
        depth = depth + both.astype(I32)
        waiting = [_at(stack, lax.max(depth - 1, I32(0)), I32(k)) for k in range(4)]
        following = [jnp.where(smaller, x, y) for x, y in zip(before, after, strict=True)]
        rectangle = tuple(jnp.where(none, x, y) for x, y in zip(waiting, following, strict=True))
        return rectangle, depth - none.astype(I32), total + size, reads + read, stack

    zero = I32(0)
    some = ((a_len > 0) & (b_len > 0)).astype(I32)
    state = ((zero, a_len, zero, b_len), some - 1, zero, zero, jnp.zeros((WAITING, 4), I32))
    return loop(lambda state: state[1] >= 0, step, state)[2:4]


def _longest(rows: Rows, width: int, top, bottom, left, right):
    """(i, j, size) of the rectangle's longest block, size 0 at its corner if there is none; and the masks read."""
    start = 32 * lax.iota(I32, width)
    columns = _from(left, start) & ~_from(right, start)
    read = lambda at: lax.dynamic_slice(rows.words, (at,), (width,))

    def above(alive, i, back):
        """`alive` (bits are columns at row i) where row i - back matches, too."""
        at, shift = _at(rows.offset, i - back) - (back >> 5), (back & 31).astype(U32)
        return alive & (read(at) << shift | read(at - 1) >> 1 >> (31 - shift)) & _from(left + back, start)

    def below(alive, i, down):
        at, shift = _at(rows.offset, i + down) + (down >> 5), (down & 31).astype(U32)
        return alive & (read(at) >> shift | read(at + 1) << 1 << (31 - shift)) & ~_from(right - down, start)

    def walk(K, i, most, state):
        """Upwards, until no column is left or `most` + 1 rows have matched."""

        def step(state):
            t, alive, _ = state
            alive = above(alive, i, t)
            some = _any(alive)
            return t + some.astype(I32), alive, some

        return loop(lambda state: state[2] & (state[0] <= most), step, state)

    def grow(i, state):
        def step(state):
            down, alive, _ = state
            longer = below(alive, i, down + 1)
            some = _any(longer)
            return down + some.astype(I32), jnp.where(some, longer, alive), some

        return loop(lambda state: state[2] & (i + state[0] + 1 < bottom), step, state)

    def seek(K, i):
        """The first window from i on that no empty mask stops."""
        stopped = lambda i: (i < bottom) & (_at(rows.barrier, lax.min(i, bottom - 1)) >= i - K)
        return loop(stopped, lambda i: _at(rows.barrier, i) + K + 1, i)

    def window(state):
        K, i, first, end, best, reads = state
        t, alive, some = walk(K, i, lax.min(K, I32(PROBE - 1)), (I32(0), columns, jnp.bool_(True)))
        probe = some & (K > PROBE)
        hopeless = lax.cond(probe, lambda: ~_any(above(alive, i, K)), lambda: jnp.bool_(False))
        t, alive, some = walk(K, i, K, (t, alive, some & ~hopeless))
        down, alive, _ = grow(i, (I32(0), alive, some))
        reads = reads + t + down + probe.astype(I32) + 1
        # a window whose first row does not match says nothing of the next one
        beyond = jnp.where(some, i + down + 2, jnp.where(hopeless, i + 1, i - t + K + 1))
        first, end = jnp.where(some, i - K, first), jnp.where(some, i, end)
        best = jnp.where(some, alive, best)
        K = jnp.where(some, K + 1 + down, K)
        return K, seek(K, beyond), first, end, best, reads

    state = (I32(0), seek(I32(0), top), top, top, jnp.zeros(width, U32), I32(0))
    size, _, first, end, best, reads = loop(lambda state: state[1] < bottom, window, state)
    lowest = start + lax.population_count((best & -best) - 1).astype(I32)
    column = lax.reduce(jnp.where(best != 0, lowest, 1 << 30), I32(1 << 30), lax.min, (0,))
    return first, jnp.where(size > 0, column - (end - first), left), size, reads


def _from(p, start):
    """Words whose columns p, p + 1, ... are set; word w begins at column start[w]."""
    p = jnp.clip(p - start, 0, 32)
    return jnp.where(p == 32, U32(0), U32(EVERY) << (p & 31).astype(U32))


def _any(words):
    return lax.reduce(words, U32(0), lax.bitwise_or, (0,)) != 0


def _prolong(a, p, b, q, top, bottom, left, right, i, j, size):
    """The block with its equal neighbours, popular ones included."""
    d = j - i
    equal = lambda i: _at(a, p, i) == _at(b, q, i + d)
    first = loop(lambda i: (i > top) & (i + d > left) & equal(i - 1), lambda i: i - 1, i)
    end = loop(lambda i: (i < bottom) & (i + d < right) & equal(i), lambda i: i + 1, i + size)
    return first, first + d, end - first
