"""Log-prob of a target token, plainly: all logits, a softmax, a pick."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def token_logprob(
    hidden: Float[Array, "M D"], head: Float[Array, "D V"], target: Int[Array, "M"], scored: Bool[Array, "M"] | None,
    vocab_axis: str | None = None, width_axis: str | None = None,
) -> Float[Array, "M"]:  # fmt: skip
    """See the public function."""
    if vocab_axis is not None:
        head = jax.lax.all_gather(head, vocab_axis, axis=1, tiled=True)
    if width_axis is not None:
        head = jax.lax.all_gather(head, width_axis, axis=0, tiled=True)
    wide = jnp.promote_types(hidden.dtype, jnp.float32)
    if scored is not None:
        hidden, target = jnp.where(scored[:, None], hidden, 0), jnp.where(scored, target, 0)
    logp = jax.nn.log_softmax(hidden.astype(wide) @ head.astype(wide), axis=-1)
    chosen = jnp.take_along_axis(logp, target[:, None], axis=-1)[:, 0]
    return chosen if scored is None else jnp.where(scored, chosen, 0)
