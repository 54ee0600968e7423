"""Sums over the tokens of each completion, for losses that look at it as a whole. No completion is cut by packing."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def sums(value: Float[Array, "R T"], owner: Int[Array, "R T"]) -> Float[Array, "R T"]:
    """Each token's sum over all tokens of its owner, whatever the ids and wherever they stand."""
    flat = owner.reshape(-1)
    _, segment = jnp.unique(flat, return_inverse=True, size=flat.size)
    total = jax.ops.segment_sum(value.reshape(-1), segment.reshape(-1), num_segments=flat.size)
    return total[segment.reshape(-1)].reshape(value.shape)


def means(value: Float[Array, "R T"], owner: Int[Array, "R T"], weighed: Bool[Array, "R T"]) -> Float[Array, "R T"]:
    """Each weighed token's mean over the weighed tokens of its owner; 0 elsewhere."""
    count = sums(weighed.astype(value.dtype), owner)
    return jnp.where(weighed, sums(jnp.where(weighed, value, 0.0), owner) / jnp.maximum(count, 1.0), 0.0)
