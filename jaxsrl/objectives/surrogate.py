"""The clipped policy-gradient surrogate, per token."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# exp(20) = 4.9e8: beyond it a ratio means nothing. Float32 overflows at exp(89), and 0 * inf makes a gradient NaN.
LARGEST_LOG_RATIO = 20.0


def log_ratio(
    logp: Float[Array, "R T"], behavior_logp: Float[Array, "R T"], weighed: Bool[Array, "R T"]
) -> Float[Array, "R T"]:
    """logp - behavior_logp, nats, within +-20; 0 where a token has no weight, whatever stands there.

    Beyond the bound the ratio is constant and has no gradient: with a positive advantage the clip has none there
    either; with a negative one a step of e^20 is left out instead of making the update not finite.
    """
    difference = jnp.where(weighed, logp - jnp.where(weighed, behavior_logp, 0.0), 0.0)
    return jnp.clip(difference, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)


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
