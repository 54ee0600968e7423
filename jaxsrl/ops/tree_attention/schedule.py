"""Which tiles of a batch hold a pair that is seen, and in which order they are visited.

Rows lie one after another as one long row of `M` tiles of `B` tokens. In depth-first order a token q sees k iff k is
not behind it and enter[q] < leave[k], and everybody who sees a token stands right behind it: whoever sees a key tile is
found in the `reach` query tiles from it on. That splits the work.

    near   a key tile with a short reach (a leaf, a short trunk): the pairs (tile, tile + c), c = 0 … reach - 1. Tiles
           of about equal reach form a group, and step c takes one pair of each.
    far    a key tile with a long reach (a trunk that many leaves hang off): large blocks, one a step.

A tile's pair with itself is always near and comes first, as every token sees itself. Nobody is seen from another row:
where a row's tiles are no more than `near`, nothing is far, and that part is left out of the program.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped

KEPT = "tree_attention"  # the name under which a remat policy finds what the backward pass needs
ALIGNED = 16  # a tile's tokens are a multiple of it
NEVER = jnp.iinfo(jnp.int32).max // 4  # larger than any interval or position, and its sums fit 32 bits


@dataclass(frozen=True)
class Tiles:
    """How work is cut. Bounds what exists at once, changes no number but by rounding.

    Args:
      tile: tokens of a tile (B).
      group: pairs of tiles in a near step.
      queries, keys: tiles of a far block, powers of 2, `keys` not above `queries`.
      near: the longest reach that counts as short.
    """

    tile: int
    group: int
    queries: int
    keys: int
    near: int

    def fit(self, rows: int, length: int) -> "Tiles":
        """The same for R rows of T tokens: a row is cut evenly, and nothing is larger than the batch."""
        of_row = -(-length // self.tile)
        tile = min(self.tile, -(-length // (of_row * ALIGNED)) * ALIGNED)
        queries = min(self.queries, 2 ** ((rows * of_row).bit_length() - 1))
        return Tiles(tile, min(self.group, rows * of_row), queries, min(self.keys, queries), self.near)

    def count(self, rows: int, length: int) -> int:
        """Tiles of a batch (M), a multiple of a block's."""
        return -(-rows * -(-length // self.tile) // self.queries) * self.queries

    def cut(self, x: Shaped[Array, "R T ..."], fill=0) -> Shaped[Array, "M B ..."]:
        """Rows as tiles, filled up at the end of each row and behind the last one."""
        rows, length = x.shape[:2]
        rest = [(0, 0)] * (x.ndim - 2)
        x = jnp.pad(x, [(0, 0), (0, -length % self.tile), *rest], constant_values=fill)
        x = x.reshape(-1, self.tile, *x.shape[2:])
        return jnp.pad(x, [(0, self.count(rows, length) - len(x)), (0, 0), *rest], constant_values=fill)

    def join(self, x: Shaped[Array, "M B ..."], rows: int, length: int) -> Shaped[Array, "R T ..."]:
        """The inverse of `cut`."""
        of_row = -(-length // self.tile)
        return x[: rows * of_row].reshape(rows, of_row * self.tile, *x.shape[2:])[:, :length]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A batch's tokens as tiles, and the steps of both parts; the first `near_steps` and `far_steps` are taken.

    No field is a scalar: devices that have rows of their own lay theirs one after another.
    """

    position: Int[Array, "M B"]
    enter: Int[Array, "M B"]  # NEVER where a token sees nobody but itself
    leave: Int[Array, "M B"]  # -1 where nobody but itself sees a token
    long: Bool[Array, "M"]  # the key tiles that are far
    reach: Int[Array, "M"]  # of a near tile; 1 of a far one, 0 behind the last token
    member: Int[Array, "N P"]  # the tiles of N groups; M where there is none
    near_group: Int[Array, "N*C"]
    near_offset: Int[Array, "N*C"]  # c
    near_steps: Int[Array, "1"]
    far_query: Int[Array, "F"]  # first tile of the block; F = 0 where rows are too short for that
    far_key: Int[Array, "F"]
    far_steps: Int[Array, "1"]


def schedule(
    tiles: Tiles, position: Int[Array, "R T"], enter: Int[Array, "R T"], leave: Int[Array, "R T"],
    window: Int[Array, ""] | None,
) -> Schedule:  # fmt: skip
    """The steps that visit every visible pair once. `tiles` must fit the batch."""
    of_row, count = -(-position.shape[1] // tiles.tile), tiles.count(*position.shape)
    used = position.shape[0] * of_row
    filled = zip((position, *one_row(enter, leave)), (0, NEVER, -1), strict=True)
    position, enter, leave = (tiles.cut(x, fill) for x, fill in filled)
    index = jnp.arange(count, dtype=jnp.int32)
    offset = index[:, None] - index[None, :]  # c of query tile and key tile
    seen = (offset >= 0) & _may_see(position, enter, leave, window)
    reach = jnp.max(jnp.where(seen, offset, 0), axis=0) + 1
    long = reach > tiles.near
    reach = jnp.where(index < used, jnp.where(long, 1, reach), 0)
    far = (seen & long[None] & (offset > 0)) if of_row > tiles.near else jnp.zeros((0, count), bool)
    far = far.reshape(-1, tiles.queries, count // tiles.keys, tiles.keys).any(axis=(1, 3))
    far_query, far_key = _places(far)
    order = jnp.argsort(-reach, stable=True).astype(jnp.int32)
    order = jnp.pad(order, (0, -count % tiles.group), constant_values=count)
    member = order.reshape(-1, tiles.group)
    steps = reach.at[member[:, 0]].get(mode="fill", fill_value=0)  # the first of a group reaches furthest
    offsets = jnp.arange(min(tiles.near, of_row), dtype=jnp.int32)
    near_offset, near_group = _places(offsets[:, None] < steps[None])
    return Schedule(
        position=position, enter=enter, leave=leave, long=long, reach=reach, member=member,
        near_group=near_group, near_offset=near_offset, near_steps=jnp.sum(steps, dtype=jnp.int32)[None],
        far_query=far_query * tiles.queries, far_key=far_key * tiles.keys,
        far_steps=jnp.sum(far, dtype=jnp.int32)[None],
    )  # fmt: skip


def one_row(enter: Int[Array, "R T"], leave: Int[Array, "R T"]) -> tuple[Int[Array, "R T"], Int[Array, "R T"]]:
    """Intervals that go on from row to row: behind a row nobody sees its tokens."""
    empty = enter >= leave
    low = jnp.min(jnp.where(empty, NEVER, enter), axis=1, keepdims=True)
    high = jnp.max(jnp.where(empty, -NEVER, leave), axis=1, keepdims=True)
    span = jnp.max(jnp.maximum(high - low, 0))
    shift = jnp.arange(enter.shape[0], dtype=enter.dtype)[:, None] * span - low
    return jnp.where(empty, NEVER, enter + shift), jnp.where(empty, -1, leave + shift)


def _may_see(position, enter, leave, window) -> Bool[Array, "M M"]:
    """Whether a token of the query tile may see one of the key tile before it, from the bounds of both."""
    seen = jnp.min(enter, axis=1)[:, None] < jnp.max(leave, axis=1)[None]
    if window is not None:
        seen &= jnp.min(position, axis=1)[:, None] - jnp.max(position, axis=1)[None] < window
    return seen


def _places(flag: Bool[Array, "A B"]) -> tuple[Int[Array, "A*B"], Int[Array, "A*B"]]:
    """Row and column of the flags that are set, in order; what comes behind them means nothing."""
    at = jnp.nonzero(flag.reshape(-1), size=flag.size, fill_value=0)[0].astype(jnp.int32)
    return at // flag.shape[1], at % flag.shape[1]
