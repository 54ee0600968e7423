"""Prompts are prefilled in chunks of columns: what a chunk sees of the tokens before it, read tile by tile.

A tile is a run of keys. A chunk reads tiles from its own end backwards, up to the first token that any of it sees. So
a prefill takes room for a chunk's activations and a tile's scores, however long the prompts are.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsrl.models.cache import PromptCache, over_prompt
from jaxsrl.models.shared_index import largest_member, read_at
from jaxsrl.models.softmax_parts import merge

CHUNK_TOKENS = 2048  # of all rows of a device: products of so many are not bound by reading the weights
LEAST, MOST = 128, 512  # columns of a chunk: with more, too many of its own pairs are unseen; fewer are small steps
TILE = 256  # keys that are read at a time
NONE = 2**30  # above every `enter` and `position`


def chunk_size(rows: int, columns: int) -> int:
    """Columns of a chunk, for R rows on a device: rows are cut evenly, and short ones not at all."""
    most = min(max(CHUNK_TOKENS // rows, LEAST), MOST)
    count = -(-columns // most)
    return min(-(-columns // (16 * count)) * 16, columns)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the tokens of prompt rows stand in their trees, see `Batch`."""

    position: Int[Array, "R T"]
    enter: Int[Array, "R T"]
    leave: Int[Array, "R T"]


def starts(columns: int, chunk: int) -> Int[Array, "Y"]:
    """First columns of the chunks. The last one ends with the row: what it shares with the one before is made twice."""
    return jnp.minimum(jnp.arange(-(-columns // chunk), dtype=jnp.int32) * chunk, columns - chunk)


def used_columns(places: Places) -> Int[Array, ""]:
    """Columns up to the last token of the longest row; one number for all members of a population."""
    column = jnp.arange(1, places.enter.shape[1] + 1, dtype=jnp.int32)[None]
    return largest_member(jnp.where(places.leave > places.enter, column, 0))


def tiles_read(places: Places, chunk: int, window: Int[Array, ""] | None) -> Int[Array, "R Y"]:
    """How many tiles each chunk of each row reads. Rows must be in depth-first order, as attention wants them."""
    start = starts(places.enter.shape[1], chunk)
    inside = start[:, None] + jnp.arange(chunk, dtype=jnp.int32)[None]
    real = places.leave > places.enter
    least = lambda x: jnp.min(jnp.where(real, x, NONE)[:, inside], axis=2)[:, :, None]
    seen = places.leave[:, None] > least(places.enter)
    if window is not None:
        seen &= places.position[:, None] > least(places.position) - window
    first = jnp.where(jnp.any(seen, axis=2), jnp.argmax(seen, axis=2).astype(jnp.int32), start[None])
    return jnp.maximum(-((first - start[None] - chunk) // tile_size(chunk)), 1)


def tile_size(chunk: int) -> int:
    """Keys of a tile."""
    return min(TILE, chunk)


def attend_chunk(
    q: Float[Array, "R c N H"], cache: PromptCache, places: Places, *, layer: Int[Array, ""], start: Int[Array, ""],
    tiles: Int[Array, ""], window: Int[Array, ""] | None = None,
) -> Float[Array, "R c N H"]:  # fmt: skip
    """Tree attention of the chunk that begins at column `start`; the same rule as `ops/tree_attention`.

    Args:
      cache: of all layers; the chunk's own keys and values are written.
      tiles: that are read, as `tiles_read` counts them, of the row that reads most.
    """
    rows, chunk, heads, width = q.shape
    kv_heads, tile, columns = cache.k.shape[2], tile_size(chunk), cache.k.shape[3]
    q = (q * width**-0.5).reshape(rows, chunk, kv_heads, -1, width).transpose(0, 2, 1, 3, 4)  # [R K c G H]
    own = jax.tree.map(lambda x: read_at(x, (start * 0, start), (rows, chunk))[:, :, None], places)
    itself = (start + jnp.arange(chunk, dtype=jnp.int32))[None, :, None]

    def add(number, part):
        end = start + chunk - number * tile
        first = jnp.maximum(end - tile, 0)
        size = (1, rows, kv_heads, tile, width)
        keys = jax.tree.map(lambda x: read_at(x, (layer, *(layer * 0,) * 2, first, layer * 0), size)[0], cache)
        of = jax.tree.map(lambda x: read_at(x, (first * 0, first), (rows, tile))[:, None], places)
        column = (first + jnp.arange(tile, dtype=jnp.int32))[None, None]
        seen = (of.enter <= own.enter) & (own.enter < of.leave) & (of.position <= own.position)
        if window is not None:
            seen &= own.position - of.position < window
        # A row's first tile may begin before the row does: it is moved, and what the tile after it has is left out.
        return merge(part, over_prompt(q, keys, (seen | (column == itself)) & (column < end)))

    none = jnp.zeros((*q.shape[:-1], 1), jnp.promote_types(q.dtype, jnp.float32))
    part = jnp.zeros(q.shape, none.dtype), none, none + jnp.finfo(none.dtype).min
    # One tile is no loop, which makes short rows' programs small.
    part = add(jnp.int32(0), part) if columns == tile else jax.lax.fori_loop(0, tiles, add, part)
    return (part[0] / part[1]).astype(q.dtype).transpose(0, 2, 1, 3, 4).reshape(rows, chunk, heads, width)
