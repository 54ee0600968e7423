"""R3: outcome reward from ever earlier points of the demonstration."""

import hashlib
import math
from dataclasses import dataclass, field

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rollout_objective import RolloutObjective
from jaxsrl.old_names import takes_old_names
from jaxsrl.types import BranchPoint, Demonstration


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class ReverseCurriculum(RolloutObjective):
    """The solution is finished from the expert's action k: late at first, the problem itself in the end.

    Args:
      reward: of the final answer; it is given what the model wrote, not the expert's actions before it.
      steps: optimizer steps in which k falls from N-1 to 0, an equal share of them for each of the N; in the paper
        stages, of which it names no length.
      mixed: draws k evenly from all those up to N-1 instead, by problem and step: all stages at once.
    Source: arXiv:2402.05808, as the baseline of arXiv:2510.25992.
    """

    policy: GRPO = field(default_factory=lambda: GRPO(filter_std=0.0))
    steps: int = 100
    mixed: bool = False

    def __post_init__(self):
        super().__post_init__()
        self._no_trunk()
        if self.steps < 1:
            raise ValueError(f"steps must be >= 1, got {self.steps}")

    def branch_points(self, demonstration: Demonstration, step: int) -> tuple[BranchPoint, ...]:
        last = len(demonstration.actions) - 1
        if self.mixed:
            digest = hashlib.sha256(f"{demonstration.problem_id}:{step}".encode()).digest()
            after = int.from_bytes(digest[:8], "little") % (last + 1)
        else:
            after = max(math.ceil((last + 1) * (1.0 - step / self.steps)) - 1, 0)
        return (BranchPoint(after=after, samples=self.group_size, form="solve"),)
