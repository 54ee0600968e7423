"""From which tokens count to how much they count, over a whole optimizer step.

Each function takes the tokens of each row [B] and returns the weight [B] of one of them. They are divided here once, so
that packing, microbatches and devices have only to add.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Aggregation = Literal["token_mean", "sequence_mean", "group_mean", "fixed_length"]


def token_mean(tokens: Int[Array, "B"]) -> Float[Array, "B"]:
    """1 / tokens of the step: every token counts the same, long rows count more. Sums to 1 (DAPO)."""
    return jnp.broadcast_to(1 / jnp.maximum(jnp.sum(tokens), 1), tokens.shape)


def sequence_mean(tokens: Int[Array, "B"]) -> Float[Array, "B"]:
    """1 / (rows * own tokens): every row counts the same. Sums to 1 (GRPO as printed). Empty rows are no rows."""
    return 1 / jnp.maximum(tokens, 1) / jnp.maximum(jnp.sum(tokens > 0), 1)


def group_mean(tokens: Int[Array, "B"], group: Int[Array, "B"], groups: int) -> Float[Array, "B"]:
    """1 / (groups * tokens of the group): every prompt counts the same. Sums to 1. Empty groups are no groups."""
    total = jax.ops.segment_sum(tokens, group, num_segments=groups)
    return 1 / jnp.maximum(total, 1)[group] / jnp.maximum(jnp.sum(total > 0), 1)


def fixed_length(tokens: Int[Array, "B"], length: int) -> Float[Array, "B"]:
    """1 / (rows * length), a constant length in tokens. Sums to the filled fraction (Dr. GRPO).

    The constant is a setting, never the width of an array, so that padding changes nothing.
    """
    rows = jnp.maximum(jnp.sum(tokens > 0), 1)
    return jnp.broadcast_to(1 / rows / length, tokens.shape)  # their product may not fit an int32


def row_weights(
    tokens: Int[Array, "B"], how: Aggregation, *, group: Int[Array, "B"], groups: int, length: int = 1
) -> Float[Array, "B"]:
    """The weight of a row's token that a setting names; `group` and `length` are read by those that have them."""
    match how:
        case "token_mean":
            return token_mean(tokens)
        case "sequence_mean":
            return sequence_mean(tokens)
        case "group_mean":
            return group_mean(tokens, group, groups)
        case "fixed_length":
            return fixed_length(tokens, length)
        case unknown:
            raise ValueError(f"unknown aggregation {unknown!r}")


def spread(mask: Bool[Array, "B T"], weight: Float[Array, "B"]) -> Float[Array, "B T"]:
    """A row's weight on each of its tokens."""
    return jnp.where(mask, weight[:, None], 0.0)
