"""What is looked for in a text: marks, white space, the characters between two places."""

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
    count = jnp.cumsum(keep, dtype=jnp.int32)
    place = jnp.where(keep, count - 1, room)
    return jnp.zeros(room, code.dtype).at[place].set(code, mode="drop"), count[-1]
