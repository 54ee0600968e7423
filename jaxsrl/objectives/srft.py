"""SRFT: SFT and RL on demonstrations and rollouts in one step, weighed by the policy's entropy."""

from dataclasses import dataclass, field, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.luffy import LUFFY
from jaxsrl.objectives.weights import token_mean
from jaxsrl.types import Batch, Metrics, Rollouts, TokenWeights


def rollout_entropy(rollouts: Rollouts) -> float:
    """Mean of -behavior_logp over sampled tokens, nats: an unbiased estimate of the behavior's entropy per token."""
    return float(-rollouts.behavior_logp[rollouts.mask].mean(dtype=np.float64)) if rollouts.mask.any() else 0.0


@dataclass(frozen=True, kw_only=True)
class SRFT(LUFFY):
    """0.5 e^-H E_demo[-log p] + GRPO on demonstration and rollouts + 0.1 e^H E_right[-log p] + E_wrong[log p].

    Rewards must be +1 and -1: what is above 0 is right. H is the entropy of the step's rollouts, a number, so both
    factors are constants of the step. Our choice: expectations over right and wrong rollouts
    share one denominator, the step's sampled tokens; the advantage keeps its deviation; ratios keep GRPO's clip.

    Args:
      sft_scale, right_scale: 0.5 and 0.1.
    Source: arXiv:2506.19767.
    """

    policy: GRPO = field(default_factory=GRPO)
    gamma: float | None = None
    sft_scale: float = 0.5
    right_scale: float = 0.1

    def weigh(
        self, rollouts: Rollouts, reward: Float[np.ndarray, "P"], target: Bool[np.ndarray, "M E"], step: int = 0
    ) -> tuple[TokenWeights, TokenWeights]:
        """Those of LUFFY, and NLL weights of both signs on rollouts."""
        trunk, branches = super().weigh(rollouts, reward, target, step)
        entropy = rollout_entropy(rollouts)
        sign = np.where(np.asarray(reward) > 0, self.right_scale * np.exp(entropy), -1.0)
        return (
            replace(trunk, nll=self.sft_scale * np.exp(-entropy) * token_mean(target)),
            replace(branches, nll=sign[:, None] * token_mean(rollouts.mask)),
        )

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        loss, metrics = super().token_loss(logp, batch)
        per_token = jnp.where(batch.nll_weight != 0, -batch.nll_weight * logp, 0.0)
        expert = jnp.sum(jnp.where(batch.rollout < 0, per_token, 0.0))
        own = jnp.sum(jnp.where(batch.rollout >= 0, per_token, 0.0))
        return loss + expert + own, metrics | {"sft/nll": expert, "own/nll": own}
