"""CHORD: GRPO and the expert's tokens in one loss, mixed by a schedule and weighed token by token."""

from dataclasses import dataclass, field, replace

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsrl.objectives.expert import FACTORS, TokenWeight, expert_mean, expert_nll
from jaxsrl.objectives.rollout_objective import RolloutObjective
from jaxsrl.old_names import moved, takes_old_names
from jaxsrl.types import Batch, Collected, Form, Metrics, Numbers, Weights


@dataclass(frozen=True, kw_only=True)
class MuSchedule:
    """Share of the expert's loss by optimizer step: linear 0 -> peak over `warmup` steps, cosine peak -> valley over
    `decay` steps, then valley.

    SFT followed by RL is peak 1, valley 0 and a decay of one step. Source: the code of arXiv:2508.11408, whose
    defaults for CHORD-mu these are.
    """

    warmup: int = 0
    decay: int = 200
    peak: float = 0.9
    valley: float = 0.05

    def __post_init__(self):
        if min(self.warmup, self.decay) < 0 or not 0 <= self.valley <= self.peak <= 1:
            raise ValueError(
                f"mu needs warmup and decay >= 0 and 0 <= valley <= peak <= 1, got warmup={self.warmup} "
                f"decay={self.decay} peak={self.peak} valley={self.valley}"
            )

    def at(self, step: Int[Array, ""], numbers: Numbers) -> Float[Array, ""]:
        """At the step with this many optimizer steps before it; `numbers` are this schedule's."""
        peak, valley = numbers["peak"], numbers["valley"]
        step = step.astype(jnp.result_type(float))  # an int32 over an int is float32, whatever the default is
        done = jnp.clip((step - self.warmup) / self.decay, 0.0, 1.0) if self.decay else 1.0
        falling = valley + (peak - valley) * (1 + jnp.cos(jnp.pi * done)) / 2
        return jnp.where(step < self.warmup, peak * step / max(self.warmup, 1), falling)


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class CHORD(RolloutObjective):
    """(1 - mu) GRPO + mu SFT, on rollouts and demonstration of the same problem, in one tree.

    Each part is averaged over its own tokens before it is mixed, else mu would mean nothing. The paper's demonstrations
    are of other problems than its rollouts, a fifth of a batch; here they are those of the step.

    Args:
      mu: schedule.
      token_weight: `one` (CHORD-mu), `phi`, p (1 - p), detached (CHORD-phi), or `probability`.
    Source: arXiv:2508.11408.
    """

    mu: MuSchedule = field(default_factory=MuSchedule)
    token_weight: TokenWeight = "one"
    trunk: tuple[Form, ...] = ("solve",)

    def __post_init__(self):
        super().__post_init__()
        if self.token_weight not in FACTORS:
            raise ValueError(f"token_weight must be one of {', '.join(FACTORS)}, got {self.token_weight!r}")
        if not self.trunk:
            raise ValueError("CHORD trains on the demonstration: trunk must name solve, step or both, got ()")

    def weigh(self, collected: Collected, reward: Float[Array, "P"], numbers: Numbers) -> Weights:
        """The weights of SFT times mu, those of the policy times 1 - mu."""
        mu = self.mu.at(collected.step, numbers["mu"])
        weights = self.policy.weigh(collected, reward, numbers["policy"])
        trunk = replace(weights.trunk, nll=(mu * expert_mean(collected)).astype(weights.rollouts.pg.dtype))
        return replace(weights, trunk=trunk, rollouts=replace(weights.rollouts, pg=(1 - mu) * weights.rollouts.pg))

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        """Policy loss plus expert loss; their weights hold mu already."""
        pg, pg_metrics = self.policy.token_loss(logp, batch, numbers["policy"])
        nll, nll_metrics = expert_nll(logp, batch, self.token_weight)
        return pg + nll, pg_metrics | nll_metrics


def chord_phi(**settings) -> CHORD:
    """CHORD-phi as published: phi-weighted tokens at a constant mu of 0.1."""
    return CHORD(**dict(mu=MuSchedule(warmup=0, decay=0, peak=0.1, valley=0.1), token_weight="phi") | settings)


def __getattr__(name: str):
    return moved(name, __name__, {"Mu": MuSchedule})
