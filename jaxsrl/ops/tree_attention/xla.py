"""Tree attention for any backend: key-value heads are not repeated, and long rows go in blocks of queries."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BLOCK = 512  # queries at a time: bounds the scores at [R N BLOCK T]


def tree_attention(
    q: Float[Array, "R T N H"], k: Float[Array, "R T K H"], v: Float[Array, "R T K H"], *,
    position: Int[Array, "R T"], enter: Int[Array, "R T"], leave: Int[Array, "R T"],
) -> Float[Array, "R T N H"]:  # fmt: skip
    """See the public function. Scores and softmax in float32 at least; the sum over values in the dtype of v."""
    length = q.shape[1]
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    index = jnp.arange(length)
    if length <= BLOCK:
        return _block(q, k, v, position, enter, leave, position, enter, index)
    pad = -length % BLOCK
    cut = lambda x: jnp.moveaxis(
        jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2)).reshape(x.shape[0], -1, BLOCK, *x.shape[2:]), 1, 0
    )
    one = jax.checkpoint(lambda block: _block(block[0], k, v, position, enter, leave, *block[1:]))
    blocks = (cut(q), cut(position), cut(enter), jnp.pad(index, (0, pad)).reshape(-1, BLOCK))
    out = jnp.moveaxis(jax.lax.map(one, blocks), 0, 1)
    return out.reshape(q.shape[0], length + pad, *q.shape[2:])[:, :length]


def _block(q, k, v, position, enter, leave, q_position, q_enter, q_index):
    """Attention of some queries over all keys; k and v are [R K T H]."""
    rows, queries, heads, width = q.shape
    kv_heads, length = k.shape[1], k.shape[2]
    wide = jnp.promote_types(q.dtype, jnp.float32)
    e = q_enter[:, :, None]
    seen = (enter[:, None, :] <= e) & (e < leave[:, None, :]) & (position[:, None, :] <= q_position[:, :, None])
    seen = seen | (jnp.arange(length)[None, None, :] == q_index[None, :, None])
    grouped = (q * width**-0.5).reshape(rows, queries, kv_heads, -1, width).transpose(0, 2, 3, 1, 4)
    grouped = grouped.reshape(rows, kv_heads, -1, width)  # the query heads of a key head side by side: one product
    scores = jnp.einsum("rkqh,rkth->rkqt", grouped, k, preferred_element_type=wide)
    scores = scores.reshape(rows, kv_heads, heads // kv_heads, queries, length)
    weight = jax.nn.softmax(jnp.where(seen[:, None, None], scores, jnp.finfo(wide).min), axis=-1)
    weight = weight.astype(v.dtype).reshape(rows, kv_heads, -1, length)
    out = jnp.einsum("rkqt,rkth->rkqh", weight, v).reshape(rows, kv_heads, -1, queries, width)
    return out.transpose(0, 3, 1, 2, 4).reshape(rows, queries, heads, width)
