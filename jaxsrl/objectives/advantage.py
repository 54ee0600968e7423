"""Rewards above a group's baseline, on rectangles of groups: [Q G], with a mask of who is there."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from jaxsrl.types import Groups

Baseline = Literal["mean", "leave_one_out", "none"]
Scale = Literal["group", "batch", "leave_one_out", "none"]
# Numbers closer than this many eps of the larger one are equal: sums in another order, or float32 and back, differ by
# less than a real reward does, and divided by their own deviation such a difference would become an advantage of 1.
EQUAL = 8


def in_groups(value: Shaped[Array, "P"], groups: Groups) -> Shaped[Array, "Q G"]:
    """What each rollout has, where its group has the rollout. What is absent holds anything."""
    return value[groups.member] if value.size else jnp.zeros(groups.member.shape, value.dtype)


def of_rollouts(value: Float[Array, "Q G"], groups: Groups) -> Float[Array, "P"]:
    """The other way; 0 where there is no rollout."""
    if not value.size:
        return jnp.zeros(groups.group.shape, value.dtype)
    return jnp.where(groups.active, value[groups.group, groups.column], 0)


def alike(low: Float[Array, "*N"], high: Float[Array, "*N"]) -> Bool[Array, "*N"]:
    """Whether two numbers, low <= high, are equal to EQUAL eps of their dtype."""
    return high - low <= EQUAL * jnp.finfo(low.dtype).eps * jnp.maximum(jnp.abs(low), jnp.abs(high))


def exceeds(value: Float[Array, "*N"], threshold: Float[Array, ""], scale: Float[Array, "*N"]) -> Bool[Array, "*N"]:
    """value > threshold, and not by rounding: the same in float32 and in float64.

    Args:
      scale: size of the numbers that `value` was made from. Its rounding goes with theirs: a deviation of 0.02 among
        rewards near 1 is known to 50 times its own eps. A threshold of 0 asks only whether `value` is 0.
    """
    threshold = jnp.asarray(threshold, value.dtype)
    rounding = EQUAL * jnp.finfo(value.dtype).eps * jnp.maximum(jnp.abs(value), scale)
    return (value > threshold) & ((threshold == 0) | (value - threshold > rounding))


def group_std(reward: Float[Array, "Q G"], present: Bool[Array, "Q G"], *, ddof: int = 0) -> Float[Array, "Q"]:
    """Each group's standard deviation; 0 for one whose rewards are all equal, for a group of one, and for an empty one.

    sqrt(sum (r - mean)^2 / (G - ddof)). Equal means to 8 eps of the dtype.
    Source: arXiv:2510.25992 filters by ddof 0.
    """
    size = jnp.sum(present, axis=1)
    r = jnp.where(present, reward, 0.0)
    mean = jnp.sum(r, axis=1) / jnp.maximum(size, 1)
    square = jnp.sum(jnp.where(present, (r - mean[:, None]) ** 2, 0.0), axis=1)
    std = jnp.sqrt(square / jnp.maximum(size - ddof, 1))
    # The mean of equal floats may differ from them in the last bit: the range decides, not the sum.
    low = jnp.min(jnp.where(present, r, jnp.inf), axis=1)
    high = jnp.max(jnp.where(present, r, -jnp.inf), axis=1)
    some = size > 0
    return jnp.where(some & ~alike(jnp.where(some, low, 0.0), jnp.where(some, high, 0.0)), std, 0.0)


def group_advantage(
    reward: Float[Array, "Q G"],
    present: Bool[Array, "Q G"],
    *,
    baseline: Baseline = "mean",
    std: Scale = "group",
    ddof: int = 0,
    epsilon: Float[Array, ""] | float = 0.0,
    singleton_advantage: Float[Array, ""] | float = 0.0,
) -> Float[Array, "Q G"]:
    """(r - baseline) / (std + epsilon) within each group; exactly 0 where a group's rewards are all equal.

    Args:
      present: rollouts that take part; the others are in no mean and no deviation and get 0.
      baseline: `mean` of the group; `leave_one_out`, the mean of the others (RLOO); `none`.
      std: divides by the `group`'s deviation with `ddof`; by that of all rollouts (`batch`, Lite-PPO); by that of the
        others of the group (`leave_one_out`); or by nothing (`none`, Dr. GRPO). A deviation of 0 divides by nothing.
      singleton_advantage: advantage of a group of one, per unit of its reward. 0: it has nothing to be above.
    Returns: in units of the reward, or of its deviation.
    """
    r = jnp.where(present, reward, 0.0)
    size = jnp.sum(present, axis=1, keepdims=True)
    total = jnp.sum(r, axis=1, keepdims=True)
    spread = group_std(r, present, ddof=ddof)[:, None]
    match baseline:
        case "mean":
            above = r - total / jnp.maximum(size, 1)
        case "leave_one_out":
            above = r - (total - r) / jnp.maximum(size - 1, 1)
        case _:
            above = r
    if std != "none":
        scale = _scale(r, present, spread, std, ddof)
        above = above / jnp.where(scale > 0, scale + epsilon, 1.0)
    if baseline != "none" or std != "none":
        above = jnp.where(spread == 0, 0.0, above)
    if baseline != "none":
        above = jnp.where(size == 1, singleton_advantage * r, above)
    return jnp.where(present, above, 0.0)


def _scale(reward, present, spread, std: Scale, ddof: int) -> Float[Array, "Q G"]:
    if std == "batch":
        spread = group_std(reward.reshape(1, -1), present.reshape(1, -1), ddof=ddof)[:, None]
    elif std == "leave_one_out":
        return _others_std(reward, present, ddof)
    return jnp.broadcast_to(spread, reward.shape)


def _others_std(reward: Float[Array, "Q G"], present: Bool[Array, "Q G"], ddof: int) -> Float[Array, "Q G"]:
    """Each rollout's deviation of the rest of its group; 0 where the rest is one or equal."""
    count, size = reward.shape
    others = present[:, None, :] & ~jnp.eye(size, dtype=bool)[None]
    every = jnp.broadcast_to(reward[:, None, :], others.shape)
    return group_std(every.reshape(-1, size), others.reshape(-1, size), ddof=ddof).reshape(count, size)


def whiten(advantage: Float[Array, "P C"], mask: Bool[Array, "P C"], *, epsilon: float = 1e-8) -> Float[Array, "P C"]:
    """(A - mean) / sqrt(max(variance, epsilon)) over the tokens of the mask; 0 elsewhere. Population variance.

    Source: arXiv:2501.03262, in which long completions therefore count more. Tokens that all have one advantage keep
    none.
    """
    count = jnp.maximum(jnp.sum(mask), 1)
    value = jnp.where(mask, advantage, 0.0)
    mean = jnp.sum(value) / count
    variance = jnp.sum(jnp.where(mask, (value - mean) ** 2, 0.0)) / count
    low = jnp.min(jnp.where(mask, value, jnp.inf), initial=jnp.inf)
    high = jnp.max(jnp.where(mask, value, -jnp.inf), initial=-jnp.inf)
    some = jnp.any(mask)
    differ = some & ~alike(jnp.where(some, low, 0.0), jnp.where(some, high, 0.0))
    return jnp.where(mask & differ, (value - mean) / jnp.sqrt(jnp.maximum(variance, epsilon)), 0.0)
