"""RL with an SFT term: a policy loss plus the NLL of the expert's solution of the same problem."""

from dataclasses import dataclass, replace

from jaxtyping import Array, Float

from jaxsrl.objectives.expert import expert_mean, expert_nll
from jaxsrl.objectives.rollout_objective import RolloutObjective
from jaxsrl.old_names import takes_old_names
from jaxsrl.types import Batch, Collected, Form, Metrics, Numbers, Weights


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class RLWithSFT(RolloutObjective):
    """GRPO + sft_coef * SFT, each averaged over its own tokens.

    Args:
      sft_coef: not printed; 1 is our choice.
    Source: the baseline of that name in arXiv:2504.14945.
    """

    sft_coef: float = 1.0
    trunk: tuple[Form, ...] = ("solve",)

    def __post_init__(self):
        super().__post_init__()
        if self.sft_coef < 0 or not self.trunk:
            raise ValueError(f"needs sft_coef >= 0 and a trunk, got sft_coef={self.sft_coef} trunk={self.trunk!r}")

    def weigh(self, collected: Collected, reward: Float[Array, "P"], numbers: Numbers) -> Weights:
        weights = self.policy.weigh(collected, reward, numbers["policy"])
        nll = (numbers["sft_coef"] * expert_mean(collected)).astype(weights.rollouts.pg.dtype)
        return replace(weights, trunk=replace(weights.trunk, nll=nll))

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        pg, pg_metrics = self.policy.token_loss(logp, batch, numbers["policy"])
        nll, nll_metrics = expert_nll(logp, batch, "one")
        return pg + nll, pg_metrics | nll_metrics
