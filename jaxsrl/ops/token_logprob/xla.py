"""Log-prob of a target token, and entropy, in chunks: logits of one chunk exist at a time, and the backward pass makes
them anew.

Scored tokens are moved to the front and the loop ends after them: what is not scored costs neither pass anything.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float, Int

from jaxsrl.ops.token_logprob.reference import What


@dataclass(frozen=True)
class Plan:
    """What is static of a call."""

    chunk: int
    vocab_axis: str | None
    width_axis: str | None
    entropy: bool  # whether it is computed; else its place is taken by zeros


def run(
    what: What, hidden: Float[Array, "M D"], head: Float[Array, "D V"], target: Int[Array, "M"],
    scored: Bool[Array, "M"] | None, temperature: Float[Array, "M"], chunk: int = 1024,
    vocab_axis: str | None = None, width_axis: str | None = None,
):  # fmt: skip
    """See the public functions. Products in the dtype of `hidden`; logits and sums in float32 at least."""
    count = hidden.shape[0]
    chunk = min(chunk, count)
    pad = -count % chunk
    if scored is None:
        scored, order = jnp.ones(count, bool), jnp.arange(count)
    else:
        order = jnp.argsort(~scored, stable=True)
        # `where` before any arithmetic: what is not scored may be anything, NaN included.
        hidden, target = jnp.where(scored[:, None], hidden, 0), jnp.where(scored, target, 0)
        temperature = jnp.where(scored, temperature, 1)
    front = lambda x, fill=0: jnp.pad(x[order], [(0, pad)] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
    # The head's gradient is the sum over chunks: this cast lets it add up in float32 when the head is narrower.
    head = head.astype(jnp.promote_types(head.dtype, jnp.float32))
    plan = Plan(chunk, vocab_axis, width_axis, what != "logp")
    # A token that only fills up a chunk is divided by 1: 0 / 0 would reach its chunk's gradients.
    some = _chunked(plan, front(hidden), head, front(target), front(temperature, 1), jnp.sum(scored))
    back = lambda x: jnp.where(scored, jnp.zeros(count, x.dtype).at[order].set(x[:count], unique_indices=True), 0)
    match what:
        case "logp":
            return back(some[0])
        case "entropy":
            return back(some[1])
        case _:
            return back(some[0]), back(some[1])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _chunked(plan, hidden, head, target, temperature, count):
    """Log-probs and entropies of the first `count` tokens; what comes behind them means nothing."""
    return _forward_pass(plan, hidden, _narrow(plan, head, hidden.dtype), target, temperature, count)[:2]


def _forward(plan, hidden, head, target, temperature, count):
    # No gradient is made by a frozen head; else the backward pass finds here which dtype it has.
    wanted = jnp.zeros((), head.value.dtype) if head.perturbed else None
    hidden, head, target, temperature, count = (x.value for x in (hidden, head, target, temperature, count))
    narrow = _narrow(plan, head, hidden.dtype)
    logp, entropy, log_total = _forward_pass(plan, hidden, narrow, target, temperature, count)
    kept = entropy if plan.entropy else None
    return (logp, entropy), (hidden, narrow, target, temperature, count, log_total, kept, wanted)


def _narrow(plan, head, dtype):
    """The head as products take it, all of its rows: half of float32's bytes travel."""
    narrow = head.astype(dtype)
    return narrow if plan.width_axis is None else jax.lax.all_gather(narrow, plan.width_axis, axis=0, tiled=True)


