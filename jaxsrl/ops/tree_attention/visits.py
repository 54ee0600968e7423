"""The pairs of query and key tiles that a kernel visits: those that hold a pair of tokens that is seen, and no others.

A key tile counts if its largest `leave` lies above the query tile's smallest `enter`, and it is not behind it. Visits
are in order of the query tiles and, of one, of the key tiles, so that its own comes last: every token sees itself.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from jaxsrl.ops.tree_attention.schedule import NEVER, one_row

KEY_BITS = 16  # of a visit; the rest of its 31 bits is the query tile
MOST_VISITS = 240_000  # a TPU's scalar memory holds 2^18 numbers, of which the compiler takes some


@dataclass(frozen=True)
class Blocks:
    """Tokens of a query tile and of a key tile, a multiple of it. A TPU wants multiples of 128."""

    queries: int
    keys: int

    def fit(self, length: int) -> "Blocks":
        """The same for rows of T tokens: a row is cut evenly, and ends with its last tile."""
        count = -(-length // self.keys)
        return Blocks(self.queries, -(-length // (count * self.queries)) * self.queries)

    def padded(self, length: int) -> int:
        """Tokens of a row of whole tiles."""
        return -(-length // self.keys) * self.keys

    def most_visits(self, rows: int, length: int) -> int:
        """Of R rows, each of whose tokens sees all before it."""
        tiles = self.padded(length) // self.queries
        return rows * sum(q * self.queries // self.keys + 1 for q in range(tiles))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Visits:
    """A batch's visits; the first `count` are taken. Tiles are numbered from row to row.

    No field is a scalar: devices that have rows of their own lay theirs one after another.
    """

    visit: Int[Array, "Y"]  # query tile * 2^KEY_BITS + key tile
    count: Int[Array, "1"]
    query: Int[Array, "M 2 A"]  # `enter` and `position` of query tiles; NEVER where a token sees nobody but itself
    key: Int[Array, "S 2 B"]  # `leave` and `position` of key tiles; -1 where nobody but itself sees a token


def visits(
    blocks: Blocks, position: Int[Array, "R T"], enter: Int[Array, "R T"], leave: Int[Array, "R T"],
    window: Int[Array, ""] | None,
) -> Visits:  # fmt: skip
    """What to visit. `blocks` must fit the rows.

    Raises: ValueError where the batch may need more visits than fit a TPU's scalar memory.
    """
    rows, length = position.shape
    most = blocks.most_visits(rows, length)
    if most > MOST_VISITS:
        raise ValueError(
            f"{rows} rows of {length} tokens may take {most:,} visits of tiles, and scalar memory holds "
            f"{MOST_VISITS:,}: make rows shorter or batches smaller, or use backend 'xla'"
        )
    enter, leave = one_row(enter, leave)
    by_query = [_cut(x, blocks.padded(length), blocks.queries, fill) for x, fill in ((enter, NEVER), (position, 0))]
    by_key = [_cut(x, blocks.padded(length), blocks.keys, fill) for x, fill in ((leave, -1), (position, 0))]
    seen = jnp.min(by_query[0], axis=2)[:, :, None] < jnp.max(by_key[0], axis=2)[:, None, :]
    if window is not None:
        far = jnp.min(by_query[1], axis=2)[:, :, None] - jnp.max(by_key[1], axis=2)[:, None, :]
        seen &= far < window
    tiles, keys = seen.shape[1:]
    own = (jnp.arange(tiles, dtype=jnp.int32) * blocks.queries // blocks.keys)[:, None]
    key = jnp.arange(keys, dtype=jnp.int32)[None]
    seen = (seen & (key < own)[None]) | (key == own)[None]
    row = jnp.arange(rows, dtype=jnp.int32)[:, None, None]
    query = row * tiles + jnp.arange(tiles, dtype=jnp.int32)[None, :, None]
    number = query * 2**KEY_BITS + row * keys + key[None]
    # A TPU sorts faster than it scatters.
    visit = jnp.sort(jnp.where(seen, number, jnp.iinfo(jnp.int32).max).reshape(-1))[:most]
    joined = lambda parts: jnp.stack(parts, axis=2).reshape(-1, 2, parts[0].shape[2])
    return Visits(
        visit=visit, count=jnp.sum(seen, dtype=jnp.int32)[None], query=joined(by_query), key=joined(by_key)
    )  # fmt: skip


def _cut(x: Shaped[Array, "R T"], padded: int, tile: int, fill: int) -> Shaped[Array, "R M B"]:
    x = jnp.pad(x, ((0, 0), (0, padded - x.shape[1])), constant_values=fill)
    return x.reshape(len(x), -1, tile)
