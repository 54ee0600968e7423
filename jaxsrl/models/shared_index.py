"""What a loop over tokens needs under `vmap`: one index and one predicate for all members of the batch.

JAX turns a slice at an index into a gather or a scatter under `vmap`, even where all members share the index. A loop
whose predicate differs between members becomes one that selects its whole carry, caches included. Neither happens here.
These functions are not differentiable in reverse mode.
"""

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Int, Shaped

Start = tuple[Int[Array, ""], ...]  # an index for each axis, all of one integer type


@custom_vmap
def write_at(x: Shaped[Array, "..."], new: Shaped[Array, "..."], start: Start) -> Shaped[Array, "..."]:
    """x with the block `new` at `start`; in place where XLA owns the buffer."""
    return jax.lax.dynamic_update_slice(x, new, start)


@write_at.def_vmap
def _write_members(members, batched, x, new, start):
    if any(batched[2]):
        return jax.vmap(jax.lax.dynamic_update_slice, in_axes=_axes(batched))(x, new, start), True
    x, new = (y if b else jnp.broadcast_to(y, (members, *y.shape)) for y, b in zip((x, new), batched, strict=False))
    return write_at(x, new, (start[0] * 0, *start)), True


def read_at(x: Shaped[Array, "..."], start: Start, size: tuple[int, ...]) -> Shaped[Array, "..."]:
    """The block of `size` that begins at `start`."""

    @custom_vmap
    def read(x, start):
        return jax.lax.dynamic_slice(x, start, size)

    @read.def_vmap
    def read_members(members, batched, x, start):
        if any(batched[1]):
            own = lambda x, start: jax.lax.dynamic_slice(x, start, size)
            return jax.vmap(own, in_axes=_axes(batched))(x, start), True
        return read_at(x, (start[0] * 0, *start), (members, *size)), True

    return read(x, start)


@custom_vmap
def any_member(flag: Bool[Array, "..."]) -> Bool[Array, ""]:
    """Whether any entry is set, of any member: not batched whatever `vmap` it is called under."""
    return jnp.any(flag)


@any_member.def_vmap
def _any_of_all(members, batched, flag):
    return any_member(flag), False


@custom_vmap
def largest_member(number: Int[Array, "..."]) -> Int[Array, ""]:
    """The largest entry, of any member: not batched whatever `vmap` it is called under."""
    return jnp.max(number)


@largest_member.def_vmap
def _largest_of_all(members, batched, number):
    return largest_member(number), False


def _axes(batched):
    return jax.tree.map(lambda b: 0 if b else None, tuple(batched))
