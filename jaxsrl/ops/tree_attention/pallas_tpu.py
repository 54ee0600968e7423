"""Tree attention as TPU kernels: one for each pass, which visit the pairs of tiles that `visits.py` lists.

The grid is (key-value head, visit). The list lies in scalar memory, where the blocks' indices are read from; its length
is the grid's, so that a tile that is not visited costs nothing. The G query heads of a key head lie below each other,
[G * queries, H]: a visit is one product of all of them with a key tile.

Forward: visits of a query tile are one after another, and its softmax goes on from one to the next in VMEM.
Backward: in the same order, so that the gradient of a query tile adds up in VMEM. Those of keys and values lie in HBM:
a visit reads what their tile has so far, adds its own and writes it back. Scores stand on their side here, [keys, G *
queries], as two of the three gradients then need no transposition.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from jaxsrl.ops.tree_attention.passes import Passes, attend
from jaxsrl.ops.tree_attention.visits import KEY_BITS, Blocks, Visits, visits

LANES = 128
LOWEST = float(jnp.finfo(jnp.float32).min) / 2  # and a score can still be added
VMEM_BYTES = 48 * 2**20  # that a kernel may take: v5p has 64 MiB, v5e and v6e have 128


class Settings(NamedTuple):
    """How a kernel is made; `interpret` runs it in Pallas' interpreter."""

    blocks: Blocks
    interpret: bool


def tree_attention(
    q: Float[Array, "R T N H"], k: Float[Array, "R T K H"], v: Float[Array, "R T K H"], *,
    position: Int[Array, "R T"], enter: Int[Array, "R T"], leave: Int[Array, "R T"],
    window: Int[Array, ""] | None = None, plan: Visits | None = None, blocks: Blocks, _interpret: bool = False,
) -> Float[Array, "R T N H"]:  # fmt: skip
    """See the public function. Scores, softmax and sums in float32; products take the dtype of q, k, v.

    Args:
      _interpret: for tests alone: the same kernels on whatever device there is.
    Raises: ValueError for float64, or a batch that may take too many visits.
    """
    if q.dtype == jnp.float64:
        raise ValueError("'pallas_tpu' computes in float32 at most, and q is float64; use backend='xla'")
    settings = Settings(blocks, _interpret)
    passes = Passes(partial(_forward_pass, settings), partial(_backward_pass, settings))
    return attend(passes, q * q.shape[-1] ** -0.5, k, v, (position, enter, leave), window, plan)


def _forward_pass(settings: Settings, window, plan, arrays):
    """(out [R T N H], log-sum-exp of the scores [R T N])."""
    q, k, v, *tree = arrays
    rows, length, kv_heads, width = k.shape
    blocks = settings.blocks.fit(length)
    plan = visits(blocks, *tree, window) if plan is None else plan
    q, k, v = _queries(blocks, kv_heads, q), _keys(blocks, k), _keys(blocks, v)
    group, across = q.shape[1], q.shape[1] * blocks.queries
    tiles = q.shape[2] // blocks.queries
    query, key, row = _specs(blocks, group, width)
    out, log_total = pl.pallas_call(
        partial(_forward_kernel, windowed=window is not None),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2, grid=(kv_heads, plan.count[0]),
            in_specs=[query, key, key, *_tree_specs(blocks)], out_specs=[query, row],
            scratch_shapes=[
                pltpu.VMEM((2, blocks.queries, LANES), jnp.int32), pltpu.VMEM((across, LANES), jnp.float32),
                pltpu.VMEM((across, LANES), jnp.float32), pltpu.VMEM((across, width), jnp.float32),
            ],
        ),
        out_shape=[
            jax.ShapeDtypeStruct(q.shape, q.dtype),
            jax.ShapeDtypeStruct((kv_heads, tiles, 1, across), jnp.float32),
        ],
        compiler_params=_compiler(), interpret=settings.interpret, name="tree_attention_forward",
    )(plan.visit, _window(window), q, k, v, plan.query, plan.key)  # fmt: skip
    log_total = log_total.reshape(kv_heads, tiles, group, blocks.queries).swapaxes(1, 2)
    back = partial(_of_queries, rows, length)
    return back(out), back(log_total.reshape(kv_heads, group, -1, 1))[..., 0]


