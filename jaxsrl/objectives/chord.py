"""CHORD: GRPO and the expert's tokens in one loss, mixed by a schedule and weighed token by token."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsrl.objectives.expert import FACTORS, TokenWeight, expert_nll
from jaxsrl.objectives.on_branches import OnBranches
from jaxsrl.objectives.weights import token_mean
from jaxsrl.types import Batch, Form, Metrics, Rollouts, TokenWeights


@dataclass(frozen=True, kw_only=True)
class Mu:
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

    def __call__(self, step: int) -> float:
        """At the step with this many optimizer steps before it."""
        if step < self.warmup:
            return self.peak * step / self.warmup
        done = min((step - self.warmup) / self.decay, 1.0) if self.decay else 1.0
        return self.valley + (self.peak - self.valley) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True, kw_only=True)
class CHORD(OnBranches):
    """(1 - mu) GRPO + mu SFT, on rollouts and demonstration of the same problem, in one tree.

    Each part is averaged over its own tokens before it is mixed, else mu would mean nothing. The paper's demonstrations
    are of other problems than its rollouts, a fifth of a batch; here they are those of the step.

    Args:
      mu: schedule.
      token_weight: `one` (CHORD-mu), `phi`, p (1 - p), detached (CHORD-phi), or `probability`.
    Source: arXiv:2508.11408.
    """

    mu: Mu = field(default_factory=Mu)
    token_weight: TokenWeight = "one"
    trunk: tuple[Form, ...] = ("solve",)

    def __post_init__(self):
        super().__post_init__()
        if self.token_weight not in FACTORS:
            raise ValueError(f"token_weight must be one of {', '.join(FACTORS)}, got {self.token_weight!r}")
        if not self.trunk:
            raise ValueError("CHORD trains on the demonstration: trunk must name solve, step or both, got ()")

    def weigh(
        self, rollouts: Rollouts, reward: Float[np.ndarray, "P"], target: Bool[np.ndarray, "M E"], step: int = 0
    ) -> tuple[TokenWeights, TokenWeights]:
        """The weights of SFT times mu, those of the policy times 1 - mu."""
        mu = self.mu(step)
        trunk, branches = self.policy.weigh(rollouts, reward, target, step)
        return replace(trunk, nll=mu * token_mean(target)), replace(branches, pg=(1 - mu) * branches.pg)

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        """Policy loss plus expert loss; their weights hold mu already."""
        pg, pg_metrics = self.policy.token_loss(logp, batch)
        nll, nll_metrics = expert_nll(logp, batch, self.token_weight)
        return pg + nll, pg_metrics | nll_metrics


def chord_phi(**settings) -> CHORD:
    """CHORD-phi as published: phi-weighted tokens at a constant mu of 0.1."""
    return CHORD(**dict(mu=Mu(warmup=0, decay=0, peak=0.1, valley=0.1), token_weight="phi") | settings)
