"""KTO: completions that are desirable or not, each on its own, against a baseline that is a KL."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.advantage import finite
from jaxsrl.objectives.on_branches import Sampled
from jaxsrl.objectives.sequence import sums
from jaxsrl.objectives.weights import sequence_mean
from jaxsrl.types import Batch, Metrics, Rollouts, TokenWeights


@dataclass(frozen=True, kw_only=True)
class KTO(Sampled):
    """lambda (1 - sigmoid(+-beta (r - z0))), r = log p/ref of a completion; + if desirable; mean over completions.

    z0 is max(0, KL(policy, reference)), without gradient. The paper estimates it from mismatched pairs, because its
    completions are not the policy's; ours are, so it is the mean of log behavior/ref over the step's own completions.

    Args:
      beta: 0.1, DPO's, is our choice.
      desirable, undesirable: the two lambdas.
      right_from: a reward from here on is desirable.
    Source: arXiv:2402.01306.
    """

    beta: float = 0.1
    desirable: float = 1.0
    undesirable: float = 1.0
    right_from: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self._no_trunk()
        if self.beta <= 0 or min(self.desirable, self.undesirable) < 0:
            raise ValueError(
                f"needs beta > 0 and desirable, undesirable >= 0, got beta={self.beta} desirable={self.desirable} "
                f"undesirable={self.undesirable}"
            )

    @property
    def kl_coef(self) -> float:
        """Asks for the reference's log-probs in the batch."""
        return self.beta

    @property
    def reward_kl_coef(self) -> float:
        """Asks for them before the weights are made: z0 is of the whole step."""
        return self.beta

    def weigh(
        self, rollouts: Rollouts, reward: Float[np.ndarray, "P"], target: Bool[np.ndarray, "M E"], step: int = 0
    ) -> tuple[TokenWeights, TokenWeights]:
        """Advantage is the label, 1 or -1, times 1 + z0: with it z0 travels to every batch of the step."""
        if rollouts.ref_logp is None:
            raise ValueError("KTO needs Rollouts.ref_logp: collect() is to be given the reference's scorer")
        gain = np.where(rollouts.mask, np.asarray(rollouts.behavior_logp, np.float64) - rollouts.ref_logp, 0.0)
        z0 = max(float(gain.sum(axis=1).mean()), 0.0) if len(rollouts) else 0.0
        label = np.where(finite(reward) >= self.right_from, 1.0, -1.0)
        scale = np.where(label > 0, self.desirable, self.undesirable)
        none, zero = np.zeros(rollouts.mask.shape), np.zeros(target.shape)
        return TokenWeights(nll=zero, pg=zero, advantage=zero), TokenWeights(
            nll=none, pg=scale[:, None] * sequence_mean(rollouts.mask),
            advantage=(label * (1.0 + z0))[:, None] * rollouts.mask,
        )  # fmt: skip

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        weighed = batch.pg_weight != 0
        gain = jnp.where(weighed, logp - jnp.where(weighed, batch.ref_logp, 0.0), 0.0)
        reward = sums(gain, batch.rollout)
        marked = jnp.where(weighed, batch.advantage, 1.0)
        label, z0 = jnp.sign(marked), jnp.abs(marked) - 1.0
        value = jax.nn.sigmoid(label * self.beta * (reward - z0))
        loss = jnp.sum(batch.pg_weight * (1.0 - value))
        return loss, {
            "kto/z0": jnp.sum(batch.pg_weight * z0),
            "kto/reward": jnp.sum(batch.pg_weight * jax.lax.stop_gradient(reward)),
        }
