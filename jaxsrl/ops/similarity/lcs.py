"""Longest common subsequence, 32 cells of a dynamic program to a word.

V holds a bit for every column of b, at first all set. For a row of a with match bits E: V = (V + (V & E)) | (V & ~E).
The columns whose bit is gone at the end are the length. The addition runs over words: a word sends a carry if its sum
wrapped, and passes one on if it is all ones; as bits of one integer, all carries are one addition more.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt

ALL = jnp.uint32(0xFFFFFFFF)
GROUP = 31  # words whose carries fit into one integer, with one bit for the carry out of them
HELD = 1 << 16  # words of V at once on a CPU: more only leave its cache


@jax.jit
def lcs_length(a, a_len, b, b_len, b_index) -> Int[Array, "P"]:
    a, a_len, b, b_len, b_index = (jnp.asarray(x, jnp.int32) for x in (a, a_len, b, b_len, b_index))
    if 0 in a.shape or 0 in b.shape:
        return jnp.zeros(a.shape[0], jnp.int32)
    columns = -(-b.shape[1] // 32) * 32
    b = jnp.pad(b, ((0, 0), (0, columns - b.shape[1])))
    chunk = max(1, HELD // (columns // 32))
    chunk = min(chunk, a.shape[0])
    fill = -a.shape[0] % chunk
    parts = [jnp.pad(x, [(0, fill)] + [(0, 0)] * (x.ndim - 1)) for x in (a, a_len, b[b_index], b_len[b_index])]
    parts = [x.reshape(-1, chunk, *x.shape[1:]) for x in parts]
    return jax.lax.map(lambda part: _lengths(*part), tuple(parts)).reshape(-1)[: a.shape[0]]


def _lengths(a, a_len, b, b_len) -> Int[Array, "P"]:
    inside = jnp.arange(b.shape[1])[None, :] < b_len[:, None]

    def row(v, part):
        element, number = part
        matches = (b == element[:, None]) & inside & (number < a_len)[:, None]
        e = _words(matches)
        found = v & e
        return _add(v, found) | (v & ~e), None

    start = jnp.full((a.shape[0], b.shape[1] // 32), ALL)
    v, _ = jax.lax.scan(row, start, (a.T, jnp.arange(a.shape[1])))
    return jnp.sum(jax.lax.population_count(~v & _words(inside)), axis=1).astype(jnp.int32)


def _words(bits: Bool[Array, "P B"]) -> UInt[Array, "P W"]:
    """Bit j of word w is column 32 w + j."""
    parts = bits.reshape(bits.shape[0], -1, 32).astype(jnp.uint32)
    return jnp.sum(parts << jnp.arange(32, dtype=jnp.uint32)[None, None], axis=2, dtype=jnp.uint32)


def _add(x: UInt[Array, "P W"], y: UInt[Array, "P W"]) -> UInt[Array, "P W"]:
    """x + y as one long number, its lowest word first."""
    total = x + y
    sends, passes = total < x, total == ALL
    out, carry = [], jnp.zeros(x.shape[0], jnp.uint32)
    for first in range(0, x.shape[1], GROUP):
        here = slice(first, min(first + GROUP, x.shape[1]))
        place = jnp.arange(here.stop - first, dtype=jnp.uint32)[None, :]
        bits = lambda z, here=here, place=place: jnp.sum(z[:, here].astype(jnp.uint32) << place, 1, dtype=jnp.uint32)
        send, forward = bits(sends), bits(passes)
        carries = (((send << 1) | carry) + forward) ^ forward  # bit w: a carry comes into word w of the group
        out.append(total[:, here] + ((carries[:, None] >> place) & 1))
        carry = (carries >> (here.stop - first)) & 1
    return jnp.concatenate(out, axis=1)
