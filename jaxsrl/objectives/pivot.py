"""PivotRL: step-wise RL at the branch points where the start policy's rewards differ most."""

from dataclasses import dataclass, field, replace

import numpy as np

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rollout_objective import RolloutObjective
from jaxsrl.old_names import takes_old_names
from jaxsrl.types import BranchPoint, Demonstration, Needs


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class PivotRL(RolloutObjective):
    """GRPO at the pivots of a demonstration: branch points whose profiled rewards have the largest variance.

    A profile is what an earlier stage found (`Curation.profile`); where all of its rollouts were right, or all wrong,
    there is nothing to learn.

    Args:
      reward: whether the action does what the expert's does.
      max_pivots: of one demonstration, those of largest variance; ties go to the earlier one.
      min_std: population deviation that a pivot must exceed.
    Source: the idea of PivotRL; thresholds are our choice.
    """

    policy: GRPO = field(default_factory=lambda: GRPO(filter_std=0.0))
    max_pivots: int = 2
    min_std: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        self._no_trunk()
        if self.max_pivots < 1 or self.min_std < 0:
            raise ValueError(
                f"needs max_pivots >= 1 and min_std >= 0, got max_pivots={self.max_pivots} min_std={self.min_std}"
            )

    @property
    def needs(self) -> Needs:
        return replace(self.policy.needs, profile=True)

    def branch_points(self, demonstration: Demonstration, step: int) -> tuple[BranchPoint, ...]:
        """The pivots. Before there is a profile, when only sizes are checked, every action but the last."""
        if demonstration.profile is None:
            chosen = list(range(len(demonstration.actions) - 1))
        else:
            spread = {after: _std(rewards) for after, rewards in demonstration.profile}
            pivots = [after for after, std in spread.items() if std > self.min_std]
            chosen = sorted(sorted(pivots, key=lambda k: (-spread[k], k))[: self.max_pivots])
        return tuple(BranchPoint(after=k, samples=self.group_size, form="action") for k in chosen)


def _std(rewards) -> float:
    """Population deviation; exactly 0 where all are alike."""
    alike = not len(rewards) or max(rewards) - min(rewards) <= 1e-9 * max(map(abs, rewards))
    return 0.0 if alike else float(np.std(rewards))
