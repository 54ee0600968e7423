"""Log-prob of a target token in chunks: logits of one chunk exist at a time, and the backward pass makes them anew.

Scored tokens are moved to the front and the loop ends after them: what is not scored costs neither pass anything.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def token_logprob(
    hidden: Float[Array, "M D"], head: Float[Array, "D V"], target: Int[Array, "M"], scored: Bool[Array, "M"] | None,
    chunk: int = 1024, vocab_axis: str | None = None, width_axis: str | None = None,
) -> Float[Array, "M"]:  # fmt: skip
    """See the public function. Products in the dtype of `hidden`; logits and sums in float32 at least."""
    count = hidden.shape[0]
    chunk = min(chunk, count)
    pad = -count % chunk
    if scored is None:
        scored, order = jnp.ones(count, bool), jnp.arange(count)
    else:
        order = jnp.argsort(~scored, stable=True)
        # `where` before any arithmetic: what is not scored may be anything, NaN included.
        hidden, target = jnp.where(scored[:, None], hidden, 0), jnp.where(scored, target, 0)
    front = lambda x: jnp.pad(x[order], [(0, pad)] + [(0, 0)] * (x.ndim - 1))
    # The head's gradient is the sum over chunks: this cast lets it add up in float32 when the head is narrower.
    head = head.astype(jnp.promote_types(head.dtype, jnp.float32))
    logp = _chunked(chunk, vocab_axis, width_axis, front(hidden), head, front(target), jnp.sum(scored))
    logp = jnp.zeros(count, logp.dtype).at[order].set(logp[:count], unique_indices=True)
    return jnp.where(scored, logp, 0)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _chunked(chunk, axis, width_axis, hidden, head, target, count):
    """Log-probs of the first `count` tokens; what comes behind them means nothing."""
    return _log_probs(chunk, axis, hidden, _narrow(head, hidden.dtype, width_axis), target, count)[0]


def _forward(chunk, axis, width_axis, hidden, head, target, count):
    # No gradient is made by a frozen head; else the backward pass finds here which dtype it has.
    wanted = jnp.zeros((), head.value.dtype) if head.perturbed else None
    hidden, head, target, count = (x.value for x in (hidden, head, target, count))
    narrow = _narrow(head, hidden.dtype, width_axis)
    logp, log_total = _log_probs(chunk, axis, hidden, narrow, target, count)
    return logp, (hidden, narrow, target, count, log_total, wanted)


def _narrow(head, dtype, width_axis):
    """The head as products take it, all of its rows: half of float32's bytes travel."""
    narrow = head.astype(dtype)
    return narrow if width_axis is None else jax.lax.all_gather(narrow, width_axis, axis=0, tiled=True)


def _log_probs(chunk, axis, hidden, narrow, target, count):
    """(log-prob, log-sum-exp over the whole vocabulary), [M] each."""
    columns = narrow.shape[1]
    target = target - _first(axis, columns)

    def one(number, carry):
        take, put = _window(chunk, number)
        logits = _logits(take(hidden), narrow)
        own = take(target)
        chosen = jnp.take_along_axis(logits, jnp.clip(own, 0, columns - 1)[:, None], axis=-1)[:, 0]
        chosen = jnp.where((own >= 0) & (own < columns), chosen, 0)
        return put(carry[0], chosen), put(carry[1], jax.nn.logsumexp(logits, axis=-1))

    zero = jnp.zeros(hidden.shape[0], _wide(hidden))
    chosen, log_total = jax.lax.fori_loop(0, -(-count // chunk), one, (zero, zero))
    if axis is not None:  # once for all chunks: only [M] numbers travel
        largest = jax.lax.pmax(log_total, axis)
        log_total = largest + jnp.log(jax.lax.psum(jnp.exp(log_total - largest), axis))
        chosen = jax.lax.psum(chosen, axis)
    return chosen - log_total, log_total


def _first(axis, columns):
    """Number of the first column of this device's part of the vocabulary."""
    return 0 if axis is None else jax.lax.axis_index(axis) * columns


def _backward(chunk, axis, width_axis, saved, cotangent):
    hidden, narrow, target, count, log_total, wanted = saved
    if axis is not None:
        # Every device of the axis returned the same sum, so each holds a share of what flows back into it. The gradient
        # of `hidden` is that of this device's columns: whoever gave every device the same `hidden` adds it up.
        cotangent, target = jax.lax.psum(cotangent, axis), target - _first(axis, narrow.shape[1])
    wide = _wide(hidden)
    cotangent = jnp.where(jnp.arange(hidden.shape[0]) < count, cotangent, 0)

    def one(number, carry):
        take, put = _window(chunk, number)
        some, d_logp = take(hidden), take(cotangent)[:, None]
        soft = jnp.exp(_logits(some, narrow) - take(log_total)[:, None])
        hard = jnp.arange(narrow.shape[1])[None, :] == take(target)[:, None]
        d_logits = ((hard - soft) * d_logp).astype(hidden.dtype)
        d_hidden = jnp.matmul(d_logits, narrow.T, preferred_element_type=wide).astype(hidden.dtype)
        if wanted is None:
            return put(carry[0], d_hidden), None
        d_head = jnp.matmul(some.T, d_logits, preferred_element_type=wide)
        return put(carry[0], d_hidden), carry[1] + d_head

    zero = jnp.zeros_like(hidden), None if wanted is None else jnp.zeros(narrow.shape, wide)
    d_hidden, d_head = jax.lax.fori_loop(0, -(-count // chunk), one, zero)
    if wanted is None:
        return d_hidden, None, None, None
    if width_axis is not None:
        d_head = jax.lax.psum_scatter(d_head, width_axis, scatter_dimension=0, tiled=True)
    return d_hidden, d_head.astype(wanted.dtype), None, None


_chunked.defvjp(_forward, _backward, symbolic_zeros=True)


def _wide(x):
    return jnp.promote_types(x.dtype, jnp.float32)


def _logits(hidden, head):
    return jnp.matmul(hidden, head, preferred_element_type=_wide(hidden))


def _window(chunk, number):
    """Reader and writer of one chunk."""
    start = number * chunk
    take = lambda x: jax.lax.dynamic_slice_in_dim(x, start, chunk)
    put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, start, 0)
    return take, put
