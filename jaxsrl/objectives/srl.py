"""Step-wise supervised RL: one completion per expert action, rewarded by its similarity to that action."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.types import Batch, BranchPoint, Demonstration, Form, Grades, Metrics, Reward, Rollouts, TokenWeights


@dataclass(frozen=True, kw_only=True)
class SRL:
    """GRPO at the branch points x, a_1 … a_{N-2}: N-1 targets, never the last action.

    Args:
      grader: compares an action with the expert's; given by the config.
      policy: advantage, filter, surrogate. The filter's threshold is not in the paper; 0.05 is our choice for the
        similarity of characters.
      samples: rollouts per branch point.
      max_branch_points: of one demonstration in one optimizer step; which ones is drawn from its name and the step.
    Source: arXiv:2510.25992.
    """

    grader: Reward
    policy: GRPO = field(default_factory=lambda: GRPO(filter_std=0.05))
    samples: int = 8
    max_branch_points: int | None = None
    trunk: tuple[Form, ...] = ()

    def __post_init__(self):
        if self.samples < 2:
            raise ValueError(f"samples must be >= 2, a group of one has no baseline, got {self.samples}")
        if self.max_branch_points is not None and self.max_branch_points < 1:
            raise ValueError(f"max_branch_points must be >= 1, got {self.max_branch_points}")
        if self.trunk:
            raise ValueError(f"SRL puts no weight on the demonstration itself, got trunk={self.trunk!r}")

    @property
    def kl_coef(self) -> float:
        return self.policy.kl_coef

    def branch_points(
        self, demonstration: Demonstration, stats: Mapping[str, float], step: int
    ) -> tuple[BranchPoint, ...]:
        """After 0 … N-2 actions; a demonstration of one action has none."""
        after = range(len(demonstration.actions) - 1)
        if self.max_branch_points is not None and len(after) > self.max_branch_points:
            seed = hashlib.sha256(f"{demonstration.problem_id}:{step}".encode()).digest()[:8]
            drawn = np.random.default_rng(int.from_bytes(seed, "little")).permutation(len(after))
            after = sorted(drawn[: self.max_branch_points].tolist())
        return tuple(BranchPoint(after=k, samples=self.samples, form="step") for k in after)

    def reward(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Grades:
        return self.grader(rollouts, demonstrations)

    def weigh(
        self, rollouts: Rollouts, reward: Float[np.ndarray, "P"], target: Bool[np.ndarray, "M E"], step: int = 0
    ) -> tuple[TokenWeights, TokenWeights]:
        return self.policy.weigh(rollouts, reward, target, step)

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        return self.policy.token_loss(logp, batch)
