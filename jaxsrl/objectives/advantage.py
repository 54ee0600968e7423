"""Rewards above a group's baseline. Host arithmetic in float64 over all rollouts of an optimizer step."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

Baseline = Literal["mean", "leave_one_out", "none"]
Scale = Literal["group", "none"]


def group_std(reward: Float[np.ndarray, "P"], group: Int[np.ndarray, "P"], *, ddof: int = 0) -> Float[np.ndarray, "P"]:
    """Each rollout's group's standard deviation; 0 for a group whose rewards are all equal, and for a group of one.

    sqrt(sum (r - mean)^2 / (G - ddof)). Source: arXiv:2510.25992 filters by ddof 0.
    """
    reward = np.asarray(reward, np.float64)
    _, member = np.unique(group, return_inverse=True)
    size = np.bincount(member)
    mean = np.bincount(member, reward) / np.maximum(size, 1)
    square = np.bincount(member, (reward - mean[member]) ** 2)
    std = np.sqrt(square / np.maximum(size - ddof, 1))
    # Equal floats have a mean that may differ from them in the last bit: equality decides, not the sum.
    low, high = np.full(len(size), np.inf), np.full(len(size), -np.inf)
    np.minimum.at(low, member, reward)
    np.maximum.at(high, member, reward)
    return np.where(low == high, 0.0, std)[member]


def group_advantage(
    reward: Float[np.ndarray, "P"],
    group: Int[np.ndarray, "P"],
    *,
    baseline: Baseline = "mean",
    std: Scale = "group",
    ddof: int = 0,
    epsilon: float = 0.0,
    include: Bool[np.ndarray, "P"] | None = None,
) -> Float[np.ndarray, "P"]:
    """(r - baseline) / (std + epsilon) within each group; exactly 0 where a group's rewards are all equal.

    Args:
      group: equal for rollouts that share a baseline; ids, in any order.
      baseline: `mean` of the group; `leave_one_out`, the mean of the others (RLOO); `none`.
      std: divides by the `group`'s deviation with `ddof`, or by nothing (`none`, Dr. GRPO).
      include: rollouts that take part; the others are in no mean and no deviation and get 0.
    Returns: in units of the reward, or of its deviation. A group of one gets 0: it has nothing to be above.
    """
    reward = np.asarray(reward, np.float64)
    use = np.ones(len(reward), bool) if include is None else np.asarray(include, bool)
    out = np.zeros(len(reward))
    if not use.any():
        return out
    r = reward[use]
    _, member = np.unique(group[use], return_inverse=True)
    size = np.bincount(member)[member]
    total = np.bincount(member, r)[member]
    spread = group_std(r, member, ddof=ddof)
    if baseline == "mean":
        above = r - total / size
    elif baseline == "leave_one_out":
        above = r - (total - r) / np.maximum(size - 1, 1)
    else:
        above = r
    if std == "group":
        above = above / np.where(spread > 0, spread + epsilon, 1.0)
    flat = (spread == 0) if (baseline != "none" or std == "group") else np.zeros(len(r), bool)
    out[use] = np.where(flat | ((size == 1) & (baseline != "none")), 0.0, above)
    return out
