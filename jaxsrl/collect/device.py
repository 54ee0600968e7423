"""The device's part of an optimizer step, as pure functions of a layout; each is compiled once.

    draw     (params, sheet, key, temperature) -> Completions, Scores or None     a sheet
    weigh    (completions, groups, target, reward, ...) -> Weighed                 the whole step
    fill     (segments, trunk, completions, weights) -> Batch                      rows of the learner
    score    (params, batch) -> log-probs [R T]
    learn    (state, batches) -> state, metrics                                    see update.py

The host chooses rows between `weigh` and `fill` (`data/compaction.py`). `whole` leaves that out, and is the step as one
function: rows are the layout's own.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, UInt8

from jaxsrl.rollout.sampler import Sample
from jaxsrl.sharding import RULES
from jaxsrl.types import (
    Collected,
    Completions,
    DeviceReward,
    Groups,
    Mean,
    Numbers,
    Objective,
    Params,
    Rooms,
    Scores,
    Sheet,
    TokenBytes,
    TokenWeights,
    Weights,
)

CARRIES, KEPT, TRUNCATED, UNFIT, SURPLUS = 1, 2, 4, 8, 16  # bits of `Weighed.flags`


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Weighed:
    """Weights of an optimizer step, and the little that the host asks about them."""

    weights: Weights
    flags: UInt8[Array, "P"]  # CARRIES weight itself, group KEPT or left out as SURPLUS, TRUNCATED, reward UNFIT
    trunk_used: Bool[Array, "M"]  # whether a demonstration's own tokens carry weight
    first_advantage: Float[Array, "P"]  # of a completion's first token, for the log
    reward: Float[Array, "P"]
    means: dict[str, Mean]


def make_draw(
    sample: Sample, reward: DeviceReward | None, token_bytes: TokenBytes, rooms: Rooms | None,
    mesh: jax.sharding.Mesh | None = None,
):  # fmt: skip
    """Returns draw(params, sheet, key, temperature) -> (Completions, Scores, or None where the host rewards).

    On a mesh each device scores the completions of its own prompt rows. Left to the compiler, what a completion's
    expert is would be gathered inside of the reward's loops, again and again.
    """

    def score(completions: Completions, expert, expert_length, group) -> Scores:
        return reward.score(completions, expert, expert_length, group, token_bytes, rooms)

    if mesh is not None:
        own, whole = PartitionSpec(RULES["rows"]), PartitionSpec()
        score = jax.shard_map(score, mesh=mesh, in_specs=(own, whole, whole, own), out_specs=own, check_vma=False)

    def draw(params: Params, sheet: Sheet, key, temperature) -> tuple[Completions, Scores | None]:
        completions = sample(params, sheet.prompts, key, temperature)
        if reward is None:
            return completions, None
        with jax.named_scope("reward"):
            return completions, score(completions, sheet.expert, sheet.expert_length, sheet.groups.group)

    return draw


def put(whole: Any, part: Any, index: Int[Array, ""]) -> Any:
    """`whole`, arrays [S*P …], with sheet `index` set to `part`, arrays [P …]."""

    def one(all, new):
        return jax.lax.dynamic_update_slice_in_dim(all, new.astype(all.dtype), index * new.shape[0], 0)

    return jax.tree.map(one, whole, part)


def make_weigh(
    objective: Objective, ends: tuple[int, ...], wanted: int | None, reward: DeviceReward | None, *,
    unfit_on_host: bool = True,
):  # fmt: skip
    """Returns weigh(...) -> Weighed, of all completions of an optimizer step.

    Args:
      ends: the tokens that end a completion.
      wanted: groups that the step trains on. Of more that carry weight, those with the largest hash of their address
        are left out: which ones depends on no order of branch points.
      reward: what scored on the device, for its metrics.
      unfit_on_host: the host scores what did not fit, and adds it to the means. Else it counts as malformed.
    """

    def weigh(
        completions: Completions, groups: Groups, target: Bool[Array, "M E"], rewards: Float[Array, "P"],
        scores: Scores | None, expert_length: Int[Array, "Q"], step: Int[Array, ""], numbers: Numbers,
        ref_logp: Float[Array, "P C"] | None = None,
    ) -> Weighed:  # fmt: skip
        collected = collect_whole(completions, groups, target, ends, step, ref_logp)
        weights = objective.weigh(collected, rewards, numbers)
        kept = carrying_groups(weights.rollouts, groups)
        surplus = jnp.zeros_like(kept)
        if wanted is not None:
            surplus = kept & ~at_most(kept, groups.hash, wanted)
            again = objective.weigh(without(collected, surplus), rewards, numbers)
            weights, kept = _merged(weights, again, surplus[groups.group]), kept & ~surplus
        own = _carries(weights.rollouts) & groups.active
        unfit = jnp.zeros_like(own) if scores is None else ~scores.fits & groups.active
        of_group = ((group[groups.group] & groups.active, bit) for group, bit in ((kept, KEPT), (surplus, SURPLUS)))
        bits = ((own, CARRIES), *of_group, (collected.truncated, TRUNCATED), (unfit, UNFIT))
        entropy = Mean(-jnp.sum(collected.behavior_logp), jnp.sum(completions.length * groups.active))
        means = {"completion/entropy": entropy}
        if reward is not None:
            counted = groups.active & scores.fits if unfit_on_host else groups.active
            means |= reward.means(scores, expert_length[groups.group], counted)
        return Weighed(
            weights=weights, flags=sum(jnp.where(bit, value, 0) for bit, value in bits).astype(jnp.uint8),
            trunk_used=_carries(weights.trunk), first_advantage=weights.rollouts.advantage[:, 0], reward=rewards,
            means=means,
        )  # fmt: skip

    return weigh


def make_weigh_part(objective: Objective, ends: tuple[int, ...]):
    """Returns weigh_part(...) -> Weights, as if the step had collected nothing but some of its demonstrations.

    Args:
      groups_in, demonstrations_in: which; of groups those that the whole step keeps.
    """

    def weigh_part(
        completions: Completions, groups: Groups, target: Bool[Array, "M E"], rewards: Float[Array, "P"],
        step: Int[Array, ""], numbers: Numbers, ref_logp: Float[Array, "P C"] | None, groups_in: Bool[Array, "Q"],
        demonstrations_in: Bool[Array, "M"],
    ) -> Weights:  # fmt: skip
        collected = collect_whole(completions, groups, target & demonstrations_in[:, None], ends, step, ref_logp)
        return objective.weigh(without(collected, ~groups_in), rewards, numbers)

    return weigh_part


def collect_whole(
    completions: Completions, groups: Groups, target, ends: tuple[int, ...], step, ref_logp=None
) -> Collected:
    """What an objective weighs."""
    length = jnp.where(groups.active, completions.length, 0)
    mask = jnp.arange(completions.token.shape[1])[None] < length[:, None]
    last = jnp.take_along_axis(completions.token, jnp.maximum(length - 1, 0)[:, None], axis=1)[:, 0]
    ended = sum(last == end for end in ends) > 0
    return Collected(
        mask=mask, behavior_logp=jnp.where(mask, completions.logp, 0.0), truncated=groups.active & ~ended,
        groups=groups, target=target, step=step, ref_logp=None if ref_logp is None else jnp.where(mask, ref_logp, 0.0),
    )  # fmt: skip


def carrying_groups(weights: TokenWeights, groups: Groups) -> Bool[Array, "Q"]:
    """Groups of which some rollout has a token with weight."""
    return jnp.any(_carries(weights)[groups.member] & groups.present, axis=1)


def _carries(weights: TokenWeights) -> Bool[Array, "B"]:
    return jnp.any((weights.pg != 0) | (weights.nll != 0), axis=1)


def at_most(kept: Bool[Array, "Q"], hash: Int[Array, "Q"], wanted: int) -> Bool[Array, "Q"]:
    """Of the kept groups the `wanted` ones with the smallest hash, or all if they are no more."""
    if wanted >= kept.shape[0]:
        return kept
    key = jnp.where(kept, hash.astype(jnp.uint32), jnp.uint32(0xFFFFFFFF))
    rank = jnp.argsort(jnp.argsort(key, stable=True), stable=True)
    return kept & (rank < wanted)


def without(collected: Collected, surplus: Bool[Array, "Q"]) -> Collected:
    """As if the surplus groups had not been sampled."""
    groups = collected.groups
    out = surplus[groups.group]
    left = replace(groups, present=groups.present & ~surplus[:, None], active=groups.active & ~out)
    return replace(collected, mask=collected.mask & ~out[:, None], truncated=collected.truncated & ~out, groups=left)


def _merged(before: Weights, after: Weights, surplus: Bool[Array, "P"]) -> Weights:
    """The weights after surplus groups went; their advantage is still what their rewards say."""
    advantage = jnp.where(surplus[:, None], before.rollouts.advantage, after.rollouts.advantage)
    return replace(after, rollouts=replace(after.rollouts, advantage=advantage))
