"""What is looked for in a text: marks, white space, the characters between two places."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt8

# First and last of every run of code points that `str.strip` and `str.isspace` take for white space.
WHITESPACE = (
    (0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip


def whitespace(code: Int[Array, "N"]) -> Bool[Array, "N"]:
    """`chr(code).isspace()`, that is, what `str.strip()` strips."""
    found = jnp.zeros(code.shape, bool)
    for low, high in WHITESPACE:
        found |= (code >= low) & (code <= high)
    return found


def occurrences(byte: UInt8[Array, "N"], mark: bytes) -> Bool[Array, "N"]:
    """Where `mark` begins. It must hold no zero byte, so that it does not reach past the end of the text."""
    if not mark or 0 in mark:
        raise ValueError(f"a mark must have bytes, none of them zero, got {mark!r}")
    padded = jnp.pad(byte, (0, len(mark)))
    found = jnp.ones(byte.shape, bool)
    for k, wanted in enumerate(mark):
        found &= padded[k : k + byte.shape[0]] == wanted
    return found


def first(found: Bool[Array, "N"]) -> Int[Array, ""]:
    """The first place where `found` is true; N if there is none."""
    return jnp.where(found.any(), jnp.argmax(found), found.shape[0]).astype(jnp.int32)


def strip(solid: Bool[Array, "N"], begin: Int[Array, ""], end: Int[Array, ""]) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """`begin` and `end` moved inwards to the first and one behind the last place that is solid; (0, 0) if none is."""
    place = jnp.arange(solid.shape[0], dtype=jnp.int32)
    solid = solid & (place >= begin) & (place < end)
    behind = jnp.max(jnp.where(solid, place + 1, 0), initial=0)
    return jnp.where(behind > 0, first(solid), 0), behind


def compress(code: Int[Array, "N"], keep: Bool[Array, "N"], *, room: int) -> tuple[Int[Array, "A"], Int[Array, ""]]:
    """The code points that are kept, side by side, zero behind them; and how many, above `room` if some are lost."""
    some, count = _compress_rows(room)(code[None], keep[None])
    return some[0], count[0]


def _compress_rows(room: int):
    """The same of rows; under vmap the new axis joins them.

    One flat scatter, of one index an element: on a CPU a scatter within rows takes twice the time of all else here.
    """

    @jax.custom_batching.custom_vmap
    def call(code, keep):
        rows = code.shape[0]
        count = jnp.cumsum(keep, axis=1, dtype=jnp.int32)
        begin = room * jnp.arange(rows, dtype=jnp.int32)[:, None]
        place = jnp.where(keep & (count <= room), begin + count - 1, rows * room)
        some = jnp.zeros(rows * room, code.dtype).at[place.reshape(-1)].set(code.reshape(-1), mode="drop")
        return some.reshape(rows, room), count[:, -1]

    @call.def_vmap
    def rule(size, mapped, code, keep):
        every = [x if m else jnp.broadcast_to(x, (size, *x.shape)) for x, m in zip((code, keep), mapped, strict=True)]
        rows, width = every[0].shape[1:]
        some, count = call(*(x.reshape(size * rows, width) for x in every))
        return (some.reshape(size, rows, room), count.reshape(size, rows)), (True, True)

    return call
