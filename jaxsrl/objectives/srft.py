"""SRFT: SFT and RL on demonstrations and rollouts in one step, weighed by the policy's entropy."""

from dataclasses import dataclass, field, replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsrl.objectives.expert import expert_mean
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.luffy import LUFFY
from jaxsrl.objectives.weights import spread, token_mean
from jaxsrl.old_names import takes_old_names
from jaxsrl.types import Batch, Collected, Metrics, Numbers, Weights


def rollout_entropy(collected: Collected) -> Float[Array, ""]:
    """Mean of -behavior_logp over sampled tokens, nats: an unbiased estimate of the behavior's entropy per token."""
    total = -jnp.sum(jnp.where(collected.mask, collected.behavior_logp, 0.0))
    return total / jnp.maximum(jnp.sum(collected.mask), 1)


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class SRFT(LUFFY):
    """0.5 e^-H E_demo[-log p] + GRPO on demonstration and rollouts + 0.1 e^H E_right[-log p] + E_wrong[log p].

    Rewards must be +1 and -1: what is above 0 is right. H is the entropy of the step's rollouts, a number, so both
    factors are constants of the step. Our choices: expectations over right and wrong rollouts share one denominator,
    the step's sampled tokens; the advantage keeps its deviation; ratios keep GRPO's clip. The SFT term and the NLL of
    rollouts stay where a group is left out of the policy's loss.

    Args:
      sft_scale, right_scale: 0.5 and 0.1.
    Source: arXiv:2506.19767.
    """

    policy: GRPO = field(default_factory=GRPO)
    gamma: float | None = None
    entropy_coef: float = 0.0
    sft_scale: float = 0.5
    right_scale: float = 0.1

    def weigh(self, collected: Collected, reward: Float[Array, "P"], numbers: Numbers) -> Weights:
        """Those of LUFFY, and NLL weights of both signs on rollouts."""
        weights, entropy = super().weigh(collected, reward, numbers), rollout_entropy(collected)
        dtype = weights.rollouts.pg.dtype
        sign = jnp.where(reward > 0, numbers["right_scale"] * jnp.exp(entropy), -1.0)
        own = spread(collected.mask, sign * token_mean(jnp.sum(collected.mask, axis=1))).astype(dtype)
        expert = (numbers["sft_scale"] * jnp.exp(-entropy) * expert_mean(collected)).astype(dtype)
        return replace(
            weights, trunk=replace(weights.trunk, nll=expert), rollouts=replace(weights.rollouts, nll=own)
        )  # fmt: skip

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        loss, metrics = super().token_loss(logp, batch, numbers)
        per_token = jnp.where(batch.nll_weight != 0, -batch.nll_weight * logp, 0.0)
        expert = jnp.sum(jnp.where(batch.rollout < 0, per_token, 0.0))
        own = jnp.sum(jnp.where(batch.rollout >= 0, per_token, 0.0))
        return loss + expert + own, metrics | {"sft/nll": expert, "own/nll": own}
