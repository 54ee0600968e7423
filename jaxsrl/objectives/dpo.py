"""DPO on pairs: the best and the worst completion of a group."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsrl.objectives.advantage import group_std, in_groups, of_rollouts
from jaxsrl.objectives.collected import check_batch, check_shapes, no_weight, wide
from jaxsrl.objectives.rollout_objective import Sampled
from jaxsrl.objectives.sequence import sums
from jaxsrl.objectives.weights import spread
from jaxsrl.old_names import takes_old_names
from jaxsrl.types import Batch, Collected, Metrics, Needs, Numbers, Weights


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class DPO(Sampled):
    """-log sigmoid(beta (log p/ref (chosen) - log p/ref (rejected))), mean over pairs; sums over tokens, no average.

    The paper's pairs are given; here they are a policy's own, graded: of each group the first of highest and the first
    of lowest reward. A group whose rewards are equal has no pair and is dropped. With `updates_per_rollout` the pairs
    are those of an older policy. Log-probs are those of the temperature that the rollouts were sampled with.

    Args:
      beta: 0.1 as published.
    Source: arXiv:2305.18290.
    """

    beta: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        self._no_trunk()
        if self.beta <= 0:
            raise ValueError(f"beta must be above 0, got {self.beta}")

    @property
    def needs(self) -> Needs:
        return Needs(reference=True, whole_groups=True)

    def weigh(self, collected: Collected, reward: Float[Array, "P"], numbers: Numbers) -> Weights:
        """Advantage 1 on chosen tokens, -1 on rejected ones; the weights of a pair sum to one over the pairs."""
        check_shapes(collected, reward)
        groups, r = collected.groups, in_groups(wide(reward), collected.groups)
        differs = group_std(r, groups.present) > 0
        best = jnp.argmax(jnp.where(groups.present, r, -jnp.inf), axis=1)
        worst = jnp.argmin(jnp.where(groups.present, r, jnp.inf), axis=1)
        column = jnp.arange(r.shape[1])[None]
        sign = (column == best[:, None]).astype(r.dtype) - (column == worst[:, None])
        sign = of_rollouts(jnp.where(differs[:, None], sign, 0.0), groups)
        in_pair = jnp.where(sign[:, None] != 0, collected.mask, False)
        tokens = jnp.sum(jnp.sum(in_pair, axis=1)[groups.member] * groups.present, axis=1)  # of each pair
        pairs = jnp.maximum(jnp.sum(differs), 1)
        weight = 1 / jnp.maximum(tokens, 1)[groups.group] / pairs
        none = no_weight(collected.mask.shape, r.dtype)
        rollouts = replace(
            none, pg=spread(in_pair, weight.astype(r.dtype)), advantage=spread(collected.mask, sign)
        )  # fmt: skip
        return Weights(trunk=no_weight(collected.target.shape, r.dtype), rollouts=rollouts)

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        check_batch(logp, batch)
        weighed = batch.pg_weight != 0
        gain = jnp.where(weighed, logp - jnp.where(weighed, batch.ref_logp, 0.0), 0.0)
        margin = numbers["beta"] * sums(jnp.where(weighed, batch.advantage, 0.0) * gain, batch.group)
        loss = jnp.sum(batch.pg_weight * jax.nn.softplus(-margin))
        still = jax.lax.stop_gradient(margin)
        return loss, {
            "dpo/margin": jnp.sum(batch.pg_weight * still), "dpo/right_order": jnp.sum(batch.pg_weight * (still > 0)),
        }  # fmt: skip
