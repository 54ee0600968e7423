"""Objectives on ragged lists of rollouts, as a person writes them down: group ids in any order, lengths, rewards."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrl.objectives import advantage, weights
from jaxsrl.objectives.numbers import as_arrays, numbers_of
from jaxsrl.types import Collected, Groups, TokenWeights


@dataclass(frozen=True, kw_only=True)
class Ragged:
    """P rollouts of C tokens at most."""

    mask: np.ndarray
    behavior_logp: np.ndarray
    group: np.ndarray
    demonstration: np.ndarray
    truncated: np.ndarray
    ref_logp: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.mask)


def rollouts_of(group, lengths, *, width=None, truncated=None, demonstration=None, logp=None) -> Ragged:
    """Rollouts with the given group ids and lengths in tokens; a demonstration for each group, in order of their ids,
    unless it is given."""
    lengths = np.asarray(lengths)
    width = width or int(lengths.max(initial=1))
    count = len(lengths)
    owner = np.unique(group, return_inverse=True)[1] if demonstration is None else np.asarray(demonstration)
    return Ragged(
        mask=np.arange(width) < lengths[:, None], demonstration=owner, group=np.asarray(group),
        behavior_logp=np.zeros((count, width)) if logp is None else np.asarray(logp),
        truncated=np.zeros(count, bool) if truncated is None else np.asarray(truncated, bool),
    )  # fmt: skip


def groups_of(group: np.ndarray, demonstration: np.ndarray | None = None) -> Groups:
    """Groups of the rollouts with equal ids, in order of their ids; members in order of the rollouts."""
    ids, member = np.unique(group, return_inverse=True)
    size = np.bincount(member, minlength=len(ids)).astype(int)
    column = np.array([np.sum(member[:p] == own) for p, own in enumerate(member)], np.int32)
    shape = (len(ids), int(size.max(initial=1)))
    members, present = np.zeros(shape, np.int32), np.zeros(shape, bool)
    members[member, column], present[member, column] = np.arange(len(member)), True
    owner = np.zeros(len(ids), np.int32)
    if demonstration is not None:
        owner[member] = demonstration
    return Groups(
        member=members, present=present, demonstration=owner, hash=np.arange(len(ids), dtype=np.uint32),
        group=member.astype(np.int32), column=column, active=np.ones(len(member), bool),
    )  # fmt: skip


def collected(rollouts: Ragged, target: np.ndarray, step: int = 0) -> Collected:
    """What an objective weighs."""
    dtype = jnp.result_type(float)
    return Collected(
        mask=jnp.asarray(rollouts.mask), behavior_logp=jnp.asarray(rollouts.behavior_logp, dtype),
        truncated=jnp.asarray(rollouts.truncated), target=jnp.asarray(target), step=jnp.int32(step),
        groups=jax.tree.map(jnp.asarray, groups_of(rollouts.group, rollouts.demonstration)),
        ref_logp=None if rollouts.ref_logp is None else jnp.asarray(rollouts.ref_logp, dtype),
    )  # fmt: skip


def numbers(objective: Any):
    return as_arrays(numbers_of(objective))


def weighed(objective: Any, rollouts: Ragged, reward: np.ndarray, target: np.ndarray, step: int = 0):
    """`Weights` as NumPy arrays."""
    reward = jnp.asarray(np.asarray(reward, float), jnp.result_type(float))
    found = objective.weigh(collected(rollouts, target, step), reward, numbers(objective))
    return jax.tree.map(np.asarray, found)


def weigh(
    objective: Any, rollouts: Ragged, reward: np.ndarray, target: np.ndarray, step: int = 0
) -> tuple[TokenWeights, TokenWeights]:
    """Weights of the demonstrations and of the rollouts."""
    found = weighed(objective, rollouts, reward, target, step)
    return found.trunk, found.rollouts


def token_loss(objective: Any, logp, batch):
    """With the objective's own numbers."""
    return objective.token_loss(logp, batch, numbers(objective))


def group_std(reward, group, *, ddof: int = 0) -> np.ndarray:
    """Of each rollout's group."""
    groups, reward = groups_of(np.asarray(group)), jnp.asarray(np.asarray(reward, float))
    std = advantage.group_std(advantage.in_groups(reward, groups), jnp.asarray(groups.present), ddof=ddof)
    return np.asarray(std)[groups.group]


def group_advantage(reward, group, *, include=None, **settings) -> np.ndarray:
    """Of each rollout."""
    groups, reward = groups_of(np.asarray(group)), jnp.asarray(np.asarray(reward, float))
    present = jnp.asarray(groups.present & (True if include is None else np.asarray(include)[groups.member]))
    above = advantage.group_advantage(advantage.in_groups(reward, groups), present, **settings)
    return np.asarray(advantage.of_rollouts(above, jax.tree.map(jnp.asarray, groups)))


def aggregate(mask: np.ndarray, how: str, *, group=None, length: int = 1) -> np.ndarray:
    """A weight on each token of a mask [B T]."""
    ids = np.zeros(len(mask), int) if group is None else np.unique(group, return_inverse=True)[1]
    tokens = jnp.asarray(mask.sum(axis=1))
    count = int(ids.max(initial=0)) + 1
    row = weights.row_weights(tokens, how, group=jnp.asarray(ids), groups=count, length=length)
    return np.asarray(weights.spread(jnp.asarray(mask), row))


def whiten(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.asarray(advantage.whiten(jnp.asarray(value), jnp.asarray(mask)))
