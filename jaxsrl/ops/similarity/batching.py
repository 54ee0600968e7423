"""vmap of a function of pairs, as one call with more pairs."""

import jax
import jax.numpy as jnp


def joins_pairs(matched):
    """`matched(a, a_len, b, b_len, b_index) -> [P]`, but under vmap the new axis joins the pairs, and the experts'.

    A kernel so sees one large batch; experts that are not mapped over stay shared.
    """

    @jax.custom_batching.custom_vmap
    def call(a, a_len, b, b_len, b_index):
        return matched(a, a_len, b, b_len, b_index)

    @call.def_vmap
    def rule(size, mapped, *arrays):
        join = lambda x: x.reshape(-1, *x.shape[2:])
        every = [x if m else jnp.broadcast_to(x[None], (size, *x.shape)) for x, m in zip(arrays, mapped, strict=True)]
        a, a_len, b, b_len, b_index = every
        if mapped[2] or mapped[3]:
            experts = b.shape[1]
            b_index = b_index + experts * jnp.arange(size, dtype=jnp.int32)[:, None]
            b, b_len = join(b), join(b_len)
        else:
            b, b_len = arrays[2], arrays[3]
        return call(join(a), join(a_len), b, b_len, join(b_index)).reshape(size, -1), True

    return call
