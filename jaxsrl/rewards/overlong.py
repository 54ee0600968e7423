"""A soft penalty on completions that come near the length cap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from jaxsrl.types import Demonstration, Grades, Reward, Rollouts


def overlong_penalty(tokens: Int[np.ndarray, "P"], *, max_tokens: int, margin_tokens: int) -> Float[np.ndarray, "P"]:
    """0 up to max_tokens - margin_tokens, then linear to -1 at max_tokens, and -1 beyond."""
    return np.clip((max_tokens - margin_tokens - np.asarray(tokens, np.float64)) / margin_tokens, -1.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Overlong:
    """Another grader's reward plus `overlong_penalty` of the completion's own tokens, its end token included.

    Args:
      max_tokens, margin_tokens: in tokens; of a run whose cap is `max_tokens`.
    Source: arXiv:2503.14476, with 20 480 and 4 096.
    """

    grader: Reward
    max_tokens: int = 20_480
    margin_tokens: int = 4_096

    def __post_init__(self):
        if not 0 < self.margin_tokens <= self.max_tokens:
            raise ValueError(
                f"margin_tokens must be in 1..max_tokens, got margin_tokens={self.margin_tokens} "
                f"max_tokens={self.max_tokens}"
            )

    def __call__(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Grades:
        grades = self.grader(rollouts, demonstrations)
        penalty = overlong_penalty(
            rollouts.mask.sum(axis=1), max_tokens=self.max_tokens, margin_tokens=self.margin_tokens
        )
        shown = {"max_tokens": self.max_tokens, "margin_tokens": self.margin_tokens}
        metrics = {"reward/overlong_mean": float(penalty.mean())} if len(penalty) else {}
        return replace(
            grades, reward=grades.reward + penalty, settings={**grades.settings, "overlong": shown},
            metrics={**grades.metrics, **metrics},
        )  # fmt: skip
