"""KTO: completions that are desirable or not, each on its own, against a baseline that is a KL."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsrl.objectives.advantage import exceeds
from jaxsrl.objectives.collected import check_batch, check_shapes, no_weight, reference, wide
from jaxsrl.objectives.rollout_objective import Sampled
from jaxsrl.objectives.sequence import sums
from jaxsrl.objectives.weights import sequence_mean, spread
from jaxsrl.old_names import takes_old_names
from jaxsrl.types import Batch, Collected, Metrics, Needs, Numbers, Weights


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class KTO(Sampled):
    """lambda (1 - sigmoid(+-beta (r - z0))), r = log p/ref of a completion; + if desirable; mean over completions.

    z0 is max(0, KL(policy, reference)), without gradient. The paper estimates it from mismatched pairs, because its
    completions are not the policy's; ours are, so it is the mean of log behavior/ref over the step's own completions.
    Log-probs are those of the temperature that the rollouts were sampled with.

    Args:
      beta: 0.1, DPO's, is our choice.
      desirable, undesirable: the two lambdas.
      success_threshold: a reward from here on is desirable.
    Source: arXiv:2402.01306.
    """

    beta: float = 0.1
    desirable: float = 1.0
    undesirable: float = 1.0
    success_threshold: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self._no_trunk()
        if self.beta <= 0 or min(self.desirable, self.undesirable) < 0:
            raise ValueError(
                f"needs beta > 0 and desirable, undesirable >= 0, got beta={self.beta} desirable={self.desirable} "
                f"undesirable={self.undesirable}"
            )

    @property
    def needs(self) -> Needs:
        return Needs(reference=True, reference_to_weigh=True)  # z0 is of the whole step

    def weigh(self, collected: Collected, reward: Float[Array, "P"], numbers: Numbers) -> Weights:
        """Each completion weighs the lambda of its side over the number of completions; label and z0 go with it."""
        check_shapes(collected, reward)
        reward, mask, active = wide(reward), collected.mask, collected.groups.active
        gain = jnp.sum(jnp.where(mask, collected.behavior_logp - reference(collected), 0.0))
        z0 = jnp.maximum(gain / jnp.maximum(jnp.sum(active), 1), 0.0)
        from_here = jnp.asarray(numbers["success_threshold"], reward.dtype)
        right = ~exceeds(from_here, reward, jnp.abs(reward))  # a reward at the bound is right, rounded down or not
        weight = sequence_mean(jnp.sum(mask, axis=1)) * jnp.where(right, numbers["desirable"], numbers["undesirable"])
        label = jnp.where(active, jnp.where(right, 1.0, -1.0), 0.0).astype(reward.dtype)
        none = no_weight(mask.shape, reward.dtype)
        return Weights(
            trunk=no_weight(collected.target.shape, reward.dtype),
            # The loss reads `extra`. The label is also the advantage, so that the log shows it.
            rollouts=replace(none, pg=spread(mask, weight.astype(reward.dtype)), advantage=spread(mask, label)),
            extra={"z0": jnp.where(active, z0, 0.0).astype(reward.dtype), "label": label},
        )  # fmt: skip

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        check_batch(logp, batch)
        weighed = batch.pg_weight != 0
        gain = jnp.where(weighed, logp - jnp.where(weighed, batch.ref_logp, 0.0), 0.0)
        reward = sums(gain, batch.rollout)
        label, z0 = batch.extra["label"], batch.extra["z0"]
        value = jax.nn.sigmoid(label * numbers["beta"] * (reward - z0))
        loss = jnp.sum(batch.pg_weight * (1.0 - value))
        return loss, {
            "kto/z0": jnp.sum(batch.pg_weight * z0),
            "kto/reward": jnp.sum(batch.pg_weight * jax.lax.stop_gradient(reward)),
        }
