"""The expert's own tokens as a loss, each weighed by a function of its probability under the policy."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsrl.objectives.collected import check_batch
from jaxsrl.objectives.weights import spread, token_mean
from jaxsrl.types import Batch, Collected, Metrics

TokenWeight = Literal["one", "probability", "phi"]
BINS = 10

# p -> factor on -log p; always detached. Sources: `probability` arXiv:2508.05629 (DFT) and, as importance sampling with
# behavior probability 1, arXiv:2508.11408; `phi` arXiv:2508.11408, largest at p = 0.5 with 0.25.
FACTORS: MappingProxyType[str, Callable] = MappingProxyType(
    {"one": jnp.ones_like, "probability": lambda p: p, "phi": lambda p: p * (1.0 - p)}
)


def expert_nll(logp: Float[Array, "R T"], batch: Batch, weight: TokenWeight) -> tuple[Float[Array, ""], Metrics]:
    """sum nll_weight * sg(factor(p)) * -log p over the demonstrations' tokens.

    Metrics: the NLL without the factor, and how many tokens have a probability in each tenth (`expert/p_30`: 0.3 to
    0.4), from which the phases of training on foreign text can be read.
    """
    check_batch(logp, batch)
    weighed = (batch.nll_weight != 0) & (batch.rollout < 0)
    safe = jnp.where(weighed, logp, 0.0)
    p = jnp.exp(jax.lax.stop_gradient(safe))
    per_token = -batch.nll_weight * safe
    loss = jnp.sum(jnp.where(weighed, FACTORS[weight](p) * per_token, 0.0))
    tenth = jnp.clip(jnp.floor(p * BINS), 0, BINS - 1)
    counts = {f"expert/p_{10 * i:02d}": jnp.sum(weighed & (tenth == i)) for i in range(BINS)}
    return loss, {
        "sft/nll": jnp.sum(jnp.where(weighed, per_token, 0.0)),
        "sft/target_tokens": jnp.sum(weighed),
    } | counts


def expert_mean(collected: Collected) -> Float[Array, "M E"]:
    """Weights of the demonstrations' target tokens that sum to 1, each token's alike."""
    return spread(collected.target, token_mean(jnp.sum(collected.target, axis=1)))
