"""Step-wise supervised RL: one completion per expert action, rewarded by its similarity to that action."""

import hashlib
from dataclasses import dataclass, field

import numpy as np

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rollout_objective import RolloutObjective
from jaxsrl.old_names import takes_old_names
from jaxsrl.types import BranchPoint, Demonstration


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class SRL(RolloutObjective):
    """GRPO at the branch points x, a_1 … a_{N-2}: N-1 targets, never the last action.

    Args:
      reward: compares an action with the expert's.
      policy: advantage, filter, surrogate. The filter's threshold is not in the paper; 0.05 is our choice for the
        similarity of characters.
      max_branch_points: of one demonstration in one optimizer step; which ones is drawn from its name and the step.
    Source: arXiv:2510.25992.
    """

    policy: GRPO = field(default_factory=lambda: GRPO(filter_std=0.05))
    max_branch_points: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.max_branch_points is not None and self.max_branch_points < 1:
            raise ValueError(f"max_branch_points must be >= 1, got {self.max_branch_points}")
        self._no_trunk()

    def branch_points(self, demonstration: Demonstration, step: int) -> tuple[BranchPoint, ...]:
        """After 0 … N-2 actions; a demonstration of one action has none."""
        after = range(len(demonstration.actions) - 1)
        if self.max_branch_points is not None and len(after) > self.max_branch_points:
            seed = hashlib.sha256(f"{demonstration.problem_id}:{step}".encode()).digest()[:8]
            drawn = np.random.default_rng(int.from_bytes(seed, "little")).permutation(len(after))
            after = sorted(drawn[: self.max_branch_points].tolist())
        return tuple(BranchPoint(after=k, samples=self.group_size, form="action") for k in after)
