"""What the backends of tree attention share: a forward and a backward pass become a function to differentiate."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.custom_batching import custom_vmap

from jaxsrl.ops.tree_attention.schedule import KEPT


class Passes(NamedTuple):
    """Both get (window, plan, arrays); an array is [R T ...], and the plan what `make_plan` made of the rows, or None.

    Args:
      forward: (scaled q, k, v, position, enter, leave) -> (out [R T N H], log-sum-exp of the scores [R T N]).
      backward: the same with out, log-sum-exp and out's cotangent behind them -> gradients of q, k and v.
    """

    forward: Callable
    backward: Callable


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(passes: Passes, q, k, v, tree, window, plan=None):
    """Attention of scaled queries; tree = (position, enter, leave)."""
    return _forward(passes, q, k, v, tree, window, plan)[0]


def _forward(passes: Passes, q, k, v, tree, window, plan):
    out, log_total = _members_as_rows(passes.forward)(window, plan, (q, k, v, *tree))
    out, log_total = checkpoint_name(out, KEPT), checkpoint_name(log_total, KEPT)
    return out, (q, k, v, tree, window, plan, out, log_total)


def _backward(passes: Passes, saved, cotangent):
    q, k, v, tree, window, plan, out, log_total = saved
    run = _members_as_rows(passes.backward)
    return *run(window, plan, (q, k, v, *tree, out, log_total, cotangent)), None, None, None


attend.defvjp(_forward, _backward)


def _members_as_rows(run: Callable):
    """`run(window, plan, arrays [R T …]) -> arrays [R T …]`; under `vmap` the members' rows are rows of one call.

    Their plans are not one plan: it is made anew. Left to itself, `vmap` would make loops that select their whole carry
    at every step, as members have other lengths.
    """

    @custom_vmap
    def one(window, plan, arrays):
        return run(window, plan, arrays)

    @one.def_vmap
    def many(members, batched, window, plan, arrays):
        if any(jax.tree.leaves(batched[0])):
            raise ValueError("the members of a vmap must share the attention window")
        whole = [x if b else jnp.broadcast_to(x, (members, *x.shape)) for x, b in zip(arrays, batched[2], strict=True)]
        out = _members_as_rows(run)(window, None, tuple(x.reshape(-1, *x.shape[2:]) for x in whole))
        out = jax.tree.map(lambda x: x.reshape(members, -1, *x.shape[1:]), out)
        return out, jax.tree.map(lambda _: True, out)

    return one
