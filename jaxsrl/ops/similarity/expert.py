"""What a kernel needs to know of each distinct expert sequence: which elements it holds, where, and how often."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int


class Expert(NamedTuple):
    """Expert sequences; element j of row q counts if j < length[q]."""

    length: Int[Array, "Q"]
    ascending: Int[Array, "Q B"]  # the elements that count in ascending order, then the others
    rank: Int[Array, "Q B"]  # of ascending[q, s] among the distinct elements, from 1; 0 if popular or behind the length
    group: Int[Array, "Q B"]  # rank of the element in column j
    popular: Bool[Array, "Q B"]  # the element in column j is too frequent to begin or carry a block


def study(b: Int[Array, "Q B"], length: Int[Array, "Q"], *, autojunk: bool) -> Expert:
    """Popular is difflib's: in a sequence of 200 or more, a count above length // 100 + 1."""

    def row(b, length):
        at = jnp.arange(b.shape[0], dtype=jnp.int32)
        behind, ascending, column = lax.sort(((at >= length).astype(jnp.int32), b, at), num_keys=2)
        first = (behind == 0) & ((at == 0) | (ascending != jnp.roll(ascending, 1)))
        rank = jnp.where(behind == 0, jnp.cumsum(first, dtype=jnp.int32), 0)
        count = jnp.zeros(b.shape[0] + 1, jnp.int32).at[rank].add(1)
        popular = (behind == 0) & (length >= 200) & (count[rank] > length // 100 + 1) & autojunk
        rank = jnp.where(popular, 0, rank)
        by_column = lambda x: jnp.zeros_like(x).at[column].set(x)
        return ascending, rank, by_column(rank), by_column(popular)

    return Expert(length, *jax.vmap(row)(b, length))


def position(
    ascending: Int[Array, "Q B"], length: Int[Array, "Q"], wanted: Int[Array, "P A"], index: Int[Array, "P"]
) -> Int[Array, "P A"]:
    """Where wanted[p, i] first stands in ascending[index[p]], of which `length` elements count; -1 if it does not."""

    def row(wanted, q):
        values = ascending[q]

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) // 2
            right = (low < high) & (values[jnp.minimum(middle, values.shape[0] - 1)] < wanted)
            return jnp.where(right, middle + 1, low), jnp.where(right, high, middle)

        low = jnp.zeros_like(wanted)
        low, _ = lax.fori_loop(0, values.shape[0].bit_length(), halve, (low, low + length[q]))
        at = jnp.minimum(low, values.shape[0] - 1)
        return jnp.where((low < length[q]) & (values[at] == wanted), at, -1)

    return jax.vmap(row)(wanted, index)
