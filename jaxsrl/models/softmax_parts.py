"""A softmax in parts: each is (sum of exp(score - top) v, sum of exp(score - top), top)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Part = tuple[Float[Array, "... H"], Float[Array, "... 1"], Float[Array, "... 1"]]


def exp_scores(scores: Float[Array, "... T"], seen: Bool[Array, "... T"]):
    """(exp(score - top) of what is seen, its sum, top) over the last axis.

    Where nothing is seen, `top` is the least number there is: merged with a part that sees something, the part is 0.
    """
    scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
    top = jnp.max(scores, axis=-1, keepdims=True)
    weight = jnp.exp(scores - top)
    return weight, jnp.sum(weight, axis=-1, keepdims=True), top


def merge(a: Part, b: Part) -> Part:
    """The two parts as one."""
    top = jnp.maximum(a[2], b[2])
    from_a, from_b = jnp.exp(a[2] - top), jnp.exp(b[2] - top)
    return a[0] * from_a + b[0] * from_b, a[1] * from_a + b[1] * from_b, top
