"""CISPO: REINFORCE with a clipped importance weight that carries no gradient."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.types import Batch, Numbers


@dataclass(frozen=True, kw_only=True)
class CISPO(GRPO):
    """-sg(clip(r, 1 - low, 1 + high)) A log p: every token keeps a gradient, however far its ratio has gone.

    Source: arXiv:2506.13585, which bounds the weight above only, so `clip_low` is 1; it does not print `clip_high`.
    4 (a weight of at most 5) is the range of later recipes and our choice.
    """

    clip_low: float = 1.0
    clip_high: float = 4.0

    def per_token(
        self, logp: Float[Array, "R T"], log_ratio: Float[Array, "R T"], advantage: Float[Array, "R T"], batch: Batch,
        numbers: Numbers,
    ) -> Float[Array, "R T"]:  # fmt: skip
        ratio = jnp.exp(jax.lax.stop_gradient(log_ratio))
        weight = jnp.clip(ratio, 1.0 - numbers["clip_low"], 1.0 + numbers["clip_high"])
        return -weight * advantage * logp
