"""Bytes to code points, as Python's decoder with errors="replace"."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt8

REPLACEMENT = 0xFFFD


def decode(byte: UInt8[Array, "N"], size: Int[Array, ""]) -> tuple[Int[Array, "N"], Bool[Array, "N"]]:
    """Code points, each at its first byte: `begins` says where one begins; elsewhere `code` has no meaning.

    Bytes that are no UTF-8 become U+FFFD, one for every maximal subpart: the longest run that begins some character,
    or else a single byte. That holds for a text that was cut inside a character, too.

    Where a run ends depends on its first byte and the three behind it alone, and no first byte is ever inside a run:
    so all positions are decided at once.
    Source: the Unicode Standard, section 3.9, table 3-7 and "U+FFFD substitution of maximal subparts".
    """
    inside = jnp.arange(byte.shape[0]) < size
    b = jnp.where(inside, byte.astype(jnp.int32), 0)
    b1, b2, b3 = (_later(b, k) for k in (1, 2, 3))
    two, three, four = (b >= 0xC2) & (b < 0xE0), (b >= 0xE0) & (b < 0xF0), (b >= 0xF0) & (b < 0xF5)
    # The second byte's bounds keep out long forms of shorter characters, surrogates, and what is above U+10FFFF.
    lowest = jnp.where(b == 0xE0, 0xA0, jnp.where(b == 0xF0, 0x90, 0x80))
    highest = jnp.where(b == 0xED, 0x9F, jnp.where(b == 0xF4, 0x8F, 0xBF))
    has1 = (two | three | four) & (b1 >= lowest) & (b1 <= highest)
    has2 = has1 & (three | four) & _continues(b2)
    has3 = has2 & four & _continues(b3)
    code2 = (b & 0x1F) << 6 | b1 & 0x3F
    code3 = (b & 0x0F) << 12 | (b1 & 0x3F) << 6 | b2 & 0x3F
    code4 = (b & 0x07) << 18 | (b1 & 0x3F) << 12 | (b2 & 0x3F) << 6 | b3 & 0x3F
    code = jnp.where(b < 0x80, b, REPLACEMENT)
    for whole, value in ((two & has1, code2), (three & has2, code3), (four & has3, code4)):
        code = jnp.where(whole, value, code)
    taken = _earlier(has1, 1) | _earlier(has2, 2) | _earlier(has3, 3)
    return code, inside & ~taken


def _continues(byte: Int[Array, "N"]) -> Bool[Array, "N"]:
    return (byte & 0xC0) == 0x80


def _later(x: Array, by: int) -> Array:
    """x[p + by] at p, zero past the end."""
    return jnp.pad(x, (0, by))[by:]


def _earlier(x: Array, by: int) -> Array:
    """x[p - by] at p, zero before the start."""
    return jnp.pad(x, (by, 0))[: x.shape[0]]
