"""Tree attention for any platform: tiles that hold nothing visible are not computed (see `schedule.py`).

Every step is a few batched products. It adds its part of the softmax to what its queries have so far, by log-sum-exp.
The backward pass takes the same steps and makes the weights anew, so that no layer keeps them.

Key-value heads are not repeated: the G query heads of one key head lie side by side, and one product serves them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxsrl.ops.tree_attention.passes import Passes, attend
from jaxsrl.ops.tree_attention.schedule import Schedule, Tiles, schedule


def tree_attention(
    q: Float[Array, "R T N H"], k: Float[Array, "R T K H"], v: Float[Array, "R T K H"], *,
    position: Int[Array, "R T"], enter: Int[Array, "R T"], leave: Int[Array, "R T"],
    window: Int[Array, ""] | None = None, plan: Schedule | None = None, tiles: Tiles,
) -> Float[Array, "R T N H"]:  # fmt: skip
    """See the public function. Scores, softmax and sums in float32 at least; products take the dtype of q, k, v."""
    passes = Passes(partial(_forward_pass, tiles), partial(_backward_pass, tiles))
    return attend(passes, q * q.shape[-1] ** -0.5, k, v, (position, enter, leave), window, plan)


def _forward_pass(tiles, window, plan, arrays):
    """(out [R T N H], log-sum-exp of the scores [R T N])."""
    q, k, v, *tree = arrays
    rows, length, kv_heads, _ = k.shape
    tiles = tiles.fit(rows, length)
    plan = schedule(tiles, *tree, window) if plan is None else plan
    wide = jnp.promote_types(q.dtype, jnp.float32)
    cut = partial(_cut, tiles, kv_heads)
    q, k, v = cut(q), cut(k), cut(v)

    def step(pairs: Pairs, state):
        out, total, top = (pairs.query.take(x) for x in state)
        scores = _scores(pairs, q, k, wide)
        higher = jnp.maximum(top, jnp.max(scores, axis=-1, keepdims=True))
        weight = jnp.exp(scores - higher)
        shrink = jnp.exp(top - higher)
        total = total * shrink + jnp.sum(weight, axis=-1, keepdims=True)
        out = out * shrink + _times("kpqs,kpsh->kpqh", weight.astype(v.dtype), pairs.key.take(v), wide)
        return tuple(pairs.query.put(x, new) for x, new in zip(state, (out, total, higher), strict=True))

    each = jnp.zeros((*q.shape[:3], 1), wide)
    out, total, top = _visit(tiles, plan, window, step, (jnp.zeros(q.shape, wide), each, each + jnp.finfo(wide).min))
    back = partial(_join, tiles, rows, length)
    # What stands behind the last token was never visited, and is cut off here.
    return back(out / jnp.where(total > 0, total, 1)).astype(q.dtype), back(top + jnp.log(total))[..., 0]


def _backward_pass(tiles, window, plan, arrays):
    """Gradients of q, k and v."""
    q, k, v, *tree, out, log_total, cotangent = arrays
    rows, length, kv_heads, _ = k.shape
    tiles = tiles.fit(rows, length)
    plan = schedule(tiles, *tree, window) if plan is None else plan
    dtype, wide = q.dtype, jnp.promote_types(q.dtype, jnp.float32)
    cut = partial(_cut, tiles, kv_heads)
    mean = cut(jnp.sum(cotangent.astype(wide) * out.astype(wide), axis=-1, keepdims=True))
    q, k, v, log_total, cotangent = cut(q), cut(k), cut(v), cut(log_total[..., None]), cut(cotangent)

    def step(pairs: Pairs, sums):
        own, d_out, keys = pairs.query.take(q), pairs.query.take(cotangent), pairs.key.take(k)
        weight = jnp.exp(_scores(pairs, q, k, wide) - pairs.query.take(log_total))
        d_weight = _times("kpqh,kpsh->kpqs", d_out, pairs.key.take(v), wide)
        d_scores = (weight * (d_weight - pairs.query.take(mean))).astype(dtype)
        d_q = _times("kpqs,kpsh->kpqh", d_scores, keys, wide)
        d_k = _times("kpqs,kpqh->kpsh", d_scores, own, wide)
        d_v = _times("kpqs,kpqh->kpsh", weight.astype(dtype), d_out, wide)
        return pairs.query.add(sums[0], d_q), pairs.key.add(sums[1], d_k), pairs.key.add(sums[2], d_v)

    sums = _visit(tiles, plan, window, step, tuple(jnp.zeros(x.shape, wide) for x in (q, k, v)))
    return tuple(_join(tiles, rows, length, x).astype(dtype) for x in sums)


@dataclass(frozen=True)
class Side:
    """The query or the key tiles of a step. Arrays are [K M B*G …], of keys with G = 1; of a step [K P Q*G …]."""

    take: Callable
    put: Callable
    add: Callable


@dataclass(frozen=True)
class Pairs:
    """What a step visits: P pairs of Q queries and S keys."""

    query: Side
    key: Side
    seen: Bool[Array, "P Q S"]


def _visit(tiles: Tiles, plan: Schedule, window: Int[Array, ""] | None, step: Callable, state):
    near = lambda number, state: step(_near(tiles, plan, window, number), state)
    far = lambda number, state: step(_far(tiles, plan, window, number), state)
    state = jax.lax.fori_loop(0, plan.near_steps[0], near, state)
    return jax.lax.fori_loop(0, plan.far_steps[0], far, state) if plan.far_query.size else state


def _near(tiles: Tiles, plan: Schedule, window: Int[Array, ""] | None, number: Int[Array, ""]) -> Pairs:
    """One pair of every tile of a group that reaches so far."""
    count, offset = len(plan.reach), plan.near_offset[number]
    key = plan.member[plan.near_group[number]]
    there = plan.reach.at[key].get(mode="fill", fill_value=0) > offset
    absent = count + jnp.arange(tiles.group, dtype=jnp.int32)  # all different, and written nowhere
    query, key = jnp.where(there, key + offset, absent), jnp.where(there, key, absent)
    of = lambda x, index: x.at[index].get(mode="clip")
    # Only the pair with itself visits a tile that is far.
    leave = jnp.where((offset > 0) & of(plan.long, key)[:, None], -1, of(plan.leave, key))
    seen = _seen(window, of(plan.enter, query), leave, of(plan.position, query), of(plan.position, key))
    place = jnp.arange(tiles.tile)
    before = (offset > 0) | (place[:, None] >= place[None])[None]
    own = (offset == 0) & (place[:, None] == place[None])[None]
    return Pairs(_gathered(query), _gathered(key), (seen & before) | own)


def _far(tiles: Tiles, plan: Schedule, window: Int[Array, ""] | None, number: Int[Array, ""]) -> Pairs:
    """A block of queries by keys, without the pairs that are near."""
    query, key = plan.far_query[number], plan.far_key[number]
    of_query = lambda x: jax.lax.dynamic_slice_in_dim(x, query, tiles.queries).reshape(1, -1)
    of_key = lambda x: jax.lax.dynamic_slice_in_dim(x, key, tiles.keys).reshape(1, -1)
    leave = of_key(jnp.where(plan.long[:, None], plan.leave, -1))
    seen = _seen(window, of_query(plan.enter), leave, of_query(plan.position), of_key(plan.position))
    tile = lambda first, count: jnp.repeat(first + jnp.arange(count), tiles.tile)
    behind = tile(query, tiles.queries)[:, None] > tile(key, tiles.keys)[None]
    return Pairs(_sliced(query, tiles.queries), _sliced(key, tiles.keys), seen & behind[None])


def _seen(window: Int[Array, ""] | None, enter, leave, q_position, position) -> Bool[Array, "P Q S"]:
    """By the interval and the window; whether the key is before the query is left to the caller."""
    seen = enter[:, :, None] < leave[:, None, :]
    if window is not None:
        seen &= q_position[:, :, None] - position[:, None, :] < window
    return seen


def _gathered(index: Int[Array, "P"]) -> Side:
    return Side(
        take=lambda x: x.at[:, index].get(mode="clip"),
        put=lambda x, new: x.at[:, index].set(new, mode="drop", unique_indices=True),
        add=lambda x, new: x.at[:, index].add(new, mode="drop", unique_indices=True),
    )


def _sliced(start: Int[Array, ""], count: int) -> Side:
    read = lambda x: jax.lax.dynamic_slice_in_dim(x, start, count, axis=1)
    take = lambda x: read(x).reshape(x.shape[0], 1, -1, x.shape[3])
    put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new.reshape(read(x).shape), start, axis=1)
    return Side(take=take, put=put, add=lambda x, new: put(x, take(x) + new))


def _scores(pairs: Pairs, q, k, wide):
    """[K P Q*G S], the lowest number where a token is not seen."""
    scores = _times("kpqh,kpsh->kpqs", pairs.query.take(q), pairs.key.take(k), wide)
    each = scores.reshape(*scores.shape[:2], pairs.seen.shape[1], -1, scores.shape[3])
    return jnp.where(pairs.seen[None, :, :, None], each, jnp.finfo(wide).min).reshape(scores.shape)


def _times(formula: str, a, b, wide):
    return jnp.einsum(formula, a, b, preferred_element_type=wide)


def _cut(tiles: Tiles, kv_heads: int, x: Float[Array, "R T N H"]) -> Float[Array, "K M B*G H"]:
    """Heads first, then tiles."""
    x = tiles.cut(x.reshape(*x.shape[:2], kv_heads, -1, x.shape[3]))
    return x.transpose(2, 0, 1, 3, 4).reshape(kv_heads, len(x), -1, x.shape[4])


def _join(tiles: Tiles, rows: int, length: int, x: Float[Array, "K M B*G H"]) -> Float[Array, "R T N H"]:
    """The inverse of `_cut`."""
    x = x.reshape(*x.shape[:2], tiles.tile, -1, x.shape[3]).transpose(1, 2, 0, 3, 4)
    return tiles.join(x, rows, length).reshape(rows, length, -1, x.shape[4])
