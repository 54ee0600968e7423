"""Groups that the expert's solution joins as one more completion."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from jaxsrl.objectives.advantage import group_std
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.types import Rollouts, TokenWeights


def weigh_joined(
    policy: GRPO,
    rollouts: Rollouts,
    reward: Float[np.ndarray, "P"],
    target: Bool[np.ndarray, "M E"],
    *,
    expert_reward: float,
    in_baseline: bool,
) -> tuple[TokenWeights, TokenWeights]:
    """The policy's weights over groups of G rollouts and the expert; averages count the expert's tokens too.

    Args:
      in_baseline: whether the expert's reward is part of the group's mean and deviation. If not, both are those of the
        rollouts, and where these are all alike the expert's advantage is its reward above them, divided by nothing.
    Returns: of the demonstrations (as policy gradient, no NLL) and of the rollouts.
    """
    if not in_baseline and (policy.std not in ("group", "none") or policy.whiten):
        raise ValueError(f"in_baseline=False needs std group or none, unwhitened; got {policy.std!r} {policy.whiten=}")
    count, width = rollouts.mask.shape
    groups, first = np.unique(rollouts.group, return_index=True)
    owner = rollouts.demonstration[first]
    wide = max(width, target.shape[1])
    joined = _with_rows(rollouts, target[owner], groups, owner, wide)
    every = np.concatenate([reward, np.full(len(groups), expert_reward)])
    weights = policy.weigh(joined, every, np.zeros((len(target), 0), bool))[1]
    advantage = weights.advantage if in_baseline else _apart(policy, rollouts, reward, groups, expert_reward, joined)
    trunk = {name: np.zeros(target.shape) for name in ("nll", "pg", "advantage")}
    trunk["pg"][owner] = weights.pg[count:, : target.shape[1]]
    trunk["advantage"][owner] = advantage[count:, : target.shape[1]]
    branches = TokenWeights(
        nll=np.zeros((count, width)), pg=weights.pg[:count, :width], advantage=advantage[:count, :width]
    )
    return TokenWeights(**trunk), branches


def _with_rows(rollouts: Rollouts, target, groups, owner, wide: int) -> Rollouts:
    """The rollouts with a row of `target` for each group."""
    more = len(groups)
    values = {}
    for name, value in vars(rollouts).items():
        if name == "token_bytes":
            values[name] = value
        elif isinstance(value, tuple):
            values[name] = value + ("" if name == "text" else "solve",) * more
        elif value is None or value.ndim == 1:
            values[name] = None if value is None else np.concatenate([value, np.zeros(more, value.dtype)])
        else:
            values[name] = np.pad(value, [(0, more), (0, wide - value.shape[1])])
    values["mask"][len(rollouts) :, : target.shape[1]] = target
    values["group"][len(rollouts) :], values["demonstration"][len(rollouts) :] = groups, owner
    return Rollouts(**values)


def _apart(policy: GRPO, rollouts: Rollouts, reward, groups, expert_reward: float, joined: Rollouts) -> np.ndarray:
    """Advantages [P + groups, wide] with the rollouts' own mean and deviation."""
    keep_all = replace(policy, filter_std=None)
    own = keep_all.weigh(rollouts, reward, np.zeros((1, 0), bool))[1].advantage
    out = np.zeros(joined.mask.shape)
    out[: len(rollouts), : own.shape[1]] = own
    for i, group in enumerate(groups):
        members = reward[(rollouts.group == group) & ~(policy.mask_truncated & rollouts.truncated)]
        if not members.size:
            continue
        alike = not group_std(members, np.zeros(len(members), int)).any()
        spread = members.std(ddof=policy.ddof) if policy.std == "group" and not alike else 0.0
        above = expert_reward - members.mean()
        out[len(rollouts) + i] = above / (spread + policy.epsilon) if spread else above
    return out * joined.mask
