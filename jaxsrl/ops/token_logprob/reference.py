"""Log-prob of a target token and entropy, plainly: all logits, a softmax, a pick, a sum."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

What = Literal["logp", "entropy", "both"]


def run(
    what: What, hidden: Float[Array, "M D"], head: Float[Array, "D V"], target: Int[Array, "M"],
    scored: Bool[Array, "M"] | None, temperature: Float[Array, "M"],
    vocab_axis: str | None = None, width_axis: str | None = None,
):  # fmt: skip
    """See the public functions."""
    if vocab_axis is not None:
        head = jax.lax.all_gather(head, vocab_axis, axis=1, tiled=True)
    if width_axis is not None:
        head = jax.lax.all_gather(head, width_axis, axis=0, tiled=True)
    wide = jnp.promote_types(hidden.dtype, jnp.float32)
    if scored is not None:
        hidden, target = jnp.where(scored[:, None], hidden, 0), jnp.where(scored, target, 0)
        temperature = jnp.where(scored, temperature, 1)
    logits = hidden.astype(wide) @ head.astype(wide)
    logp = jax.nn.log_softmax(logits / temperature[:, None], axis=-1)
    chosen = jnp.take_along_axis(logp, target[:, None], axis=-1)[:, 0]
    entropy = -jnp.sum(jnp.exp(logp) * logp, axis=-1)
    if scored is not None:
        chosen, entropy = jnp.where(scored, chosen, 0), jnp.where(scored, entropy, 0)
    return {"logp": chosen, "entropy": entropy, "both": (chosen, entropy)}[what]
