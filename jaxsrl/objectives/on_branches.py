"""What objectives that sample share: a grader, a policy loss, and nothing of their own on the demonstration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.types import Batch, BranchPoint, Demonstration, Form, Grades, Metrics, Reward, Rollouts, TokenWeights


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Rollouts graded by `grader`; they branch off at the problem if nothing else is said.

    Args:
      grader: given by the config.
      samples: rollouts per branch point.
      trunk: forms in which the demonstration itself is trained on.
    """

    grader: Reward
    samples: int = 8
    trunk: tuple[Form, ...] = ()

    def __post_init__(self):
        if self.samples < 2:
            raise ValueError(f"samples must be >= 2, a group of one has no baseline, got {self.samples}")

    def branch_points(
        self, demonstration: Demonstration, stats: Mapping[str, float], step: int
    ) -> tuple[BranchPoint, ...]:
        """The problem, from which a whole solution is written."""
        return (BranchPoint(after=0, samples=self.samples, form="solve"),)

    def reward(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Grades:
        return self.grader(rollouts, demonstrations)

    def _no_trunk(self) -> None:
        if self.trunk:
            raise ValueError(
                f"{type(self).__name__} puts no weight on the demonstration itself, got trunk={self.trunk!r}"
            )


@dataclass(frozen=True, kw_only=True)
class OnBranches(Sampled):
    """What is sampled is weighed, and its loss made, by `policy`: GRPO or a relative of it."""

    policy: GRPO = field(default_factory=GRPO)

    @property
    def kl_coef(self) -> float:
        return self.policy.kl_coef

    @property
    def reward_kl_coef(self) -> float:
        return self.policy.reward_kl_coef

    def weigh(
        self, rollouts: Rollouts, reward: Float[np.ndarray, "P"], target: Bool[np.ndarray, "M E"], step: int = 0
    ) -> tuple[TokenWeights, TokenWeights]:
        return self.policy.weigh(rollouts, reward, target, step)

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        return self.policy.token_loss(logp, batch)