def _forward_kernel(
    visit, window, q_ref, k_ref, v_ref, query_ref, key_ref, out_ref, log_ref, column, top, total, sums, *, windowed
):
    group, queries, width = q_ref.shape[1:]
    here, first, last = _place(visit, queries, k_ref.shape[1])

    @pl.when(first)
    def _():
        for i in range(2):  # `enter` and `position` down a column
            column[i] = jnp.broadcast_to(query_ref[0, i : i + 1], (LANES, queries)).T
        top[...] = jnp.full(top.shape, LOWEST, jnp.float32)
        total[...] = jnp.zeros(total.shape, jnp.float32)
        sums[...] = jnp.zeros(sums.shape, jnp.float32)

    k = k_ref[0]
    scores = _dot(q_ref[0].reshape(group * queries, width), k, ((1,), (1,)))
    keys = k.shape[0]
    enter, position = column[0][:, :1], column[1][:, :1]
    leave, k_position = key_ref[0, 0:1], key_ref[0, 1:2]
    bias = _bias(here, (queries, keys), 0, (enter, leave), (position, k_position), window[0] if windowed else None)
    scores = (scores.reshape(group, queries, keys) + bias[None]).reshape(group * queries, keys)
    before = top[...]
    now = jnp.maximum(before, jnp.max(scores, axis=1, keepdims=True))
    weight = jnp.exp(scores - now[:, :1])
    shrink = jnp.exp(before - now)
    top[...] = now
    total[...] = total[...] * shrink + jnp.sum(weight, axis=1, keepdims=True)
    sums[...] = sums[...] * shrink[:, :1] + _dot(weight.astype(k.dtype), v_ref[0], ((1,), (0,)))

    @pl.when(last)
    def _():
        out = sums[...] / total[...][:, :1]
        out_ref[0] = out.reshape(group, queries, width).astype(out_ref.dtype)
        log_ref[0, 0] = (top[...] + jnp.log(total[...])).T[:1]


def _backward_pass(settings: Settings, window, plan, arrays):
    """Gradients of q, k and v."""
    q, k, v, *tree, out, log_total, cotangent = arrays
    (rows, length, kv_heads, width), dtype = k.shape, q.dtype
    blocks = settings.blocks.fit(length)
    plan = visits(blocks, *tree, window) if plan is None else plan
    mean = jnp.sum(cotangent.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)
    of_queries = partial(_queries, blocks, kv_heads)
    q, cotangent, k, v = of_queries(q), of_queries(cotangent.astype(dtype)), _keys(blocks, k), _keys(blocks, v)
    group, across = q.shape[1], q.shape[1] * blocks.queries
    tiles = q.shape[2] // blocks.queries

    def along(x):  # [R T N] -> a row of numbers for each query tile
        x = of_queries(x[..., None]).reshape(kv_heads, group, tiles, blocks.queries)
        return x.swapaxes(1, 2).reshape(kv_heads, tiles, 1, across)

    query, key, row = _specs(blocks, group, width)
    anywhere, zeros = pl.BlockSpec(memory_space=pl.ANY), jnp.zeros(k.shape, jnp.float32)
    tile = pltpu.VMEM((2, blocks.keys, width), jnp.float32)
    semaphores = pltpu.SemaphoreType.DMA((2, 2))
    d_q, d_k, d_v = pl.pallas_call(
        partial(_backward_kernel, windowed=window is not None),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2, grid=(kv_heads, plan.count[0]),
            in_specs=[query, query, key, key, row, row, *_tree_specs(blocks), anywhere, anywhere],
            out_specs=[query, anywhere, anywhere],
            scratch_shapes=[pltpu.VMEM((across, width), jnp.float32), tile, tile, semaphores, semaphores],
        ),
        out_shape=[
            jax.ShapeDtypeStruct(q.shape, dtype), jax.ShapeDtypeStruct(k.shape, jnp.float32),
            jax.ShapeDtypeStruct(v.shape, jnp.float32),
        ],
        input_output_aliases={10: 1, 11: 2},  # the sums in HBM begin as zeros; the two scalars count, too
        compiler_params=_compiler(), interpret=settings.interpret, name="tree_attention_backward",
    )(
        plan.visit, _window(window), q, cotangent, k, v, along(log_total), along(mean), plan.query, plan.key, zeros,
        zeros,
    )  # fmt: skip
    of_keys = lambda x: x.reshape(kv_heads, rows, -1, width)[:, :, :length].transpose(1, 2, 0, 3).astype(dtype)
    return _of_queries(rows, length, d_q), of_keys(d_k), of_keys(d_v)


