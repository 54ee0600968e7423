"""The clipped policy-gradient surrogate, per token."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def clipped_surrogate(
    ratio: Float[Array, "R T"], advantage: Float[Array, "R T"], *, clip_low: float, clip_high: float,
    dual_clip: float | None = None,
) -> Float[Array, "R T"]:  # fmt: skip
    """Per-token PPO loss: -min(r A, clip(r, 1 - low, 1 + high) A).

    Args:
      ratio: r = exp(logp - behavior_logp); carries the gradient.
      advantage: reward above baseline, not differentiated.
      clip_low, clip_high: half-widths of the trust region on r, dimensionless, >= 0.
      dual_clip: c > 1 bounds the loss of a negative advantage at -c A (arXiv:1912.09729); beyond it no gradient.
    Returns: loss per token, not reduced.
    Source: arXiv:1707.06347 eq. 7; asymmetric bounds from arXiv:2503.14476.
    """
    clipped = jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    gain = jnp.minimum(ratio * advantage, clipped * advantage)
    if dual_clip is not None:
        gain = jnp.where(advantage < 0, jnp.maximum(gain, dual_clip * advantage), gain)
    return -gain
