"""Tree attention for any platform, in tiles; the backward pass makes the weights anew, so that no layer keeps them.

Key-value heads are not repeated: the query heads of one key head lie side by side, and one product serves them.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

SMALLEST_BLOCK = 64  # queries; below it a tile's products are too thin to be worth a loop


def tree_attention(
    q: Float[Array, "R T N H"], k: Float[Array, "R T K H"], v: Float[Array, "R T K H"], *,
    position: Int[Array, "R T"], enter: Int[Array, "R T"], leave: Int[Array, "R T"],
    window: Int[Array, ""] | None = None, held: int = 2**17, split_rows: bool = True,
) -> Float[Array, "R T N H"]:  # fmt: skip
    """See the public function. Scores, softmax and sums in float32 at least; products take the dtype of q, k, v.

    Args:
      held: scores that exist at once, about: R' N Q T for a tile of R' rows and Q queries.
      split_rows: tiles may take some of the rows, for a cache; otherwise they take all rows and fewer queries, which
        keeps an accelerator busy and a sharded row axis whole.
    """
    rows, length, heads, width = q.shape
    groups, block = _tiling(rows, length, heads, held, split_rows)
    q = (q * width**-0.5).reshape(rows, length, k.shape[2], -1, width).transpose(0, 2, 3, 1, 4)
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    split = lambda x: x.reshape(groups, rows // groups, *x.shape[1:])
    one = lambda part: _attend(block, *part, window)
    out = jax.lax.map(one, jax.tree.map(split, (q, k, v, (position, enter, leave))))
    out = out.reshape(rows, k.shape[1], -1, length, width)
    return out.transpose(0, 3, 1, 2, 4).reshape(rows, length, heads, width)


def _tiling(rows: int, length: int, heads: int, held: int, split_rows: bool) -> tuple[int, int]:
    """(row groups, queries of a block) that hold about `held` scores at once."""
    of_row = heads * length * length
    sizes = [n for n in range(1, rows + 1) if rows % n == 0 and n * of_row <= held] or [1]
    group = max(sizes) if split_rows else rows
    fitting = held // (group * heads * length)
    if fitting >= length:
        return rows // group, length
    return rows // group, min(length, max(SMALLEST_BLOCK, fitting // SMALLEST_BLOCK * SMALLEST_BLOCK))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(block, q, k, v, tree, window):
    """Attention of scaled queries q [R K G T H] to k, v [R K T H]; tree = (position, enter, leave)."""
    return _forward(block, q, k, v, tree, window)[0]


def _forward(block, q, k, v, tree, window):
    wide = jnp.promote_types(q.dtype, jnp.float32)

    def one(part):
        q, own = part
        scores = _scores(q, k, own, tree, window)
        top = jnp.max(scores, axis=-1, keepdims=True)
        weight = jnp.exp(scores - top)
        total = jnp.sum(weight, axis=-1, keepdims=True)
        out = _per_group("rkqs,rksh->rkqh", weight.astype(v.dtype), v, wide) / total
        return out.astype(q.dtype), (top + jnp.log(total))[..., 0]

    out, log_total = jax.lax.map(one, (_cut(q, block, 3), _queries(tree, block)))
    out, log_total = _join(out, q.shape[3], 3), _join(log_total, q.shape[3], 3)
    return out, (q, k, v, tree, window, out, log_total)


def _backward(block, saved, cotangent):
    q, k, v, tree, window, out, log_total = saved
    wide = jnp.promote_types(q.dtype, jnp.float32)
    mean = jnp.sum(cotangent.astype(wide) * out.astype(wide), axis=-1)

    def one(carry, part):
        q, cotangent, log_total, mean, own = part
        weight = jnp.exp(_scores(q, k, own, tree, window) - log_total[..., None])
        d_weight = _per_group("rkqh,rksh->rkqs", cotangent, v, wide)
        d_scores = (weight * (d_weight - mean[..., None])).astype(q.dtype)
        d_q = _per_group("rkqs,rksh->rkqh", d_scores, k, wide)
        d_k = _over_group(d_scores, q, wide)
        d_v = _over_group(weight.astype(q.dtype), cotangent, wide)
        return (carry[0] + d_k, carry[1] + d_v), d_q.astype(q.dtype)

    zero = jnp.zeros(k.shape, wide)
    parts = *(_cut(x, block, 3) for x in (q, cotangent, log_total, mean)), _queries(tree, block)
    (d_k, d_v), d_q = jax.lax.scan(one, (zero, zero), parts)
    return _join(d_q, q.shape[3], 3), d_k.astype(k.dtype), d_v.astype(v.dtype), None, None


_attend.defvjp(_forward, _backward)


def _scores(q, k, own, tree, window):
    """[R K G Q T] scores of a block of queries, the lowest number where a token is not seen."""
    q_position, q_enter, q_index = (x[:, :, None] for x in own)
    position, enter, leave = (x[:, None, :] for x in tree)
    seen = (enter <= q_enter) & (q_enter < leave) & (position <= q_position)
    if window is not None:
        seen = seen & (q_position - position < window)
    seen = seen | (q_index == jnp.arange(position.shape[2])[None, None, :])
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scores = _per_group("rkqh,rksh->rkqs", q, k, wide)
    return jnp.where(seen[:, None, None], scores, jnp.finfo(wide).min)


def _queries(tree, block):
    """What a block of queries must know of itself: position, enter, index in the row."""
    position, enter, _ = tree
    index = jnp.broadcast_to(jnp.arange(position.shape[1])[None, :], position.shape)
    return tuple(_cut(x, block, 1) for x in (position, enter, index))


def _cut(x, block: int, axis: int):
    """Blocks of `axis` in front of everything; the last one is filled with zeros."""
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, -x.shape[axis] % block)
    x = jnp.pad(x, pad)
    return jnp.moveaxis(x.reshape(*x.shape[:axis], -1, block, *x.shape[axis + 1 :]), axis, 0)


def _join(x, length: int, axis: int):
    """The inverse of `_cut`."""
    x = jnp.moveaxis(x, 0, axis)
    x = x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])
    return jax.lax.slice_in_dim(x, 0, length, axis=axis)


def _per_group(formula: str, x, y, wide):
    """einsum(x [R K G Q .], y [R K T .]) with G and Q taken together: one product per key head."""
    flat = x.reshape(*x.shape[:2], -1, x.shape[-1])
    made = jnp.einsum(formula, flat, y, preferred_element_type=wide)
    return made.reshape(*x.shape[:4], -1)


def _over_group(weight, x, wide):
    """[R K T H]: weight [R K G Q T] times x [R K G Q H], summed over the queries of all heads of the group."""
    flat = lambda y: y.reshape(*y.shape[:2], -1, y.shape[-1])
    return jnp.einsum("rkqs,rkqh->rksh", flat(weight), flat(x), preferred_element_type=wide)
