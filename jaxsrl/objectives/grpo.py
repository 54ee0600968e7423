"""Group-relative policy optimisation: what RLVR and SRL share, every choice a named setting."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.advantage import (
    Baseline,
    Scale,
    exceeds,
    group_advantage,
    group_std,
    in_groups,
    of_rollouts,
    whiten,
)
from jaxsrl.objectives.collected import check_batch, check_shapes, no_weight, reference, wide
from jaxsrl.objectives.kl import Estimator, kl_estimate
from jaxsrl.objectives.surrogate import clipped_surrogate, log_ratio
from jaxsrl.objectives.weights import Aggregation, row_weights, spread
from jaxsrl.old_names import takes_old_names
from jaxsrl.types import Batch, Collected, Metrics, Needs, Numbers, TokenWeights, Weights


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class GRPO:
    """Advantages within groups and a clipped surrogate on every token of a completion, thoughts included.

    Args:
      baseline, std, ddof, epsilon, singleton_advantage: of the advantage; see `group_advantage`.
      whiten: brings the kept tokens' advantages to mean 0 and deviation 1 over the optimizer step, after `std`.
      clip_low, clip_high, dual_clip: of the surrogate.
      aggregation: how a step's tokens are averaged; `fixed_length` divides by `length` tokens.
      reward_kl, reward_kl_coef: KL in the reward: reward_kl_coef * k1, behavior against reference, is taken off the
        completion's reward before the baseline (`sequence`), or off each token's return, the reward and the k1 of the
        tokens from it on (`token`).
      kl, kl_coef: estimator and weight of KL(policy, reference), averaged like the surrogate.
      filter_std: drops groups whose rewards' population deviation is not above this; None keeps all.
      mask_truncated: leaves completions without an end token out of the loss, its average and the group's statistics.
    Source: arXiv:2402.03300; filter arXiv:2510.25992 and, at 0, arXiv:2503.14476.
    """

    baseline: Baseline = "mean"
    std: Scale = "group"
    ddof: int = 0
    epsilon: float = 1e-6
    singleton_advantage: float = 0.0
    whiten: bool = False
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    aggregation: Aggregation = "token_mean"
    length: int = 1024
    reward_kl: Literal["sequence", "token"] = "sequence"
    reward_kl_coef: float = 0.0
    kl: Estimator = "k3"
    kl_coef: float = 0.0
    filter_std: float | None = None
    mask_truncated: bool = False

    def __post_init__(self):
        choices = {
            "baseline": ("mean", "leave_one_out", "none"),
            "std": ("group", "batch", "leave_one_out", "none"),
            "ddof": (0, 1),
            "aggregation": ("token_mean", "sequence_mean", "group_mean", "fixed_length"),
            "reward_kl": ("sequence", "token"),
            "kl": ("k1", "k2", "k3"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        for name in ("epsilon", "clip_low", "clip_high", "reward_kl_coef", "kl_coef"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if self.clip_low > 1:
            raise ValueError(f"clip_low must be <= 1, a ratio is never negative, got {self.clip_low}")
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise ValueError(f"dual_clip must be above 1, got {self.dual_clip}")
        if self.length < 1:
            raise ValueError(f"length must be >= 1, got {self.length}")
        if self.filter_std is not None and self.filter_std < 0:
            raise ValueError(f"filter_std must be >= 0, got {self.filter_std}")

    @property
    def needs(self) -> Needs:
        return Needs(reference=self.kl_coef > 0, reference_to_weigh=self.reward_kl_coef > 0)

    def weigh(self, collected: Collected, reward: Float[Array, "P"], numbers: Numbers) -> Weights:
        """Advantages on every token of their own rollout; weights of the kept rollouts, averaged over those alone."""
        check_shapes(collected, reward)
        reward, groups = wide(reward), collected.groups
        include = self.included(collected)
        penalty = self._penalty(collected, numbers)
        from_all = penalty[:, 0] if self.reward_kl == "sequence" else 0.0
        present = groups.present & in_groups(include, groups)
        above = self.advantage(in_groups(reward - from_all, groups), present, numbers)
        kept = self.kept(in_groups(reward, groups), present, numbers)[groups.group]
        counted = collected.mask & (include & kept)[:, None]
        weight = row_weights(
            jnp.sum(counted, axis=1), self.aggregation, group=groups.group, groups=groups.member.shape[0],
            length=self.length,
        )  # fmt: skip
        advantage = jnp.where(collected.mask, of_rollouts(above, groups)[:, None], 0.0)
        if self.reward_kl == "token":
            advantage = advantage - jnp.where(collected.mask & include[:, None], penalty, 0.0)
        if self.whiten:
            advantage = whiten(advantage, counted)
        pg = spread(counted, weight.astype(reward.dtype))
        return Weights(
            trunk=no_weight(collected.target.shape, reward.dtype),
            rollouts=TokenWeights(nll=jnp.zeros_like(pg), pg=pg, advantage=advantage),
        )

    def included(self, collected: Collected) -> Bool[Array, "P"]:
        """Rollouts that take part in the loss and in their group's statistics."""
        active = collected.groups.active
        return active & ~collected.truncated if self.mask_truncated else active

    def advantage(
        self, reward: Float[Array, "Q G"], present: Bool[Array, "Q G"], numbers: Numbers
    ) -> Float[Array, "Q G"]:
        """By this policy's baseline and scale."""
        return group_advantage(
            reward, present, baseline=self.baseline, std=self.std, ddof=self.ddof, epsilon=numbers["epsilon"],
            singleton_advantage=numbers["singleton_advantage"],
        )  # fmt: skip

    def kept(self, reward: Float[Array, "Q G"], present: Bool[Array, "Q G"], numbers: Numbers) -> Bool[Array, "Q"]:
        """Groups that the filter keeps."""
        if self.filter_std is None:
            return jnp.ones(reward.shape[:1], bool)
        largest = jnp.max(jnp.where(present, jnp.abs(reward), 0.0), axis=1, initial=0.0)
        return exceeds(group_std(reward, present), numbers["filter_std"], largest)

    def _penalty(self, collected: Collected, numbers: Numbers) -> Float[Array, "P C"]:
        """reward_kl_coef times k1 of each token and those after it."""
        if not self.reward_kl_coef:
            return jnp.zeros(collected.mask.shape, collected.behavior_logp.dtype)
        k1 = jnp.where(collected.mask, collected.behavior_logp - reference(collected), 0.0)
        return numbers["reward_kl_coef"] * jnp.cumsum(k1[:, ::-1], axis=1)[:, ::-1]

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        """sum pg_weight * (surrogate + kl_coef * kl).

        Metrics are sums with the same weights, so like the loss they add up over the batches of a step.
        """
        check_batch(logp, batch)
        weighed = batch.pg_weight != 0
        # `where` before any arithmetic: places without weight may hold anything.
        difference = log_ratio(logp, batch.behavior_logp, weighed)
        clipped_log_ratio = self.clipped_log_ratio(difference, weighed, batch)
        advantage = jnp.where(weighed, batch.advantage, 0.0)
        per_token = self.per_token(jnp.where(weighed, logp, 0.0), clipped_log_ratio, advantage, batch, numbers)
        loss = jnp.sum(batch.pg_weight * per_token)
        still = jax.lax.stop_gradient(difference)
        metrics = {
            "pg/loss": loss,
            "pg/ratio_mean": jnp.sum(batch.pg_weight * jnp.exp(still)),
            "pg/outside_clip_share": jnp.sum(batch.pg_weight * self.outside(clipped_log_ratio, numbers)),
            "pg/behavior_kl": jnp.sum(batch.pg_weight * kl_estimate(jnp.zeros_like(still), still, "k3")),
            "pg/weight": jnp.sum(batch.pg_weight),
        }
        if self.kl_coef:
            reference = jnp.where(weighed, batch.ref_logp, 0.0)
            kl = jnp.sum(batch.pg_weight * kl_estimate(jnp.where(weighed, logp, 0.0), reference, self.kl))
            loss = loss + numbers["kl_coef"] * kl
            metrics[f"kl/{self.kl}"] = kl
        return loss, metrics

    def clipped_log_ratio(
        self, log_ratio: Float[Array, "R T"], weighed: Bool[Array, "R T"], batch: Batch
    ) -> Float[Array, "R T"]:
        """The log of the ratio that is clipped, from each token's own."""
        return log_ratio

    def outside(self, log_ratio: Float[Array, "R T"], numbers: Numbers) -> Bool[Array, "R T"]:
        """Whether a ratio lies outside the clip's bounds."""
        ratio = jnp.exp(log_ratio)
        return (ratio < 1 - numbers["clip_low"]) | (ratio > 1 + numbers["clip_high"])

    def per_token(
        self, logp: Float[Array, "R T"], log_ratio: Float[Array, "R T"], advantage: Float[Array, "R T"], batch: Batch,
        numbers: Numbers,
    ) -> Float[Array, "R T"]:  # fmt: skip
        """Loss of each token before it is weighed; what a relative of GRPO with another loss replaces.

        The first three arguments are 0 where a token has no weight.
        """
        return clipped_surrogate(
            jnp.exp(log_ratio), advantage, clip_low=numbers["clip_low"], clip_high=numbers["clip_high"],
            dual_clip=numbers.get("dual_clip"),
        )  # fmt: skip
