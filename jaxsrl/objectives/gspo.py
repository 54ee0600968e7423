"""GSPO: one ratio for a whole completion."""

from dataclasses import dataclass

from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.sequence import means
from jaxsrl.objectives.weights import Aggregation
from jaxsrl.types import Batch


@dataclass(frozen=True, kw_only=True)
class GSPO(GRPO):
    """GRPO's surrogate of s = (policy / behavior of the completion)^(1 / its tokens), with a far narrower clip.

    With one update per rollout s is 1, and this is GRPO with `sequence_mean`.
    Source: arXiv:2507.18071; clip of its experiments.
    """

    clip_low: float = 3e-4
    clip_high: float = 4e-4
    aggregation: Aggregation = "sequence_mean"

    def clipped_log_ratio(
        self, log_ratio: Float[Array, "R T"], weighed: Bool[Array, "R T"], batch: Batch
    ) -> Float[Array, "R T"]:
        """The mean log-ratio of the completion, on each of its tokens."""
        return means(log_ratio, batch.rollout, weighed)
