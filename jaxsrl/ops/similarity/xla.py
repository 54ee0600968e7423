"""difflib's matched length in XLA's operations alone, for any device: the search that suits the one it is lowered for.

A CPU takes one pair after another, each at its own pace (`per_pair.py`); what has thousands of lanes takes all
rectangles of one depth together (`per_depth.py`).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from jaxsrl.ops.similarity import per_depth, per_pair
from jaxsrl.ops.similarity.batching import joins_pairs


@partial(jax.jit, static_argnames="autojunk")
def matched_length(a, a_len, b, b_len, b_index, *, autojunk: bool) -> Int[Array, "P"]:
    """M of each pair, as `jaxsrl.ops.similarity.matched_length` defines it; vmap adds its axis to the pairs."""
    cpu = lambda *arrays: per_pair.search(*arrays, autojunk=autojunk).matched
    other = lambda *arrays: per_depth.with_passes(*arrays, autojunk=autojunk)[0]
    arrays = (jnp.asarray(x, jnp.int32) for x in (a, a_len, b, b_len, b_index))
    return joins_pairs(lambda *arrays: lax.platform_dependent(*arrays, cpu=cpu, default=other))(*arrays)
