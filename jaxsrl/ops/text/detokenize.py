"""Token ids to bytes."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt8


def join(
    token: Int[Array, "C"],
    length: Int[Array, ""],
    spelled: UInt8[Array, "S"],
    start: Int[Array, "V+1"],
    *,
    room: int,
) -> tuple[UInt8[Array, "N"], Int[Array, ""], Bool[Array, ""]]:
    """The bytes of the first `length` tokens, one token after the other.

    Args:
      spelled, start: token t is spelled by bytes start[t] to start[t + 1] of `spelled`.
      room: N. A longer text loses its end; `size` says so.
    Returns: bytes, zero behind the text; `size`, the bytes of the whole text, which is above `room` if they are too
      many; whether every token is one of the V. One that is not spells nothing.
    """
    spelled, start = jnp.asarray(spelled), jnp.asarray(start)
    counted = jnp.arange(token.shape[0]) < length
    known = (token >= 0) & (token < start.shape[0] - 1)
    token = jnp.where(counted & known, token, 0)
    first = start[token]
    count = jnp.where(counted & known, start[token + 1] - first, 0)
    end = jnp.cumsum(count, dtype=jnp.int32)
    # How far a token's bytes lie from where they are put changes at its first byte: a scatter of the changes and their
    # sum say it of every byte, with one look-up less than to find the byte's token (measured on a CPU).
    begin = jnp.where(counted, end - count, room)
    change = jnp.diff(first - (end - count), prepend=0)
    away = jnp.cumsum(jnp.zeros(room, jnp.int32).at[begin].add(change, mode="drop"), dtype=jnp.int32)
    position = jnp.arange(room, dtype=jnp.int32)
    address = away + position
    inside = position < end[-1]
    byte = jnp.where(inside, spelled[jnp.where(inside, address, 0)], 0)
    return byte.astype(jnp.uint8), end[-1], jnp.all(known | ~counted)