def _forward_pass(plan, hidden, narrow, target, temperature, count):
    """(log-prob, entropy, log-sum-exp over the whole vocabulary), [M] each."""
    columns = narrow.shape[1]
    target = target - _first(plan, columns)

    def one(number, carry):
        take, put = _window(plan.chunk, number)
        scaled = _logits(take(hidden), narrow) / take(temperature)[:, None]
        own = take(target)
        chosen = jnp.take_along_axis(scaled, jnp.clip(own, 0, columns - 1)[:, None], axis=-1)[:, 0]
        chosen = jnp.where((own >= 0) & (own < columns), chosen, 0)
        total = jax.nn.logsumexp(scaled, axis=-1)
        found = chosen, total
        if plan.entropy:
            logp = scaled - total[:, None]
            found += (-jnp.sum(jnp.exp(logp) * logp, axis=-1),)
        return tuple(map(put, carry, found))

    zero = jnp.zeros(hidden.shape[0], _wide(hidden))
    start = (zero,) * (3 if plan.entropy else 2)
    chosen, log_total, *entropy = jax.lax.fori_loop(0, -(-count // plan.chunk), one, start)
    if plan.vocab_axis is not None:  # once for all chunks: only [M] numbers travel
        add, part = partial(jax.lax.psum, axis_name=plan.vocab_axis), log_total
        largest = jax.lax.pmax(part, plan.vocab_axis)
        log_total = largest + jnp.log(add(jnp.exp(part - largest)))
        chosen = add(chosen)
        if plan.entropy:  # that of which part, and what is left within it; every term is >= 0, so nothing cancels
            share = part - log_total
            entropy = [add(jnp.exp(share) * (entropy[0] - share))]
    return chosen - log_total, entropy[0] if plan.entropy else zero, log_total


def _first(plan, columns):
    """Number of the first column of this device's part of the vocabulary."""
    return 0 if plan.vocab_axis is None else jax.lax.axis_index(plan.vocab_axis) * columns


def _backward(plan, saved, cotangents):
    hidden, narrow, target, temperature, count, log_total, entropy, wanted = saved
    if plan.vocab_axis is not None:
        target = target - _first(plan, narrow.shape[1])
    d_logp, d_entropy = (_received(plan, x, count) for x in cotangents)
    wide = _wide(hidden)

    def one(number, carry):
        take, put = _window(plan.chunk, number)
        some = take(hidden)
        scaled = _logits(some, narrow) / take(temperature)[:, None]
        logp = scaled - take(log_total)[:, None]
        soft, d_scaled = jnp.exp(logp), 0
        if d_logp is not None:
            hard = jnp.arange(narrow.shape[1])[None, :] == take(target)[:, None]
            d_scaled += (hard - soft) * take(d_logp)[:, None]
        if d_entropy is not None:
            d_scaled -= soft * (logp + take(entropy)[:, None]) * take(d_entropy)[:, None]
        d_logits = (d_scaled / take(temperature)[:, None]).astype(hidden.dtype)
        d_hidden = jnp.matmul(d_logits, narrow.T, preferred_element_type=wide).astype(hidden.dtype)
        if wanted is None:
            return put(carry[0], d_hidden), None
        d_head = jnp.matmul(some.T, d_logits, preferred_element_type=wide)
        return put(carry[0], d_hidden), carry[1] + d_head

    zero = jnp.zeros_like(hidden), None if wanted is None else jnp.zeros(narrow.shape, wide)
    if d_logp is None and d_entropy is None:
        d_hidden, d_head = zero
    else:
        d_hidden, d_head = jax.lax.fori_loop(0, -(-count // plan.chunk), one, zero)
    if wanted is None:
        return d_hidden, None, None, None, None
    if plan.width_axis is not None:
        d_head = jax.lax.psum_scatter(d_head, plan.width_axis, scatter_dimension=0, tiled=True)
    return d_hidden, d_head.astype(wanted.dtype), None, None, None


def _received(plan, cotangent, count):
    """What flows back into an output; None where nothing does."""
    if isinstance(cotangent, SymbolicZero):
        return None
    if plan.vocab_axis is not None:
        # Every device of the axis returned the same sum, so each holds a share of what flows back into it. The gradient
        # of `hidden` is that of this device's columns: whoever gave every device the same `hidden` adds it up.
        cotangent = jax.lax.psum(cotangent, plan.vocab_axis)
    return jnp.where(jnp.arange(cotangent.shape[0]) < count, cotangent, 0)


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
