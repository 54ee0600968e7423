"""Rewards above a group's baseline. Host arithmetic in float64 over all rollouts of an optimizer step."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

Baseline = Literal["mean", "leave_one_out", "none"]
Scale = Literal["group", "batch", "leave_one_out", "none"]
# Rewards closer than this share of the larger one are equal: sums in another order, or float32 and back, differ by
# less than a real reward does, and divided by their own deviation such a difference would become an advantage of 1.
EQUAL = 1e-9


def group_std(reward: Float[np.ndarray, "P"], group: Int[np.ndarray, "P"], *, ddof: int = 0) -> Float[np.ndarray, "P"]:
    """Each rollout's group's standard deviation; 0 for a group whose rewards are all equal, and for a group of one.

    sqrt(sum (r - mean)^2 / (G - ddof)). Equal means within `EQUAL` of each other.
    Raises: ValueError for a reward that is not finite.
    Source: arXiv:2510.25992 filters by ddof 0.
    """
    reward = finite(reward)
    _, member = np.unique(group, return_inverse=True)
    size = np.bincount(member)
    mean = np.bincount(member, reward) / np.maximum(size, 1)
    square = np.bincount(member, (reward - mean[member]) ** 2)
    std = np.sqrt(square / np.maximum(size - ddof, 1))
    # The mean of equal floats may differ from them in the last bit: the range decides, not the sum.
    low, high = np.full(len(size), np.inf), np.full(len(size), -np.inf)
    np.minimum.at(low, member, reward)
    np.maximum.at(high, member, reward)
    return np.where(high - low <= EQUAL * np.maximum(np.abs(low), np.abs(high)), 0.0, std)[member]


def finite(reward: Float[np.ndarray, "P"]) -> Float[np.ndarray, "P"]:
    """The rewards in float64.

    Raises: ValueError for one that is not finite: it would spoil its group's mean, and a filter would hide it.
    """
    reward = np.asarray(reward, np.float64)
    bad = np.flatnonzero(~np.isfinite(reward))
    if bad.size:
        raise ValueError(f"the reward of rollout {bad[0]} is {reward[bad[0]]}; a grader must return finite numbers")
    return reward


def group_advantage(
    reward: Float[np.ndarray, "P"],
    group: Int[np.ndarray, "P"],
    *,
    baseline: Baseline = "mean",
    std: Scale = "group",
    ddof: int = 0,
    epsilon: float = 0.0,
    lone: float = 0.0,
    include: Bool[np.ndarray, "P"] | None = None,
) -> Float[np.ndarray, "P"]:
    """(r - baseline) / (std + epsilon) within each group; exactly 0 where a group's rewards are all equal.

    Args:
      group: equal for rollouts that share a baseline; ids, in any order.
      baseline: `mean` of the group; `leave_one_out`, the mean of the others (RLOO); `none`.
      std: divides by the `group`'s deviation with `ddof`; by that of all rollouts (`batch`, Lite-PPO); by that of the
        others of the group (`leave_one_out`); or by nothing (`none`, Dr. GRPO). A deviation of 0 divides by nothing.
      lone: advantage of a group of one, per unit of its reward. 0: it has nothing to be above.
      include: rollouts that take part; the others are in no mean and no deviation and get 0.
    Returns: in units of the reward, or of its deviation.
    Raises: ValueError for a reward that takes part and is not finite.
    """
    use = np.ones(len(reward), bool) if include is None else np.asarray(include, bool)
    out = np.zeros(len(reward))
    if not use.any():
        return out
    r = finite(np.where(use, reward, 0.0))[use]
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
    if std != "none":
        scale = {"group": lambda: spread, "batch": lambda: group_std(r, np.zeros(len(r), int), ddof=ddof)}
        scale = scale.get(std, lambda: _others_std(r, member, ddof))()
        above = above / np.where(scale > 0, scale + epsilon, 1.0)
    flat = (spread == 0) if (baseline != "none" or std != "none") else np.zeros(len(r), bool)
    above = np.where(flat, 0.0, above)
    out[use] = np.where(size == 1, lone * r, above) if baseline != "none" else above
    return out


def _others_std(reward: np.ndarray, member: np.ndarray, ddof: int) -> np.ndarray:
    """Each rollout's deviation of the rest of its group; 0 where the rest is one or equal."""
    out = np.zeros(len(reward))
    for i, own in enumerate(member):
        others = reward[(member == own) & (np.arange(len(reward)) != i)]
        if len(others) > 1:
            out[i] = group_std(others, np.zeros(len(others), int), ddof=ddof)[0]
    return out


def whiten(
    advantage: Float[np.ndarray, "P C"], mask: Bool[np.ndarray, "P C"], *, epsilon: float = 1e-8
) -> Float[np.ndarray, "P C"]:
    """(A - mean) / sqrt(max(variance, epsilon)) over the tokens of the mask; 0 elsewhere. Population variance.

    Source: arXiv:2501.03262, in which long completions therefore count more. Tokens that all have one advantage keep
    none.
    """
    values = np.asarray(advantage, np.float64)[mask]
    out = np.zeros(np.shape(advantage))
    if values.size and np.ptp(values) > EQUAL * np.abs(values).max():
        out[mask] = (values - values.mean()) / np.sqrt(max(values.var(), epsilon))
    return out
