"""DFT: SFT in which a token counts as much as the policy already believes in it."""

from dataclasses import dataclass

from jaxtyping import Array, Float

from jaxsrl.objectives.expert import expert_nll
from jaxsrl.objectives.sft import SFT
from jaxsrl.types import Batch, Metrics, Numbers


@dataclass(frozen=True, kw_only=True)
class DFT(SFT):
    """-sg(p) log p: the same as SFT weighed by importance with behavior probability 1, so both names are this file.

    Source: arXiv:2508.05629; as SFT-IS in arXiv:2508.11408.
    """

    def token_loss(self, logp: Float[Array, "R T"], batch: Batch, numbers: Numbers) -> tuple[Float[Array, ""], Metrics]:
        return expert_nll(logp, batch, "probability")
