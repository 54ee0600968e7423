"""LUFFY: the expert's solution is one more member of the group, with a shaped off-policy weight."""

from dataclasses import dataclass, field, replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsrl.objectives.expert_in_group import expert_in_group
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rollout_objective import RolloutObjective
from jaxsrl.old_names import takes_old_names
from jaxsrl.types import Batch, Collected, Form, Metrics, Needs, Numbers, Weights


def shaped(p: Float[Array, "R T"], gamma: Float[Array, ""]) -> Float[Array, "R T"]:
    """f(p) = p / (p + gamma): the gradient on log p is gamma p / (p + gamma)^2, largest at p = gamma."""
    return p / (p + gamma)


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class LUFFY(RolloutObjective):
    """GRPO over G rollouts and the expert; the expert's tokens have behavior probability 1, f(p) and no clip.

    Args:
      policy: of the rollouts. The default is the released script's: no deviation, constant length, no clip.
      gamma: of the shaping. None takes p itself.
      expert_reward: what a demonstration is given.
      in_baseline: whether it is part of the mean and deviation (the code's `grpo`) or not (`grpo_split`).
      group_size: rollouts beside the expert; published 7.
      entropy_coef: of a bonus on the policy's exact entropy, in nats and at the sampling temperature. It is averaged
        over the rollouts' tokens with their weights. The released script has 0.001; 0 leaves it out.
    Source: arXiv:2504.14945 and its code.
    """

    policy: GRPO = field(
        default_factory=lambda: GRPO(
            std="none",
            aggregation="fixed_length",
            length=1024,
            clip_low=1.0,
            clip_high=1e9,  # above any ratio
        )
    )
    gamma: float | None = 0.1
    expert_reward: float = 1.0
    in_baseline: bool = True
    group_size: int = 7
    entropy_coef: float = 0.001
    trunk: tuple[Form, ...] = ("solve",)

    def __post_init__(self):
        super().__post_init__()
        if self.trunk != ("solve",):
            raise ValueError(
                f"the expert joins groups of whole solutions: trunk must be ('solve',), got {self.trunk!r}"
            )
        if self.gamma is not None and self.gamma <= 0:
            raise ValueError(f"gamma must be above 0, or None, got {self.gamma}")
        if self.entropy_coef < 0:
            raise ValueError(f"entropy_coef must be >= 0, got {self.entropy_coef}")
        if self.policy.baseline != "mean" or self.policy.reward_kl_coef:
            raise ValueError("the policy needs baseline='mean' and reward_kl_coef=0: the expert has no behavior_logp")
        if not self.in_baseline and (self.policy.std not in ("group", "none") or self.policy.whiten):
            raise ValueError(
                f"in_baseline=False needs a policy with std group or none and whiten=False, got "
                f"std={self.policy.std!r} whiten={self.policy.whiten}"
            )

    @property
    def needs(self) -> Needs:
        return replace(self.policy.needs, entropy=self.entropy_coef > 0)

    def weigh(self, collected: Collected, reward: Float[Array, "P"], numbers: Numbers) -> Weights:
        return expert_in_group(
            self.policy, collected, reward, numbers["policy"], expert_reward=numbers["expert_reward"],
            in_baseline=self.in_baseline,
        )  # fmt: skip

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        """The policy's loss on rollouts, -A f(p) on the expert's tokens."""
        sampled = batch.rollout >= 0
        own = jnp.where(sampled, batch.pg_weight, 0.0)
        on, metrics = self.policy.token_loss(logp, replace(batch, pg_weight=own), numbers["policy"])
        if self.entropy_coef:
            entropy = jnp.sum(jnp.where(own != 0, own * batch.extra["entropy"], 0.0))
            on, metrics = on - numbers["entropy_coef"] * entropy, metrics | {"pg/entropy": entropy}
        expert = ~sampled & (batch.pg_weight != 0)
        p = jnp.exp(jnp.where(expert, logp, 0.0))
        gain = p if self.gamma is None else shaped(p, numbers["gamma"])
        off = -jnp.sum(jnp.where(expert, batch.pg_weight * batch.advantage * gain, 0.0))
        weight = jnp.sum(jnp.where(expert, batch.pg_weight, 0.0))
        return on + off, metrics | {"expert/loss": off, "expert/weight": weight, "expert/tokens": jnp.sum(expert)}
