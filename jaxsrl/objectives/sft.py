"""Supervised fine-tuning: the NLL of the demonstration's own tokens."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsrl.objectives.collected import check_batch, check_shapes, no_weight
from jaxsrl.objectives.weights import sequence_mean, spread, token_mean
from jaxsrl.old_names import takes_old_names
from jaxsrl.types import (
    Batch,
    BranchPoint,
    Collected,
    Demonstration,
    Form,
    Metrics,
    Numbers,
    Objective,
    TokenWeights,
    Weights,
)


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class SFT(Objective):
    """-log p of the actions, and of the thoughts where demonstrations show them.

    Args:
      trunk: `solve` trains the whole solution as one completion; `action` trains each action as the completion of the
        solution before it; both may be named.
      aggregation: over the target tokens of an optimizer step; `sequence_mean` counts demonstrations.
    """

    trunk: tuple[Form, ...] = ("solve",)
    aggregation: Literal["token_mean", "sequence_mean"] = "token_mean"

    def __post_init__(self):
        if not self.trunk or not set(self.trunk) <= {"solve", "action"}:
            raise ValueError(f"trunk must name solve, step or both, got {self.trunk!r}")
        if self.aggregation not in ("token_mean", "sequence_mean"):
            raise ValueError(f"aggregation must be token_mean or sequence_mean, got {self.aggregation!r}")

    def branch_points(self, demonstration: Demonstration, step: int) -> tuple[BranchPoint, ...]:
        """None: nothing is sampled."""
        return ()

    def weigh(self, collected: Collected, reward: Float[Array, "P"], numbers: Numbers) -> Weights:
        """NLL weights on the demonstrations' target tokens; they sum to 1."""
        check_shapes(collected, reward)
        target, dtype = collected.target, jnp.result_type(float)
        per_token = token_mean if self.aggregation == "token_mean" else sequence_mean
        nll = spread(target, per_token(jnp.sum(target, axis=1)).astype(dtype))
        trunk = TokenWeights(nll=nll, pg=jnp.zeros_like(nll), advantage=jnp.zeros_like(nll))
        return Weights(trunk=trunk, rollouts=no_weight(collected.mask.shape, dtype))

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        """sum nll_weight * -logp."""
        check_batch(logp, batch)
        loss = -jnp.sum(jnp.where(batch.nll_weight != 0, batch.nll_weight * logp, 0.0))
        return loss, {"sft/nll": loss, "sft/target_tokens": jnp.sum(batch.nll_weight != 0)}
