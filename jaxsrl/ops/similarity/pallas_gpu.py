"""difflib's matched length as one Mosaic GPU kernel: one pair per warpgroup, no scratch memory, any length to 4096.

Bit j of `row(i)` says that a[i] == b[j]; 128 lanes of 32 bits hold the 4096 columns of one row. A block of n rows that
ends at row i is a bit that survives `row(i) & row(i-1) << 1 & ... & row(i-n+1) << n-1`.

Gallop. The longest block of a rectangle is looked for with K, the longest length so far: a better one needs K + 1 rows.
The window that ends at row i is tested from its last row upwards. Where the conjunction dies at row z, every window
over z..i is dead, so the next one to test ends at z + K + 1. Where it survives, rows are added below it while it lives;
K grows, and the first row that reached the final K, lowest column first, is difflib's choice. Of the two rectangles
beside a block the larger waits on a stack, which so never holds more than log2(A) + 1 = 13; it is a vector with one
rectangle a lane. Popular elements (autojunk) have no bits; a found block is then prolonged over whatever is equal.

Barriers. Most windows die because an element or two neighbours of them are nowhere in b, whatever the rectangle. The
last such row up to i is known beforehand (`barriers`), so that these windows cost one scalar each.

Several rows a step. The conjunction only ever loses bits, so the largest number of rows that any lane survived tells
where it died: one reduction over the lanes serves LOOK rows, and WALK or GROW where these all survive. Within a step
bits left of the rectangle may live on; this only delays the death, so that the next window may be tested in vain, and
none is skipped. They are removed with the last row of the step.

Memory. The rows of an expert are kept once per distinct element, W = B / 32 words each, one behind the other; a[i]
is the offset of its row. A row is read at any shift by two loads of 128 words, which run over into the neighbours'
words: these are always outside the rectangle's columns. A straggler has its warpgroup to itself and stalls no other.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jaxtyping import Array, Int

from jaxsrl.ops.similarity.batching import joins_pairs
from jaxsrl.ops.similarity.expert import Expert, position, study

LANES = 128
LONGEST = 32 * LANES  # elements a side: one vector holds one row
LOOK = 2  # rows of a window tested at first: most windows that no barrier stops die within these, or are hits
WALK = 8  # rows tested at a time in a window that survived LOOK; they are read at once, which is what a straggler needs
GROW = 4  # rows added at a time below a window that passed
TABLE_WORDS = 1 << 29  # of all experts' rows: 2 GiB; above it pairs go in chunks, each with its own experts

U32, I32 = jnp.uint32, jnp.int32
EVERY = 0xFFFFFFFF


def matched_length(
    a: Int[Array, "P A"],
    a_len: Int[Array, "P"],
    b: Int[Array, "Q B"],
    b_len: Int[Array, "Q"],
    b_index: Int[Array, "P"],
    *,
    autojunk: bool,
    _interpret: bool = False,
) -> Int[Array, "P"]:
    """M of each pair, as `jaxsrl.ops.similarity.matched_length` defines it.

    Under `shard_map` over the pairs say `check_vma=False`; vmap adds its axis to the pairs.

    Args:
      _interpret: for tests alone: the same kernel body, run by Pallas' interpreter on whatever device there is.
    Raises: RuntimeError on a machine without an NVIDIA GPU, ValueError above 4,096 elements a side.
    """
    if max(a.shape[1], b.shape[1]) > LONGEST:
        raise ValueError(f"sequences above {LONGEST} elements: a {a.shape}, b {b.shape}; cut them or use 'reference'")
    if not _interpret and jax.default_backend() != "gpu":
        raise RuntimeError(f"'pallas_gpu' needs an NVIDIA GPU, this is {jax.default_backend()!r}; use backend='xla'")
    impl = lambda *arrays: with_row_reads(*arrays, autojunk=autojunk, interpret=_interpret)[0]
    return joins_pairs(impl)(a, a_len, b, b_len, b_index)


@partial(jax.jit, static_argnames=("autojunk", "interpret"))
def with_row_reads(a, a_len, b, b_len, b_index, *, autojunk: bool, interpret: bool):
    """(M [P], rows read [P]): the latter is what a pair costs."""
    pairs, experts = a.shape[0], b.shape[0]
    if 0 in a.shape or 0 in b.shape:
        return jnp.zeros(pairs, I32), jnp.zeros(pairs, I32)
    arrays = (a, a_len, b, b_len, b_index)
    words = _table_words(b.shape[1])
    if experts * words <= TABLE_WORDS:
        return _launch(*arrays, autojunk=autojunk, interpret=interpret)
    chunk = TABLE_WORDS // words  # pairs, each with its own copy of its expert; the last chunk has empty ones
    fill = -pairs % chunk
    parts = [jnp.pad(x, [(0, fill)] + [(0, 0)] * (x.ndim - 1)) for x in (a, a_len, b[b_index], b_len[b_index])]
    parts = tuple(x.reshape(-1, chunk, *x.shape[1:]) for x in parts)
    own = jnp.arange(chunk, dtype=I32)
    matched, reads = lax.map(lambda part: _launch(*part, own, autojunk=autojunk, interpret=interpret), parts)
    return matched.reshape(-1)[:pairs], reads.reshape(-1)[:pairs]


def _table_words(columns: int) -> int:
    """Words of one expert's table: a row for `nothing`, one a distinct element, and what loads run over."""
    width = -(-columns // 32)
    return width + 1 + (columns + 1) * width + width + LANES + 1


def _row_offset(group, columns: int):
    width = -(-columns // 32)
    return width + 1 + group * width


def _table(expert: Expert) -> Int[Array, "Q F"]:
    """Bit j of the words from `_row_offset(g)` on: column j holds the element of group g."""
    columns = expert.group.shape[1]
    column = jnp.arange(columns, dtype=I32)

    def row(group):
        word = jnp.where(group > 0, _row_offset(group, columns) + column // 32, 0)
        bit = jnp.where(group > 0, U32(1) << (column % 32).astype(U32), U32(0))
        return jnp.zeros(_table_words(columns), U32).at[word].add(bit)

    return jax.vmap(row)(expert.group)


def _groups(a, b_index, expert: Expert) -> Int[Array, "P A"]:
    """Group of each a[i] in its expert; 0 where the expert lacks it or it is popular."""
    at = position(expert.ascending, expert.length, a, b_index)
    ranks = jax.vmap(lambda at, q: expert.rank[q][jnp.maximum(at, 0)])(at, b_index)
    return jnp.where(at < 0, 0, ranks)


def barriers(group: Int[Array, "P A"], b_index, expert: Expert) -> Int[Array, "P 2 A"]:
    """[p, 0, i]: last row up to i whose element has no bits; [p, 1, i]: or that, with the next one's, is no pair of b.

    No block holds the former; none of two rows or more holds the latter and the row behind it. -1 where there is none.
    """
    base = expert.group.shape[1] + 1
    pair = lambda g: jnp.where((g[:, :-1] > 0) & (g[:, 1:] > 0), g[:, :-1] * base + g[:, 1:], 0)
    first = lambda x: jnp.pad(x, ((0, 0), (1, 0)))
    known = jnp.sort(first(pair(expert.group)), axis=1)
    wanted = first(pair(group))
    found = position(known, jnp.full(known.shape[:1], known.shape[1], I32), wanted, b_index)
    row = jnp.broadcast_to(jnp.arange(group.shape[1], dtype=I32), group.shape)
    one = jnp.where(group == 0, row, -1)
    two = jnp.where((found < 0) & (row > 0), row - 1, one)
    return jnp.stack([lax.cummax(one, axis=1), lax.cummax(jnp.maximum(one, two), axis=1)], axis=1)


def _launch(a, a_len, b, b_len, b_index, *, autojunk: bool, interpret: bool):
    autojunk = autojunk and b.shape[1] >= 200
    expert = study(b, b_len, autojunk=autojunk)
    group = _groups(a, b_index, expert)
    operands = [a_len, b_len[b_index], b_index, _row_offset(group, b.shape[1])]
    operands += [barriers(group, b_index, expert), _table(expert)]
    if autojunk:
        operands += [jnp.pad(x, ((0, 0), (LANES, LANES))) for x in (a, b)]
    pairs = a.shape[0]

    def kernel(a_len, b_len, b_index, offset, barrier, table, *refs):
        *text, matched, reads = refs
        p = lax.axis_index("pair") if not interpret else pl.program_id(0)
        q = b_index[p]
        load = lambda start: table[q, pl.ds(start, LANES)]
        beside = _beside(*(x.at[k] for x, k in zip(text, (p, q), strict=True))) if text else None
        rows = Rows(lambda i: offset[p, i], lambda K, i: barrier[p, jnp.minimum(K, 1), i], load)
        total, read = _pair(rows, beside, a_len[p], b_len[p])
        matched[p, :] = jnp.full((LANES,), total, I32)
        reads[p, :] = jnp.full((LANES,), read, I32)

    out = [jax.ShapeDtypeStruct((pairs, LANES), I32)] * 2
    if interpret:
        matched, reads = pl.pallas_call(kernel, out_shape=out, grid=(pairs,), interpret=True)(*operands)
    else:
        from jax.experimental.pallas import mosaic_gpu as plgpu

        semantics = plgpu.LoweringSemantics.Warpgroup
        params = plgpu.CompilerParams(lowering_semantics=semantics, reduction_scratch_bytes=4096)
        launch = plgpu.kernel(kernel, out_type=out, grid=(pairs,), grid_names=("pair",), compiler_params=params)
        matched, reads = launch(*operands)
    return matched[:, 0], reads[:, 0]


class Rows(NamedTuple):
    """How the kernel reads."""

    offset: Callable  # row of a -> where its words begin
    barrier: Callable  # (K, row) -> the last row up to this one that no window of K + 1 rows can hold, or -1
    load: Callable  # start -> that word and the next 127


def _pair(rows: Rows, beside, a_len, b_len):
    """(M, rows read) of one pair; `beside` is None, or the function that prolongs a block over equal neighbours."""
    lane = lax.broadcasted_iota(I32, (LANES,), 0)

    def step(state):
        rectangle, depth, total, reads, row_bounds, column_bounds = state
        top, bottom, left, right = rectangle
        i, j, size, reads = _longest(rows, lane, *rectangle, reads)
        if beside is not None:
            i, j, size = beside(lane, *rectangle, i, j, size)
        before, after = (top, i, left, j), (i + size, bottom, j + size, right)
        has_before = (size > 0) & (top < i) & (left < j)
        has_after = (size > 0) & (i + size < bottom) & (j + size < right)
        both, none = has_before & has_after, ~has_before & ~has_after
        smaller = jnp.where(both, i - top <= bottom - i - size, has_before)
        wait = [jnp.where(smaller, y, x) for x, y in zip(before, after, strict=True)]
        put = (lane == depth) & both
        row_bounds = jnp.where(put, wait[0] << 16 | wait[1], row_bounds)
        column_bounds = jnp.where(put, wait[2] << 16 | wait[3], column_bounds)
        depth = depth + both.astype(I32)
        last = lane == depth - 1
        row, column = (jnp.max(jnp.where(last, x, 0)) for x in (row_bounds, column_bounds))
        waiting = (row >> 16, row & 0xFFFF, column >> 16, column & 0xFFFF)
        following = [jnp.where(smaller, x, y) for x, y in zip(before, after, strict=True)]
        rectangle = tuple(jnp.where(none, x, y) for x, y in zip(waiting, following, strict=True))
        return rectangle, depth - none.astype(I32), total + size, reads, row_bounds, column_bounds

    zero = I32(0)
    empty = jnp.zeros((LANES,), I32)
    some = ((a_len > 0) & (b_len > 0)).astype(I32)
    state = ((zero, a_len, zero, b_len), some - 1, zero, zero, empty, empty)
    state = lax.while_loop(lambda state: state[1] >= 0, step, state)
    return state[2], state[3]


def _longest(read: Rows, lane, top, bottom, left, right, reads):
    """(i, j, size) of the rectangle's longest block, size 0 at its corner if there is none; and rows read, added up."""
    start_bit = 32 * lane
    columns = _from(left - start_bit) & ~_from(right - start_bit)

    def above(i, t, K, alive, rows: int):
        """`alive` (bits are columns at row i) after rows i - t, i - t - 1, ..., no further up than i - K; survivors."""
        survived = jnp.zeros((LANES,), I32)
        for r in range(rows):
            back = jnp.minimum(t + r, K)
            begin = read.offset(i - back) - (back >> 5)
            shift = (back & 31).astype(U32)
            alive = alive & (read.load(begin) << shift | read.load(begin - 1) >> 1 >> (31 - shift))
            if r == rows - 1:
                alive = alive & _from(left + back - start_bit)
            survived = survived + (alive != 0).astype(I32)
        return alive, jnp.max(survived)

    def below(i, added, alive, best, rows: int):
        """Rows i + added + 1, ...: (last `alive`, last one that is not empty, survivors)."""
        survived = jnp.zeros((LANES,), I32)
        kept = [best]
        for r in range(rows):
            down = added + r + 1
            inside = i + down < bottom
            begin = read.offset(jnp.minimum(i + down, bottom - 1)) + (down >> 5)
            shift = (down & 31).astype(U32)
            alive = alive & (read.load(begin) >> shift | read.load(begin + 1) << 1 << (31 - shift))
            alive = alive & ~_from(jnp.where(inside, right - down, 0) - start_bit)
            survived = survived + (alive != 0).astype(I32)
            kept.append(alive)
        count = jnp.max(survived)
        best = kept[0]
        for r in range(rows):
            best = jnp.where(jnp.broadcast_to(count > r, (LANES,)), kept[r + 1], best)
        return alive, best, count

    def seek(K, i):
        """The first window from i on that no barrier stops."""
        barrier = lambda i: read.barrier(K, jnp.minimum(i, bottom - 1))
        beyond = lambda state: state[1] + K + 1
        state = (i, barrier(i))
        stopped = lambda state: (state[0] < bottom) & (state[1] >= state[0] - K)
        return lax.while_loop(stopped, lambda state: (beyond(state), barrier(beyond(state))), state)[0]

    def window(state):
        K, i, first, end, best, reads = state
        alive, count = above(i, I32(0), K, columns, LOOK)

        def walk(state):
            t, alive, _, reads = state
            alive, count = above(i, t, K, alive, WALK)
            return t + count, alive, (count == WALK).astype(I32), reads + WALK

        state = (count, alive, (count == LOOK).astype(I32), reads + LOOK)
        t, alive, passed, reads = lax.while_loop(lambda s: (s[2] > 0) & (s[0] <= K), walk, state)

        def grow(_):
            def more(state):
                added, alive, best, _, reads = state
                alive, best, count = below(i, added, alive, best, GROW)
                return added + count, alive, best, count, reads + GROW

            state = (I32(0), alive, alive, I32(GROW), reads)
            added, _, best_now, _, reads_now = lax.while_loop(lambda s: s[3] == GROW, more, state)
            return K + 1 + added, i + added + 2, i - K, i, best_now, reads_now

        def skip(_):
            return K, i - jnp.minimum(t, K) + K + 1, first, end, best, reads

        K, i, *others = lax.cond(passed > 0, grow, skip, 0)
        return K, seek(K, i), *others

    state = (I32(0), seek(I32(0), top), top, top, jnp.zeros((LANES,), U32), reads)
    size, _, first, end, best, reads = lax.while_loop(lambda state: state[1] < bottom, window, state)
    lowest = best & (~best + 1)
    column = jnp.min(jnp.where(best != 0, start_bit + _log2(lowest), 1 << 30))
    return first, jnp.where(size > 0, column - (end - first), left), size, reads


def _beside(a_text, b_text):
    """The function that prolongs a block over equal neighbours, 128 at a time; texts have 128 elements either side."""

    def prolong(lane, top, bottom, left, right, i, j, size):
        def up(state):
            i, j, _ = state
            room = jnp.minimum(jnp.minimum(i - top, j - left), LANES)
            equal = a_text[pl.ds(i, LANES)] == b_text[pl.ds(j, LANES)]  # the 128 before i and j
            stop = jnp.max(jnp.where(equal & (lane >= LANES - room), 0, lane + 1))
            return i - (LANES - stop), j - (LANES - stop), stop

        def down(state):
            size, _ = state
            room = jnp.minimum(jnp.minimum(bottom - i, right - j) - size, LANES)
            equal = a_text[pl.ds(LANES + i + size, LANES)] == b_text[pl.ds(LANES + j + size, LANES)]
            more = jnp.min(jnp.where(equal & (lane < room), LANES, lane))
            return size + more, more

        end = i + size
        i, j, _ = lax.while_loop(lambda state: state[2] == 0, up, (i, j, I32(0)))
        size, _ = lax.while_loop(lambda state: state[1] == LANES, down, (end - i, I32(LANES)))
        return i, j, size

    return prolong


def _from(p):
    """Words whose bits p, p + 1, ... are set, for any int32 p: all of them below 0, none from 32 on."""
    p = jnp.clip(p, 0, 32)
    return jnp.where(p == 32, U32(0), U32(EVERY) << (p & 31).astype(U32))


def _log2(power):
    """Exponent of a power of two, by way of float32."""
    return (lax.bitcast_convert_type(power.astype(jnp.float32), I32) >> 23 & 255) - 127
