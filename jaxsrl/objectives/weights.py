"""From which tokens count to how much they count, over a whole optimizer step.

Each function takes a mask [B T] and returns weights [B T], float64. They are divided here once, so that packing,
microbatches and devices have only to add.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

Aggregation = Literal["token_mean", "sequence_mean", "group_mean", "fixed_length"]


def token_mean(mask: Bool[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """1 / tokens of the step: every token counts the same, long rows count more. Sums to 1 (DAPO)."""
    return mask / max(int(mask.sum()), 1)


def sequence_mean(mask: Bool[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """1 / (rows * own tokens): every row counts the same. Sums to 1 (GRPO as printed). Empty rows are no rows."""
    length = mask.sum(axis=1, keepdims=True)
    rows = max(int((length > 0).sum()), 1)
    return mask / np.maximum(length, 1) / rows


def group_mean(mask: Bool[np.ndarray, "B T"], group: Int[np.ndarray, "B"]) -> Float[np.ndarray, "B T"]:
    """1 / (groups * tokens of the group): every prompt counts the same. Sums to 1. Empty groups are no groups."""
    _, member = np.unique(group, return_inverse=True)
    tokens = np.bincount(member, mask.sum(axis=1))
    groups = max(int((tokens > 0).sum()), 1)
    return mask / np.maximum(tokens, 1)[member][:, None] / groups


def fixed_length(mask: Bool[np.ndarray, "B T"], length: int) -> Float[np.ndarray, "B T"]:
    """1 / (rows * length), a constant length in tokens. Sums to the filled fraction (Dr. GRPO).

    The constant is a setting, never the width of the array, so that padding changes nothing.
    """
    rows = max(int(mask.any(axis=1).sum()), 1)
    return mask / (rows * length)


def aggregate(
    mask: Bool[np.ndarray, "B T"], how: Aggregation, *, group: Int[np.ndarray, "B"] | None = None, length: int = 1
) -> Float[np.ndarray, "B T"]:
    """The weights a setting names. `group` and `length` are read by the choices that have them."""
    match how:
        case "token_mean":
            return token_mean(mask)
        case "sequence_mean":
            return sequence_mean(mask)
        case "group_mean":
            return group_mean(mask, group)
        case "fixed_length":
            return fixed_length(mask, length)
        case unknown:
            raise ValueError(f"unknown aggregation {unknown!r}")