def _backward_kernel(
    visit, window, q_ref, d_out_ref, k_ref, v_ref, log_ref, mean_ref, query_ref, key_ref, _, __, d_q_ref, d_k_hbm,
    d_v_hbm, sums, d_k, d_v, reading, writing, *, windowed,
):  # fmt: skip
    head, step, steps = pl.program_id(0), pl.program_id(1), pl.num_programs(1)
    group, queries, width = q_ref.shape[1:]
    keys = k_ref.shape[1]
    here, first, last = _place(visit, queries, keys)
    slot = step % 2

    def copies(step, way):
        """Between HBM and VMEM, of the key tile of a step; there is room for that of two steps."""
        at = (head, pl.ds(_tiles(visit, step)[1] * keys, keys))
        for i, (hbm, vmem) in enumerate(((d_k_hbm, d_k), (d_v_hbm, d_v))):
            pair = (hbm.at[at], vmem.at[step % 2])
            yield pltpu.make_async_copy(*(pair if way is reading else pair[::-1]), way.at[step % 2, i])

    def written(step):
        for copy in copies(step, writing):
            copy.wait()

    again = lambda step: _tiles(visit, step)[1] == _tiles(visit, jnp.maximum(step - 1, 0))[1]

    # Before a tile is read its last sums are written, and so are those that were in its room.
    @pl.when((step >= 2) & ~again(step - 1))
    def _():
        written(step - 2)

    @pl.when((step >= 1) & again(step))
    def _():
        written(step - 1)

    for copy in copies(step, reading):
        copy.start()

    @pl.when(first)
    def _():
        sums[...] = jnp.zeros(sums.shape, jnp.float32)

    q, d_out = (x[0].reshape(group * queries, width) for x in (q_ref, d_out_ref))
    k, v = k_ref[0], v_ref[0]
    column = [jnp.broadcast_to(key_ref[0, i : i + 1], (LANES, keys)).T[:, :1] for i in range(2)]
    enter, position = query_ref[0, 0:1], query_ref[0, 1:2]
    bounds = (enter, column[0]), (position, column[1])
    bias = _bias(here, (keys, queries), 1, *bounds, window[0] if windowed else None)
    scores = _dot(k, q, ((1,), (1,))) + jnp.concatenate([bias] * group, axis=1)
    weight = jnp.exp(scores - log_ref[0, 0])
    d_scores = (weight * (_dot(v, d_out, ((1,), (1,))) - mean_ref[0, 0])).astype(q.dtype)
    sums[...] += _dot(d_scores, k, ((0,), (0,)))
    own = _dot(d_scores, q, ((1,), (0,))), _dot(weight.astype(q.dtype), d_out, ((1,), (0,)))
    for copy in copies(step, reading):
        copy.wait()
    d_k[slot] += own[0]
    d_v[slot] += own[1]
    for copy in copies(step, writing):
        copy.start()

    @pl.when(last)
    def _():
        d_q_ref[0] = sums[...].reshape(group, queries, width).astype(d_q_ref.dtype)

    # The next head begins with nothing on its way.
    @pl.when((step == steps - 1) & (step >= 1) & ~again(step))
    def _():
        written(step - 1)

    @pl.when(step == steps - 1)
    def _():
        written(step)


