"""difflib's matched length as TPU kernels: one pair per vector lane, 1,024 pairs a group, no cross-lane operation.

Bit t of word w of `equal[i]` says that a[i] == b[32 w + t]; each is an (8, 128) vector of as many pairs. Recursion goes
by levels: the rectangles of one depth share no row and no column, so one sweep over the rows of `equal` splits them.

Down (`_down`): per column the length of the run of equal elements on its diagonal, bit-sliced: plane p of word w holds
bit p of 32 lengths. No length exceeds best + 1, where best is the rectangle's longest so far, so a better block is an
equality test against best + 1; the first row wins, and in it the lowest column. Popular elements (autojunk) begin and
carry no run. That a block's end is prolonged over equal neighbours is a mark that slides down its diagonal; where a
rectangle has no run, the mark starts at its corner, as difflib's empty block does.
Up (`_up`): a rectangle's last row has its block; its start is prolonged one row at a time (autojunk), and each row is
given to the rectangle before the block, after it, or to none.

The levels are a loop around the two kernels; `equal` and the rows' bounds stay in HBM and stream through VMEM a block
of rows at a time, so that VMEM holds any length to 4096. Blocks without a live row are neither read nor swept. Runs get
shorter from level to level, and with them the number of planes.

Lock-step has a price: a group takes as many levels as its deepest pair. Ordinary text needs 10 to 25; periodic text
up to half its length. After `Cut.levels` levels the pairs that are not done, of all groups, are put together in groups
of their own and solved from the start without that limit: what they cost is not paid once for every group.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Int

from jaxsrl.ops.similarity.batching import joins_pairs
from jaxsrl.ops.similarity.expert import study

LONGEST = 4096  # elements a side
U32, I32 = jnp.uint32, jnp.int32
EVERY = 0xFFFFFFFF


class Cut(NamedTuple):
    """How the work is cut."""

    tile: tuple[int, int] = (8, 128)  # pairs of a group: one vector register
    levels: int = 32  # of recursion, before the unfinished pairs are put together
    unroll: int = 4  # words of a row that are spelled out; more are a loop over as many
    block_words: int = 512  # words of `equal` in a block: 2 MiB of vectors, and as much again for the next block
    planes: tuple[int, ...] = (3, 5)  # of the variants of the sweep, beside what the length itself needs


CUT = Cut()


def matched_length(
    a: Int[Array, "P A"],
    a_len: Int[Array, "P"],
    b: Int[Array, "Q B"],
    b_len: Int[Array, "Q"],
    b_index: Int[Array, "P"],
    *,
    autojunk: bool,
    _interpret: bool = False,
    _cut: Cut = CUT,
) -> Int[Array, "P"]:
    """M of each pair, as `jaxsrl.ops.similarity.matched_length` defines it.

    Under `shard_map` over the pairs say `check_vma=False`; vmap adds its axis to the pairs.

    Args:
      _interpret: for tests alone: the same kernels, run by Pallas' interpreter on whatever device there is.
      _cut: for tests alone: smaller pieces, some of which only the interpreter takes.
    Raises: RuntimeError on a machine without a TPU, ValueError above 4,096 elements a side.
    """
    if max(a.shape[1], b.shape[1]) > LONGEST:
        raise ValueError(f"sequences above {LONGEST} elements: a {a.shape}, b {b.shape}; cut them or use 'reference'")
    if not _interpret and jax.default_backend() != "tpu":
        raise RuntimeError(f"'pallas_tpu' needs a TPU, this is {jax.default_backend()!r}; use backend='xla'")
    impl = partial(_matched, autojunk=autojunk, interpret=_interpret, cut=_cut)
    return joins_pairs(impl)(a, a_len, b, b_len, b_index)


@partial(jax.jit, static_argnames=("autojunk", "interpret", "cut"))
def _matched(a, a_len, b, b_len, b_index, *, autojunk: bool, interpret: bool, cut: Cut = CUT) -> Int[Array, "P"]:
    pairs = a.shape[0]
    if 0 in a.shape or 0 in b.shape:
        return jnp.zeros(pairs, I32)
    autojunk = autojunk and b.shape[1] >= 200
    words = -(-b.shape[1] // 32)
    words = words if words <= cut.unroll else -(-words // cut.unroll) * cut.unroll
    block = max(1, cut.block_words // words)
    a = jnp.pad(a, ((0, 0), (0, -a.shape[1] % block)))
    popular = _bits(study(b, b_len, autojunk=True).popular, words) if autojunk else None
    b = jnp.pad(b, ((0, 0), (0, 32 * words - b.shape[1])))
    size = cut.tile[0] * cut.tile[1]
    groups = -(-pairs // size)

    def solve(index, counts, levels):
        """(M, whether it is not done) of the pairs at `index`, one group; 0 where it does not count."""
        lanes = lambda x: x.T.reshape(-1, *cut.tile)
        q = b_index[index]
        length = [lanes(x[None])[0] for x in (jnp.where(counts, a_len[index], 0), b_len[q])]
        bits = None if popular is None else lanes(popular[q])
        total, live = _group(lanes(a[index]), lanes(b[q]), *length, bits, levels, block, cut, interpret)
        return total.reshape(-1), live.reshape(-1)

    def step(state):
        """Groups in order of the pairs; then, as long as pairs are left, groups of these alone."""
        g, total, left = state
        again = g >= groups
        order = jnp.argsort(~left, stable=True).astype(I32)
        index = lax.dynamic_slice(order, (0,), (size,))
        index = jnp.where(again, index, g * size + jnp.arange(size, dtype=I32))
        counts = (index < pairs) & (left[index] | ~again)
        matched, unfinished = solve(jnp.minimum(index, pairs - 1), counts, jnp.where(again, LONGEST, cut.levels))
        return g + 1, total.at[index].set(jnp.where(counts, matched, total[index])), left.at[index].set(unfinished)

    state = (I32(0), jnp.zeros(groups * size, I32), jnp.zeros(groups * size, bool))
    return lax.while_loop(lambda state: (state[0] < groups) | jnp.any(state[2]), step, state)[1][:pairs]


def _bits(flags, words: int):
    """[Q, words] uint32 of bool [Q, B]: bit t of word w is flags[q, 32 w + t]."""
    flags = jnp.pad(flags, ((0, 0), (0, 32 * words - flags.shape[1]))).reshape(-1, words, 32)
    return jnp.sum(flags.astype(U32) << jnp.arange(32, dtype=U32)[None, None], axis=2, dtype=U32)


def _group(a, b, a_len, b_len, popular, levels, block: int, cut: Cut, interpret: bool):
    """(M, live) of one group [*tile]; a [A, *tile], b [32 W, *tile], popular [W, *tile] or None."""
    count, tile = a.shape[0], a.shape[1:]
    equal = _equal(a, b, block, cut.unroll, interpret)
    row = lax.broadcasted_iota(I32, a.shape, 0)
    inside = (row < a_len[None]) & (b_len > 0)[None]
    rows, columns = (jnp.where(inside, jnp.broadcast_to(x[None], a.shape), 0) for x in (a_len, b_len))
    longest = min(count, b.shape[0])
    planes = sorted({min(p, longest.bit_length()) for p in (*cut.planes, longest.bit_length())})
    downs = [partial(_down, planes=p, unroll=cut.unroll, interpret=interpret) for p in planes]

    def level(state):
        depth, bound, total, rows, columns, blocks = state
        fewest = sum((bound >= (1 << p) - 1).astype(I32) for p in planes[:-1])
        size, end, longest = lax.switch(fewest, downs, equal, rows, columns, popular, blocks)
        rows, columns, found = _up(
            equal, rows, columns, size, end, popular, blocks, unroll=cut.unroll, interpret=interpret
        )
        return depth + 1, jnp.max(longest), total + found, rows, columns, live_blocks(rows)

    live_blocks = lambda rows: jnp.any((rows != 0).reshape(count // block, -1), axis=1)
    state = (I32(0), I32(longest), jnp.zeros(tile, I32), rows, columns, live_blocks(rows))
    state = lax.while_loop(lambda state: jnp.any(state[5]) & (state[0] < levels), level, state)
    return state[2], jnp.any(state[3] != 0, axis=0)


def _equal(a, b, block: int, unroll: int, interpret: bool):
    """[A, W, *tile] uint32: bit t of word w of row i is a[i] == b[32 w + t]."""
    count, tile, words = a.shape[0], a.shape[1:], b.shape[0] // 32
    unroll = min(words, unroll)

    def kernel(a, b, equal):
        def row(i, _):
            for w in range(unroll):
                bits = [jnp.where(a[i] == b[32 * w + t], U32(1 << t), U32(0)) for t in range(32)]
                while len(bits) > 1:
                    bits = [x | y for x, y in zip(bits[::2], bits[1::2], strict=True)]
                equal[i, w] = bits[0]

        lax.fori_loop(0, block, row, None)

    return pl.pallas_call(
        kernel,
        grid=(words // unroll, count // block),
        in_specs=[
            pl.BlockSpec((block, *tile), lambda w, t: (t, 0, 0)),
            pl.BlockSpec((32 * unroll, *tile), lambda w, t: (w, 0, 0)),
        ],
        out_specs=pl.BlockSpec((block, unroll, *tile), lambda w, t: (t, w, 0, 0)),
        out_shape=jax.ShapeDtypeStruct((count, words, *tile), U32),
        interpret=interpret,
        name="similarity_equal",
    )(a, b)


def _over_words(words: int, unroll: int, body, carry):
    """carry = body(w, carry) for w = 0 .. words - 1, `unroll` of them spelled out."""
    if words <= unroll:
        for w in range(words):
            carry = body(w, carry)
        return carry

    def several(u, carry):
        for w in range(unroll):
            carry = body(unroll * u + w, carry)
        return carry

    return lax.fori_loop(0, words // unroll, several, carry)


def _down(equal, rows, columns, popular, blocks, *, planes: int, unroll: int, interpret: bool):
    """One sweep down: (size << 16 | prolonged, end row + 1 << 16 | end column + 1, longest block).

    The first two are [A, *tile] and hold what is the longest block so far of the rectangle of that row: its length
    without what prolongs it, by how many rows its end is prolonged, and its last cell before that.
    """
    count, words, *tile = equal.shape
    block = count // blocks.shape[0]
    flat = lambda source: pl.BlockSpec((block, *tile), source)
    kept = lambda t, live, source: (source[t], 0, 0)
    specs = [pl.BlockSpec((block, words, *tile), lambda t, live, source: (source[t], 0, 0, 0)), flat(kept), flat(kept)]
    operands = [equal, rows, columns]
    if popular is not None:
        specs.append(pl.BlockSpec((words, *tile), lambda t, live, source: (0, 0, 0)))
        operands.append(popular)
    out = jax.ShapeDtypeStruct((count, *tile), I32)
    return pl.pallas_call(
        partial(_down_kernel, planes=planes, unroll=unroll),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(count // block,),
            in_specs=specs,
            out_specs=[
                flat(lambda t, live, source: (t, 0, 0)),
                flat(lambda t, live, source: (t, 0, 0)),
                pl.BlockSpec(tuple(tile), lambda t, live, source: (0, 0)),
            ],
            scratch_shapes=[
                pltpu.VMEM((planes, words, *tile), U32),
                pltpu.VMEM((words, *tile), U32),
                pltpu.VMEM((5, *tile), I32),
            ],
        ),
        out_shape=[out, out, jax.ShapeDtypeStruct(tuple(tile), I32)],
        interpret=interpret,
        name="similarity_down",
    )(*_streamed(blocks), *operands)


def _down_kernel(live, _source, equal, rows, columns, *refs, planes: int, unroll: int):
    """A block of rows. `refs` begin with the bits of popular elements, if there are any."""
    bits = refs[0] if len(refs) > 6 else None
    size_out, end_out, longest_out, lengths, mark, carry = refs[-6:]
    block, words, *tile = equal.shape
    over_words = partial(_over_words, words, unroll)
    zero, none = jnp.zeros(tile, I32), jnp.zeros(tile, U32)
    t = pl.program_id(0)

    def forget(w, _):
        for p in range(planes):
            lengths[p, w] = none
        mark[w] = none

    @pl.when(t == 0)
    def _():
        for k in range(5):
            carry[k] = zero
        over_words(forget, None)

    def row(r, state):
        top, bottom = _unpack(rows[r])
        left, right = _unpack(columns[r])
        i = block * t + r
        best, at, column, prolonged, longest = _entered(i, top, bottom, left, state)
        wanted = best + 1
        digits = [jnp.where(wanted >> p & 1 == 1, U32(EVERY), U32(0)) for p in range(planes)]
        fresh = at == i - 1  # the mark starts below the block
        word = partial(_down_word, equal, bits, lengths, mark, r, left, right, digits, fresh, column)
        state = ([none] * planes, none, jnp.full(tile, -1, I32), none, none)
        _, _, first, found, sliding = over_words(word, state)
        hit = first >= 0
        prolonged = jnp.where(hit, 0, prolonged + (sliding != 0).astype(I32))
        best = jnp.where(hit, wanted, best)
        at = jnp.where(hit, i, at)
        column = jnp.where(hit, 32 * first + _lowest(found), column)
        size_out[r] = best << 16 | prolonged
        end_out[r] = at + 1 << 16 | column + 1
        return best, at, column, prolonged, jnp.maximum(longest, best)

    @pl.when(live[t] > 0)
    def _():
        state = lax.fori_loop(0, block, row, tuple(carry[k] for k in range(5)))
        for k in range(5):
            carry[k] = state[k]

    @pl.when(live[t] == 0)
    def _():
        over_words(forget, None)

    longest_out[...] = carry[4]


def _entered(i, top, bottom, left, state):
    """The state before row i, whose rectangle may begin there."""
    best, at, column, prolonged, longest = state
    start = (top == i) & (bottom > top)
    best = jnp.where(start, 0, best)
    at = jnp.where(start, top - 1, at)  # the empty block before the rectangle; what prolongs it is difflib's
    column = jnp.where(start, left - 1, column)  # block where nothing but popular elements match
    prolonged = jnp.where(start, 0, prolonged)
    return best, at, column, prolonged, longest


def _down_word(equal, bits, lengths, mark, r, left, right, digits, fresh, column, w, state):
    """Word w of row r: its runs grow, and the mark slides.

    `digits` are those of the length that is looked for. The state is what the word before shifts in (of each plane, of
    the mark), the first word with such a length and where in it, and whether the mark has anywhere to go.
    """
    before, marked, first, found, sliding = state
    bounds = _below(right - 32 * w) & ~_below(left - 32 * w)
    every = equal[r, w] & bounds
    searched = every & ~bits[w] if bits is not None else every
    carried = matching = searched
    shifted_out = []
    for p, digit in enumerate(digits):
        old = lengths[p, w]
        shifted = old << 1 | before[p] >> 31
        shifted_out.append(old)
        new = (shifted ^ carried) & searched
        carried = shifted & carried
        lengths[p, w] = new
        matching = matching & ~(new ^ digit)
    here = (first < 0) & (matching != 0)
    first = jnp.where(here, w, first)
    found = jnp.where(here, matching, found)
    if bits is not None:
        old = mark[w]
        slid = jnp.where(fresh, _bit(column + 1 - 32 * w), old << 1 | marked >> 31) & every
        mark[w] = slid
        marked, sliding = old, sliding | slid
    return shifted_out, marked, first, found, sliding


def _up(equal, rows, columns, size, end, popular, blocks, *, unroll: int, interpret: bool):
    """One sweep up: (rows, columns) of the next level, and the length of the blocks found [*tile]."""
    count, words, *tile = equal.shape
    block = count // blocks.shape[0]
    last_block = count // block - 1
    over_words = partial(_over_words, words, unroll)
    autojunk = popular is not None

    def kernel(live, _source, rows, columns, size, end, *refs):
        bits = refs[0] if autojunk else None
        rows_out, columns_out, found_out, carry = refs[-4:]
        zero = jnp.zeros(tile, I32)
        t = pl.program_id(0)
        base = block * (last_block - t)

        @pl.when(t == 0)
        def _():
            for k in range(6):
                carry[k] = zero

        def row(k, state):
            total, length, i0, j0, i1, j1 = state  # the block's first and last cell
            r = block - 1 - k
            i = base + r
            top, bottom = _unpack(rows[r])
            left, right = _unpack(columns[r])
            active = bottom > top
            last = active & (i == bottom - 1)
            best, prolonged = _unpack(size[r])
            row, column = (x - 1 for x in _unpack(end[r]))
            length = jnp.where(last, best + prolonged, length)
            i0, j0 = jnp.where(last, row - best + 1, i0), jnp.where(last, column - best + 1, j0)
            i1, j1 = jnp.where(last, row + prolonged, i1), jnp.where(last, column + prolonged, j1)
            total = total + jnp.where(last, length, 0)
            some = active & (length > 0)
            if autojunk:
                before = over_words(lambda w, x: x | bits[r, w] & _bit(j0 - 1 - 32 * w), jnp.zeros(tile, U32))
                more = (some & (i == i0 - 1) & (j0 > left) & (before != 0)).astype(I32)
                i0, j0, total = i0 - more, j0 - more, total + more
            after = some & (i > i1) & (j1 + 1 < right)
            ahead = some & (i < i0) & (left < j0)
            pack = lambda low, high: low << 16 | high
            rows_out[r] = jnp.where(ahead, pack(top, i0), jnp.where(after, pack(i1 + 1, bottom), 0))
            columns_out[r] = jnp.where(ahead, pack(left, j0), jnp.where(after, pack(j1 + 1, right), 0))
            return total, length, i0, j0, i1, j1

        @pl.when(live[last_block - t] > 0)
        def _():
            state = lax.fori_loop(0, block, row, tuple(carry[k] for k in range(6)))
            for k in range(6):
                carry[k] = state[k]

        @pl.when(live[last_block - t] == 0)
        def _():
            rows_out[...] = jnp.zeros(rows_out.shape, I32)
            columns_out[...] = jnp.zeros(columns_out.shape, I32)

        found_out[...] = carry[0]

    flat = pl.BlockSpec((block, *tile), lambda t, live, source: (last_block - t, 0, 0))
    kept = pl.BlockSpec((block, *tile), lambda t, live, source: (source[last_block - t], 0, 0))
    specs, operands = [kept] * 4, [rows, columns, size, end]
    if autojunk:
        specs.append(pl.BlockSpec((block, words, *tile), lambda t, live, source: (source[last_block - t], 0, 0, 0)))
        operands.append(equal)
    out = jax.ShapeDtypeStruct((count, *tile), I32)
    return pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(count // block,),
            in_specs=specs,
            out_specs=[flat, flat, pl.BlockSpec(tuple(tile), lambda t, live, source: (0, 0))],
            scratch_shapes=[pltpu.VMEM((6, *tile), I32)],
        ),
        out_shape=[out, out, jax.ShapeDtypeStruct(tuple(tile), I32)],
        interpret=interpret,
        name="similarity_up",
    )(*_streamed(blocks), *operands)


def _streamed(blocks):
    """(whether a block has a live row, the block to have in VMEM at its turn: for a dead one, the last live one)."""
    at = jnp.arange(blocks.shape[0], dtype=I32)
    return blocks.astype(I32), jnp.maximum(lax.cummax(jnp.where(blocks, at, -1)), 0)


def _unpack(x):
    return x >> 16, x & 0xFFFF


def _below(p):
    """Words whose bits 0 .. p - 1 are set, for any int32 p."""
    p = jnp.clip(p, 0, 32)
    return jnp.where(p == 32, U32(EVERY), (U32(1) << (p & 31).astype(U32)) - U32(1))


def _bit(p):
    """Words whose bit p alone is set; none outside 0 .. 31."""
    return jnp.where((p >= 0) & (p < 32), U32(1) << (p & 31).astype(U32), U32(0))


def _lowest(x):
    """Position of the lowest bit set, by way of float32's exponent."""
    low = lax.bitcast_convert_type(x & (~x + U32(1)), I32)
    return (lax.bitcast_convert_type(low.astype(jnp.float32), I32) >> 23 & 255) - 127
