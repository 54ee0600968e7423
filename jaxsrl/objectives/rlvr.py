"""RL with verifiable rewards: whole solutions from the problem, rewarded by their final answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.types import Batch, BranchPoint, Demonstration, Form, Grades, Metrics, Reward, Rollouts, TokenWeights


@dataclass(frozen=True, kw_only=True)
class RLVR:
    """GRPO at the problem alone, on completions in `solve` form.

    Args:
      grader: judges a completion's final answer; given by the config.
      policy: advantage, filter, surrogate; a filter of 0 drops groups that are all right or all wrong.
      samples: rollouts per problem.
    Source: arXiv:2402.03300; the filter arXiv:2503.14476, and the baseline of arXiv:2510.25992.
    """

    grader: Reward
    policy: GRPO = field(default_factory=lambda: GRPO(filter_std=0.0))
    samples: int = 8
    trunk: tuple[Form, ...] = ()

    def __post_init__(self):
        if self.samples < 2:
            raise ValueError(f"samples must be >= 2, a group of one has no baseline, got {self.samples}")
        if self.trunk:
            raise ValueError(f"RLVR puts no weight on the demonstration itself, got trunk={self.trunk!r}")

    @property
    def kl_coef(self) -> float:
        return self.policy.kl_coef

    def branch_points(
        self, demonstration: Demonstration, stats: Mapping[str, float], step: int
    ) -> tuple[BranchPoint, ...]:
        """The problem."""
        return (BranchPoint(after=0, samples=self.samples, form="solve"),)

    def reward(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Grades:
        return self.grader(rollouts, demonstrations)

    def weigh(
        self, rollouts: Rollouts, reward: Float[np.ndarray, "P"], target: Bool[np.ndarray, "M E"], step: int = 0
    ) -> tuple[TokenWeights, TokenWeights]:
        return self.policy.weigh(rollouts, reward, target, step)

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        return self.policy.token_loss(logp, batch)
