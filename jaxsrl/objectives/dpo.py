"""DPO on pairs: the best and the worst completion of a group."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.advantage import finite, group_std
from jaxsrl.objectives.on_branches import Sampled
from jaxsrl.objectives.sequence import sums
from jaxsrl.types import Batch, Metrics, Rollouts, TokenWeights


@dataclass(frozen=True, kw_only=True)
class DPO(Sampled):
    """-log sigmoid(beta (log p/ref (chosen) - log p/ref (rejected))), mean over pairs; sums over tokens, no average.

    The paper's pairs are given; here they are a policy's own, graded: of each group the first of highest and the first
    of lowest reward. A group whose rewards are equal has no pair and is dropped. With `updates_per_rollout` the pairs
    are those of an older policy.

    Args:
      beta: 0.1 as published.
    Source: arXiv:2305.18290.
    """

    beta: float = 0.1
    whole_groups = True

    def __post_init__(self):
        super().__post_init__()
        self._no_trunk()
        if self.beta <= 0:
            raise ValueError(f"beta must be above 0, got {self.beta}")

    @property
    def kl_coef(self) -> float:
        """Asks for the reference's log-probs."""
        return self.beta

    def weigh(
        self, rollouts: Rollouts, reward: Float[np.ndarray, "P"], target: Bool[np.ndarray, "M E"], step: int = 0
    ) -> tuple[TokenWeights, TokenWeights]:
        """Advantage 1 on chosen tokens, -1 on rejected ones; the weights of a pair sum to one over the pairs."""
        reward = finite(reward)
        differs = group_std(reward, rollouts.group) > 0
        sign, pair = np.zeros(len(reward)), np.zeros(len(reward))
        for group in np.unique(rollouts.group[differs]):
            mine = np.flatnonzero(rollouts.group == group)
            best, worst = mine[np.argmax(reward[mine])], mine[np.argmin(reward[mine])]
            sign[best], sign[worst] = 1.0, -1.0
            pair[[best, worst]] = 1.0 / rollouts.mask[[best, worst]].sum()
        pairs = max(int((sign > 0).sum()), 1)
        none, zero = np.zeros(rollouts.mask.shape), np.zeros(target.shape)
        return TokenWeights(nll=zero, pg=zero, advantage=zero), TokenWeights(
            nll=none, pg=pair[:, None] * rollouts.mask / pairs, advantage=sign[:, None] * rollouts.mask
        )

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        weighed = batch.pg_weight != 0
        gain = jnp.where(weighed, logp - jnp.where(weighed, batch.ref_logp, 0.0), 0.0)
        margin = self.beta * sums(jnp.where(weighed, batch.advantage, 0.0) * gain, batch.group)
        loss = jnp.sum(batch.pg_weight * jax.nn.softplus(-margin))
        still = jax.lax.stop_gradient(margin)
        return loss, {
            "dpo/margin": jnp.sum(batch.pg_weight * still), "dpo/right_order": jnp.sum(batch.pg_weight * (still > 0)),
        }  # fmt: skip
