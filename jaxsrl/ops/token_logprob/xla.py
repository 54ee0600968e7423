"""Log-prob of a target token in chunks: logits of one chunk live at a time, and the backward pass makes them anew.

Scored tokens are moved to the front, so that chunks without any are skipped at run time.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

CHUNK = 1024  # tokens; bounds the logits at [CHUNK V]


def token_logprob(
    hidden: Float[Array, "M D"], head: Float[Array, "D V"], target: Int[Array, "M"], scored: Bool[Array, "M"] | None,
    chunk: int = CHUNK,
) -> Float[Array, "M"]:  # fmt: skip
    """See the public function."""
    count = hidden.shape[0]
    if scored is None:
        scored = jnp.ones(count, bool)
    order = jnp.argsort(~scored, stable=True)
    chunk = min(chunk, count)
    pad = -count % chunk
    cut = lambda x: jnp.pad(x[order], [(0, pad)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, chunk, *x.shape[1:])
    # `where` before any arithmetic: what is not scored may be anything, NaN included.
    chunks = (cut(jnp.where(scored[:, None], hidden, 0)), cut(target), cut(scored))
    wide = jnp.promote_types(hidden.dtype, jnp.float32)

    @jax.checkpoint
    def scores(hidden, head, target):
        logits = jnp.matmul(hidden, head.astype(hidden.dtype), preferred_element_type=wide)
        chosen = jnp.take_along_axis(logits, target[:, None], axis=-1)[:, 0]
        return chosen - jax.nn.logsumexp(logits, axis=-1)

    def one(carry, part):
        hidden, target, scored = part
        logp = jax.lax.cond(
            scored[0], scores, lambda hidden, head, target: jnp.zeros(chunk, wide), hidden, head, target
        )  # scored tokens come first, so the first tells of all
        return carry, jnp.where(scored, logp, 0)

    _, logp = jax.lax.scan(one, None, chunks)
    return jnp.zeros(count, wide).at[order].set(logp.reshape(-1)[:count])
