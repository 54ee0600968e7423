"""REINFORCE: the log-probability of a completion times its advantage, no ratio and no clip."""

from dataclasses import dataclass

from jaxtyping import Array, Float

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.types import Batch, Numbers


@dataclass(frozen=True, kw_only=True)
class Reinforce(GRPO):
    """-A log p. On policy its gradient is the surrogate's; at later updates it treats rollouts as if on policy.

    `clip_low`, `clip_high` are not used but for the share of tokens outside them. RLOO is a preset of this.
    Source: arXiv:2402.14740.
    """

    def per_token(
        self, logp: Float[Array, "R T"], log_ratio: Float[Array, "R T"], advantage: Float[Array, "R T"], batch: Batch,
        numbers: Numbers,
    ) -> Float[Array, "R T"]:  # fmt: skip
        return -advantage * logp
