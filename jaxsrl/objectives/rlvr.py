"""RL with verifiable rewards: whole solutions from the problem, rewarded by their final answer."""

from dataclasses import dataclass, field

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rollout_objective import RolloutObjective
from jaxsrl.old_names import takes_old_names


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class RLVR(RolloutObjective):
    """GRPO at the problem alone, on completions in `solve` form.

    Args:
      reward: judges a completion's final answer. One that compares it with the whole of the expert's solution makes
        this the one-shot similarity of arXiv:2510.25992.
      policy: advantage, filter, surrogate; a filter of 0 drops groups that are all right or all wrong.
    Source: arXiv:2402.03300; the filter arXiv:2503.14476, and the baseline of arXiv:2510.25992.
    """

    policy: GRPO = field(default_factory=lambda: GRPO(filter_std=0.0))

    def __post_init__(self):
        super().__post_init__()
        self._no_trunk()
