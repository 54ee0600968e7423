"""What a kernel needs to know of each distinct expert sequence: where its elements stand, and which are popular."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int


class Elements(NamedTuple):
    """The elements of one expert row in ascending order; what stands behind its length comes last."""

    value: Int[Array, "B"]
    column: Int[Array, "B"]  # where the element stands in the row
    group: Int[Array, "B"]  # 1, 2, ... for the distinct values; 0 behind the length
    popular: Bool[Array, "B"]  # too frequent to begin or carry a block


def elements(b: Int[Array, "Q B"], b_len: Int[Array, "Q"], *, autojunk: bool) -> Elements:
    """Every field [Q, B]. Popular is difflib's: b_len >= 200 and a count above b_len // 100 + 1."""

    def row(b, length):
        at = jnp.arange(b.shape[0], dtype=jnp.int32)
        behind, value, column = lax.sort(((at >= length).astype(jnp.int32), b, at), num_keys=2)
        first = (behind == 0) & ((at == 0) | (value != jnp.roll(value, 1)))
        group = jnp.where(behind == 0, jnp.cumsum(first, dtype=jnp.int32), 0)
        count = jnp.zeros(b.shape[0] + 1, jnp.int32).at[group].add(1)[group]
        popular = (behind == 0) & (length >= 200) & (count > length // 100 + 1) & autojunk
        return Elements(value, column, group, popular)

    return jax.vmap(row)(b, b_len)


def find(
    a: Int[Array, "P A"], b_index: Int[Array, "P"], b_len: Int[Array, "Q"], expert: Elements
) -> Int[Array, "P A"]:
    """Position of each a[i] among its expert's sorted elements, the first of equals; -1 where the expert lacks it."""

    def row(a, q):
        values, length = expert.value[q], b_len[q]

        def halve(_, low_high):
            low, high = low_high
            middle = (low + high) // 2
            right = (low < high) & (values[middle] < a)
            return jnp.where(right, middle + 1, low), jnp.where(right, high, jnp.maximum(middle, low))

        low = jnp.zeros_like(a)
        low, _ = lax.fori_loop(0, values.shape[0].bit_length(), halve, (low, low + length))
        inside = jnp.minimum(low, values.shape[0] - 1)
        return jnp.where((low < length) & (values[inside] == a), inside, -1)

    return jax.vmap(row)(a, b_index)
