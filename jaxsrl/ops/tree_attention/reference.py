"""Tree attention, plainly: a mask, a softmax, a sum."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def visible(
    position: Int[Array, "R T"], enter: Int[Array, "R T"], leave: Int[Array, "R T"],
    window: Int[Array, ""] | None = None,
) -> Bool[Array, "R T T"]:  # fmt: skip
    """Whether the token of the second axis sees that of the third."""
    e = enter[:, :, None]
    inside = (enter[:, None, :] <= e) & (e < leave[:, None, :])
    distance = position[:, :, None] - position[:, None, :]
    before = distance >= 0 if window is None else (distance >= 0) & (distance < window)
    return (inside & before) | jnp.eye(position.shape[1], dtype=bool)[None]


def tree_attention(
    q: Float[Array, "R T N H"], k: Float[Array, "R T K H"], v: Float[Array, "R T K H"], *,
    position: Int[Array, "R T"], enter: Int[Array, "R T"], leave: Int[Array, "R T"],
    window: Int[Array, ""] | None = None,
) -> Float[Array, "R T N H"]:  # fmt: skip
    """See the public function. Scores and softmax in float32 at least."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    repeat = q.shape[2] // k.shape[2]
    k, v = (jnp.repeat(x, repeat, axis=2).astype(wide) for x in (k, v))
    scores = jnp.einsum("rqnh,rknh->rnqk", q.astype(wide), k) * q.shape[-1] ** -0.5
    scores = jnp.where(visible(position, enter, leave, window)[:, None], scores, -jnp.inf)
    return jnp.einsum("rnqk,rknh->rqnh", jax.nn.softmax(scores, axis=-1), v).astype(q.dtype)
