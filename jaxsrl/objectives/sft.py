"""Supervised fine-tuning: the NLL of the demonstration's own tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.weights import aggregate
from jaxsrl.types import Batch, BranchPoint, Demonstration, Form, Grades, Metrics, Rollouts, TokenWeights


@dataclass(frozen=True, kw_only=True)
class SFT:
    """-log p of the actions, and of the thoughts where demonstrations show them.

    Args:
      trunk: `solve` trains the whole solution as one completion; `step` trains each action as the completion of the
        solution before it; both may be named.
      aggregation: over the target tokens of an optimizer step; `sequence_mean` counts demonstrations.
    """

    trunk: tuple[Form, ...] = ("solve",)
    aggregation: Literal["token_mean", "sequence_mean"] = "token_mean"
    kl_coef: float = 0.0

    def __post_init__(self):
        if not self.trunk or not set(self.trunk) <= {"solve", "step"}:
            raise ValueError(f"trunk must name solve, step or both, got {self.trunk!r}")
        if self.aggregation not in ("token_mean", "sequence_mean"):
            raise ValueError(f"aggregation must be token_mean or sequence_mean, got {self.aggregation!r}")
        if self.kl_coef:
            raise ValueError(f"SFT samples nothing a KL could be estimated from; set kl_coef to 0, got {self.kl_coef}")

    def branch_points(
        self, demonstration: Demonstration, stats: Mapping[str, float], step: int
    ) -> tuple[BranchPoint, ...]:
        """None: nothing is sampled."""
        return ()

    def reward(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Grades:
        raise RuntimeError("SFT has no rollouts to reward")

    def weigh(
        self, rollouts: Rollouts, reward: Float[np.ndarray, "P"], target: Bool[np.ndarray, "M E"], step: int = 0
    ) -> tuple[TokenWeights, TokenWeights]:
        """NLL weights on the demonstrations' target tokens; they sum to 1."""
        none, zero = np.zeros(rollouts.mask.shape), np.zeros(target.shape)
        trunk = TokenWeights(nll=aggregate(target, self.aggregation), pg=zero, advantage=zero)
        return trunk, TokenWeights(nll=none, pg=none, advantage=none)

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """sum nll_weight * -logp."""
        loss = -jnp.sum(jnp.where(batch.nll_weight != 0, batch.nll_weight * logp, 0.0))
        return loss, {"sft/nll": loss, "sft/target_tokens": jnp.sum(batch.nll_weight != 0)}
