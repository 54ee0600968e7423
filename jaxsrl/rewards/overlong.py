"""A soft penalty on completions that come near the length cap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsrl.old_names import takes_old_names
from jaxsrl.types import Demonstration, Reward, Rewards, Rollouts, means


def overlong_penalty(tokens: Int[np.ndarray, "P"], *, max_tokens: int, margin_tokens: int) -> Float[np.ndarray, "P"]:
    """0 up to max_tokens - margin_tokens, then linear to -1 at max_tokens, and -1 beyond."""
    return np.clip((max_tokens - margin_tokens - np.asarray(tokens, np.float64)) / margin_tokens, -1.0, 0.0)


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class Overlong:
    """Another reward's reward plus `overlong_penalty` of the completion's own tokens, its end token included.

    Args:
      max_tokens, margin_tokens: in tokens; of a run whose cap is `max_tokens`.
      spare_equal: a group whose rewards are equal without the penalty is spared it, so that DAPO's filter, which looks
        at correctness, drops it as its paper does. False penalises every group.
    Raises: ValueError when called if completions cannot become long enough to be penalised.
    Source: arXiv:2503.14476, with 20 480 and 4 096.
    """

    reward: Reward
    max_tokens: int = 20_480
    margin_tokens: int = 4_096
    spare_equal: bool = True

    def __post_init__(self):
        if not 0 < self.margin_tokens <= self.max_tokens:
            raise ValueError(
                f"margin_tokens must be in 1..max_tokens, got margin_tokens={self.margin_tokens} "
                f"max_tokens={self.max_tokens}"
            )

    def __call__(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
        cap, free = rollouts.mask.shape[1], self.max_tokens - self.margin_tokens
        if cap <= free:
            raise ValueError(
                f"Overlong penalises from {free} tokens on (max_tokens={self.max_tokens}, "
                f"margin_tokens={self.margin_tokens}), but sampling.max_new_tokens={cap} ends completions before"
            )
        rewards = self.reward(rollouts, demonstrations)
        penalty = overlong_penalty(
            rollouts.mask.sum(axis=1), max_tokens=self.max_tokens, margin_tokens=self.margin_tokens
        )
        if self.spare_equal:
            penalty = np.where(_differ(rewards.reward, rollouts.group), penalty, 0.0)
        shown = {name: getattr(self, name) for name in ("max_tokens", "margin_tokens", "spare_equal")}
        return replace(
            rewards, reward=rewards.reward + penalty, settings={**rewards.settings, "overlong": shown},
            means={**rewards.means, **means({"reward/overlong_mean": penalty})},
        )  # fmt: skip


def _differ(reward: Float[np.ndarray, "P"], group: Int[np.ndarray, "P"]) -> Bool[np.ndarray, "P"]:
    """Whether a rollout's group has more than one reward."""
    return np.array([np.ptp(reward[group == own]) > 0 for own in group], bool)
