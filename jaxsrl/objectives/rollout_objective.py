"""What objectives that sample share: a reward, a policy loss, and nothing of their own on the demonstration."""

from dataclasses import dataclass, field

from jaxtyping import Array, Float

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.types import (
    Batch,
    BranchPoint,
    Collected,
    Demonstration,
    DeviceReward,
    Form,
    Metrics,
    Needs,
    Numbers,
    Objective,
    Reward,
    Weights,
)


@dataclass(frozen=True, kw_only=True)
class Sampled(Objective):
    """Rollouts that `reward` rewards; they branch off at the problem if nothing else is said.

    Args:
      reward: given by the config.
      group_size: rollouts per branch point.
      trunk: forms in which the demonstration itself is trained on.
    """

    reward: Reward = field()  # required: without a field, the protocol's method would be the default
    group_size: int = 8
    trunk: tuple[Form, ...] = ()

    def __post_init__(self):
        if self.group_size < 2:
            raise ValueError(f"group_size must be >= 2, a group of one has no baseline, got {self.group_size}")

    def branch_points(self, demonstration: Demonstration, step: int) -> tuple[BranchPoint, ...]:
        """The problem, from which a whole solution is written."""
        return (BranchPoint(after=0, samples=self.group_size, form="solve"),)

    @property
    def device_reward(self) -> DeviceReward | None:
        on_device = isinstance(self.reward, DeviceReward) and self.reward.on_device()
        return self.reward if on_device else None

    def _no_trunk(self) -> None:
        if self.trunk:
            raise ValueError(
                f"{type(self).__name__} puts no weight on the demonstration itself, got trunk={self.trunk!r}"
            )


@dataclass(frozen=True, kw_only=True)
class RolloutObjective(Sampled):
    """What is sampled is weighed, and its loss made, by `policy`: GRPO or a relative of it."""

    policy: GRPO = field(default_factory=GRPO)

    @property
    def needs(self) -> Needs:
        return self.policy.needs

    def weigh(self, collected: Collected, reward: Float[Array, "P"], numbers: Numbers) -> Weights:
        return self.policy.weigh(collected, reward, numbers["policy"])

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        return self.policy.token_loss(logp, batch, numbers["policy"])
