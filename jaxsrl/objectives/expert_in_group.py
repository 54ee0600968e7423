"""Groups that the expert's solution joins as one more completion: one more column of the rectangle."""

from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.advantage import group_std, in_groups, of_rollouts, whiten
from jaxsrl.objectives.collected import check_shapes, no_weight, wide
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.weights import row_weights, spread
from jaxsrl.types import Collected, Numbers, TokenWeights, Weights


def expert_in_group(
    policy: GRPO, collected: Collected, reward: Float[Array, "P"], numbers: Numbers, *,
    expert_reward: Float[Array, ""], in_baseline: bool,
) -> Weights:  # fmt: skip
    """The policy's weights over groups of G rollouts and the expert; averages count the expert's tokens too.

    Args:
      numbers: the policy's.
      in_baseline: whether the expert's reward is part of the group's mean and deviation. If not, both are those of the
        rollouts, and where these are all alike the expert's advantage is its reward above them, divided by nothing.
        Then the policy's `std` is group or none, and nothing is whitened.
    Returns: of the demonstrations as policy gradient, without NLL, and of the rollouts.
    """
    check_shapes(collected, reward)
    reward, groups, mask = wide(reward), collected.groups, collected.mask
    include, joins = policy.included(collected), jnp.any(groups.present, axis=1)  # it joins where there is a group
    own, present = in_groups(reward, groups), groups.present & in_groups(include, groups)
    expert = jnp.full((len(joins), 1), expert_reward, reward.dtype)
    every, there = jnp.concatenate([own, expert], axis=1), jnp.concatenate([present, joins[:, None]], axis=1)
    if in_baseline:
        above = policy.advantage(every, there, numbers)
        own_above, expert_above = above[:, :-1], above[:, -1]
    else:
        own_above = policy.advantage(own, present, numbers)
        expert_above = _apart(policy, own, present, expert_reward, numbers)
    kept, target = policy.kept(every, there, numbers), _target_of_groups(collected, joins)
    counted, of_expert = mask & (include & kept[groups.group])[:, None], target & kept[:, None]
    advantage, theirs = spread(mask, of_rollouts(own_above, groups)), spread(target, expert_above)
    if policy.whiten:
        advantage, theirs = _whiten_both(advantage, counted, theirs, of_expert)
    tokens = jnp.concatenate([jnp.sum(counted, axis=1), jnp.sum(of_expert, axis=1)])
    number = jnp.concatenate([groups.group, jnp.arange(len(joins), dtype=groups.group.dtype)])
    weight = row_weights(
        tokens, policy.aggregation, group=number, groups=len(joins), length=policy.length
    ).astype(reward.dtype)  # fmt: skip
    none = no_weight(mask.shape, reward.dtype)
    rollouts = replace(none, pg=spread(counted, weight[: len(mask)]), advantage=advantage)
    trunk = _on_demonstrations(collected, joins, spread(of_expert, weight[len(mask) :]), theirs)
    return Weights(trunk=trunk, rollouts=rollouts)


def _target_of_groups(collected: Collected, joins: Bool[Array, "Q"]) -> Bool[Array, "Q E"]:
    """The expert's tokens of each group; none of an empty one."""
    return collected.target[collected.groups.demonstration] & joins[:, None]


def _on_demonstrations(
    collected: Collected, joins: Bool[Array, "Q"], pg: Float[Array, "Q E"], advantage: Float[Array, "Q E"]
) -> TokenWeights:
    """What a group's expert tokens have, where its demonstration has them."""
    owner = jnp.where(joins, collected.groups.demonstration, collected.target.shape[0])  # out of bounds: dropped
    none = no_weight(collected.target.shape, pg.dtype)
    put = lambda value: none.pg.at[owner].set(value.astype(pg.dtype), mode="drop")
    return replace(none, pg=put(pg), advantage=put(advantage))


def _whiten_both(own: Float[Array, "P C"], counted: Bool[Array, "P C"], theirs: Float[Array, "Q E"], of_expert):
    """Advantages whitened over the tokens of rollouts and experts together."""
    flat = lambda a, b: jnp.concatenate([a.reshape(1, -1), b.reshape(1, -1)], axis=1)
    both = whiten(flat(own, theirs), flat(counted, of_expert))
    return both[:, : own.size].reshape(own.shape), both[:, own.size :].reshape(theirs.shape)


def _apart(policy: GRPO, reward, present, expert_reward, numbers: Numbers) -> Float[Array, "Q"]:
    """The expert's advantage by the rollouts' own mean and deviation; 0 where no rollout takes part."""
    size = jnp.sum(present, axis=1)
    r = jnp.where(present, reward, 0.0)
    mean = jnp.sum(r, axis=1) / jnp.maximum(size, 1)
    std = group_std(r, present, ddof=policy.ddof) if policy.std == "group" else jnp.zeros_like(mean)
    above = (expert_reward - mean) / jnp.where(std > 0, std + numbers["epsilon"], 1.0)
    return jnp.where(size > 0, above, 0.0)
