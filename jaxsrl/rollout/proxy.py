"""Proxy-tuning: a small tuned model steers a large untuned one, token by token."""

from collections.abc import Sequence

import jax

from jaxsrl.models.config import ModelConfig
from jaxsrl.rollout.sampler import Sample, make_mixed_sampler
from jaxsrl.rollout.sampling import Sampling


def make_proxy_sampler(
    large: ModelConfig, small: ModelConfig, sampling: Sampling, ends: Sequence[int], *, alpha: float = 1.0,
    mesh: jax.sharding.Mesh | None = None,
) -> Sample:  # fmt: skip
    """Draws from z_M + alpha (z_M+ - z_M-): large untuned, small tuned, small untuned; then temperature and truncation.

    alpha 0 is M. With M- equal to M it is M+. Three forward passes a token.

    Returns: sample((M, M+, M-), prompts, key, temperature) -> Completions, which is used like any other sampler.
    Raises: ValueError if the vocabularies differ.
    Source: arXiv:2401.08565, alpha 1.
    """

    def mix(logits):
        base, tuned, untuned = logits
        return base + alpha * (tuned - untuned)

    return make_mixed_sampler((large, small, small), mix, sampling, ends, mesh)