def _bias(here, shape, query_axis: int, interval, position, window) -> Float[Array, "B S"]:
    """0 where a pair is seen, else so low that its weight is 0. `here` is the first token of either tile."""
    query = here[0] + lax.broadcasted_iota(jnp.int32, shape, query_axis)
    key = here[1] + lax.broadcasted_iota(jnp.int32, shape, 1 - query_axis)
    (enter, leave), (own, other) = interval, position
    seen = (enter < leave) & (query > key)
    if window is not None:
        seen &= own - other < window
    return jnp.where(seen | (query == key), 0.0, LOWEST)


def _tiles(visit, step):
    """Query and key tile of a step."""
    number = visit[step]
    return number >> KEY_BITS, number & (2**KEY_BITS - 1)


def _place(visit, queries: int, keys: int):
    """First token of the step's query and key tile, and whether it is the first and the last one of the query tile."""
    step, last = pl.program_id(1), pl.num_programs(1) - 1
    query, key = _tiles(visit, step)
    of = lambda step: _tiles(visit, jnp.clip(step, 0, last))[0]
    first_visit = (step == 0) | (of(step - 1) != query)
    last_visit = (step == last) | (of(step + 1) != query)
    return (query * queries, key * keys), first_visit, last_visit


def _specs(blocks: Blocks, group: int, width: int) -> tuple[pl.BlockSpec, pl.BlockSpec, pl.BlockSpec]:
    """Blocks of queries, of keys, and of a number for each query."""
    at_query = lambda head, step, visit, window: (head, 0, _tiles(visit, step)[0], 0)
    at_key = lambda head, step, visit, window: (head, _tiles(visit, step)[1], 0)
    in_row = lambda head, step, visit, window: (head, _tiles(visit, step)[0], 0, 0)
    return (
        pl.BlockSpec((1, group, blocks.queries, width), at_query), pl.BlockSpec((1, blocks.keys, width), at_key),
        pl.BlockSpec((1, 1, 1, group * blocks.queries), in_row),
    )  # fmt: skip


def _tree_specs(blocks: Blocks) -> tuple[pl.BlockSpec, pl.BlockSpec]:
    return (
        pl.BlockSpec((1, 2, blocks.queries), lambda head, step, visit, window: (_tiles(visit, step)[0], 0, 0)),
        pl.BlockSpec((1, 2, blocks.keys), lambda head, step, visit, window: (_tiles(visit, step)[1], 0, 0)),
    )


def _compiler() -> pltpu.CompilerParams:
    return pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=VMEM_BYTES)


def _window(window: Int[Array, ""] | None) -> Int[Array, "1"]:
    return jnp.zeros(1, jnp.int32) if window is None else jnp.asarray(window, jnp.int32).reshape(1)


def _dot(a, b, contracted: tuple[tuple[int], tuple[int]]) -> Float[Array, "A B"]:
    return lax.dot_general(a, b, (contracted, ((), ())), preferred_element_type=jnp.float32)


def _queries(blocks: Blocks, kv_heads: int, x: Float[Array, "R T N H"]) -> Float[Array, "K G M*Q H"]:
    """Heads first, then the tokens of all rows, each padded to whole tiles."""
    rows, length, heads, width = x.shape
    x = jnp.pad(x, ((0, 0), (0, blocks.padded(length) - length), (0, 0), (0, 0)))
    return x.transpose(2, 0, 1, 3).reshape(kv_heads, heads // kv_heads, -1, width)


def _of_queries(rows: int, length: int, x: Float[Array, "K G M*Q H"]) -> Float[Array, "R T N H"]:
    """The inverse of `_queries`."""
    kv_heads, group, _, width = x.shape
    return x.reshape(kv_heads * group, rows, -1, width)[:, :, :length].transpose(1, 2, 0, 3)


def _keys(blocks: Blocks, x: Float[Array, "R T K H"]) -> Float[Array, "K S*B H"]:
    """As `_queries`."""
    return _queries(blocks, x.shape[2], x)[:, 0]
