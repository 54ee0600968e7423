"""LUFFY: the expert's solution is one more member of the group, with a shaped off-policy weight."""

from dataclasses import dataclass, field, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.joined import weigh_joined
from jaxsrl.objectives.on_branches import OnBranches
from jaxsrl.types import Batch, Form, Metrics, Rollouts, TokenWeights


def shaped(p: Float[Array, "R T"], gamma: float) -> Float[Array, "R T"]:
    """f(p) = p / (p + gamma): the gradient on log p is gamma p / (p + gamma)^2, largest at p = gamma."""
    return p / (p + gamma)


@dataclass(frozen=True, kw_only=True)
class LUFFY(OnBranches):
    """GRPO over G rollouts and the expert; the expert's tokens have behavior probability 1, f(p) and no clip.

    Args:
      policy: of the rollouts. The default is the released script's: no deviation, constant length, no clip (its
        entropy bonus of 0.001 is left out: a loss here sees the log-probs of tokens only).
      gamma: of the shaping; None takes p itself.
      expert_reward: what a demonstration is given.
      in_baseline: whether it is part of the mean and deviation (the code's `grpo`) or not (`grpo_split`).
      samples: rollouts beside the expert; published 7.
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
    samples: int = 7
    trunk: tuple[Form, ...] = ("solve",)

    def __post_init__(self):
        super().__post_init__()
        if self.trunk != ("solve",):
            raise ValueError(
                f"the expert joins groups of whole solutions: trunk must be ('solve',), got {self.trunk!r}"
            )
        if self.gamma is not None and self.gamma <= 0:
            raise ValueError(f"gamma must be above 0, or None, got {self.gamma}")
        if self.policy.baseline != "mean" or self.policy.reward_kl_coef:
            raise ValueError("the policy needs baseline='mean' and reward_kl_coef=0: the expert has no behavior_logp")

    def weigh(
        self, rollouts: Rollouts, reward: Float[np.ndarray, "P"], target: Bool[np.ndarray, "M E"], step: int = 0
    ) -> tuple[TokenWeights, TokenWeights]:
        return weigh_joined(
            self.policy, rollouts, reward, target, expert_reward=self.expert_reward, in_baseline=self.in_baseline
        )

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """The policy's loss on rollouts, -A f(p) on the expert's tokens."""
        sampled = batch.rollout >= 0
        on, metrics = self.policy.token_loss(logp, replace(batch, pg_weight=jnp.where(sampled, batch.pg_weight, 0.0)))
        expert = ~sampled & (batch.pg_weight != 0)
        p = jnp.exp(jnp.where(expert, logp, 0.0))
        gain = p if self.gamma is None else shaped(p, self.gamma)
        off = -jnp.sum(jnp.where(expert, batch.pg_weight * batch.advantage * gain, 0.0))
        weight = jnp.sum(jnp.where(expert, batch.pg_weight, 0.0))
        return on + off, metrics | {"expert/loss": off, "expert/weight": weight, "expert/tokens": jnp.sum(expert)}
