"""GMPO: the geometric mean of a completion's clipped token ratios."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.sequence import means
from jaxsrl.objectives.weights import Aggregation
from jaxsrl.types import Batch, Numbers


@dataclass(frozen=True, kw_only=True)
class GMPO(GRPO):
    """-A exp(mean_t l_t), l = min(log r, clip_high) for A > 0 and max(log r, -clip_low) for A < 0.

    The clip bounds log-ratios, so 0.4 is the range e^-0.4 to e^0.4. A clipped token has no gradient of its own and
    still counts in the mean, and so scales the gradient of the others.
    Source: arXiv:2507.20673.
    """

    clip_low: float = 0.4
    clip_high: float = 0.4
    aggregation: Aggregation = "sequence_mean"

    def per_token(
        self, logp: Float[Array, "R T"], log_ratio: Float[Array, "R T"], advantage: Float[Array, "R T"], batch: Batch,
        numbers: Numbers,
    ) -> Float[Array, "R T"]:  # fmt: skip
        """The completion's loss, on each of its tokens; `sequence_mean` averages them away."""
        clipped = jnp.where(
            advantage > 0, jnp.minimum(log_ratio, numbers["clip_high"]), jnp.maximum(log_ratio, -numbers["clip_low"])
        )
        return -advantage * jnp.exp(means(clipped, batch.rollout, batch.pg_weight != 0))

    def outside(self, log_ratio: Float[Array, "R T"], numbers: Numbers) -> Bool[Array, "R T"]:
        return (log_ratio < -numbers["clip_low"]) | (log_ratio > numbers["clip_high"])
