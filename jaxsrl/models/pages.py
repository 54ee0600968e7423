"""What slots wrote in earlier blocks, in pages: a slot reads its own, and what its job before wrote is never read.

Turns are cut into blocks of B. In a block every slot writes the column of the turn (`OwnCache`): one index serves all
slots. At the end of a block the slots whose job goes on file their B columns as a page. The pages of a row's slots lie
in one pool, the lowest free place first. Pages are read up to the highest one in use.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.shared_index import largest_member, read_at
from jaxsrl.models.softmax_parts import Part, exp_scores

NEVER = -(2**30)  # the first turn of a page that holds nothing
SHRINK, COUNTS = 0.8, 7  # the pool is read whole, or up to 0.8 of it, or 0.8 of that ...
WORTH = 8  # pages, for which a size of their own is compiled


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Pages:
    """Keys and values of all layers. Pages come first: that is how a few of them are written in place."""

    k: Float[Array, "R M L K B H"]
    v: Float[Array, "R M L K B H"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PageTable:
    """What the pages hold."""

    slot: Int[Array, "R M"]  # whose they are
    first: Int[Array, "R M"]  # turn of the first column
    reach: Int[Array, ""]  # pages from here on hold nothing; one number for all rows, and members of a population


def block_size(cap: int) -> int:
    """Columns of a block: a twentieth of a completion's most tokens, a multiple of 8, at least 8 and at most 128."""
    return min(max(round(cap / 160), 1), 16) * 8


def page_count(slots: int, cap: int, block: int) -> int:
    """Pages that hold whatever `slots` slots can have filed. The last token of a completion is never written."""
    return slots * max(-(-(cap - 2) // block), 1)


def init_pages(config: ModelConfig, rows: int, count: int, block: int, dtype) -> Pages:
    """Empty pages."""
    shape = (rows, count, config.layers, config.kv_heads, block, config.head_width)
    return Pages(k=jnp.zeros(shape, dtype), v=jnp.zeros(shape, dtype))


def init_table(rows: int, count: int) -> PageTable:
    """The table of empty pages."""
    none = jnp.zeros((rows, count), jnp.int32)
    return PageTable(slot=none, first=none + NEVER, reach=jnp.int32(0))


def places(
    table: PageTable, block: int, start: Int[Array, ""], begin: Int[Array, "R S"], busy: Bool[Array, "R S"]
) -> tuple[Int[Array, "R S"], PageTable]:
    """Where each slot's columns of the block that began at turn `start` are filed, and the table with them.

    Args:
      begin: turn at which the slot's job began. busy: it goes on.
    Returns: M, which is no place, for a slot that has written nothing of its job.
    """
    rows, count = table.slot.shape
    of = lambda x: jnp.take_along_axis(x, table.slot, axis=1)
    held = (table.first + block > of(begin)) & of(busy)
    filed = busy & (begin < start + block)
    free = jnp.argsort(held, axis=1, stable=True)
    rank = jnp.cumsum(filed, axis=1) - 1
    place = jnp.where(filed, jnp.take_along_axis(free, jnp.maximum(rank, 0), axis=1), count)
    put = jax.vmap(lambda all, at, new: all.at[at].set(new, mode="drop"))
    slots = jnp.broadcast_to(jnp.arange(begin.shape[1], dtype=jnp.int32)[None], begin.shape)
    first = put(jnp.where(held, table.first, NEVER), place, jnp.full_like(slots, start))
    highest = jnp.where(first > NEVER, jnp.arange(1, count + 1, dtype=jnp.int32)[None], 0)
    return place, PageTable(slot=put(table.slot, place, slots), first=first, reach=largest_member(highest))


def file(pages: Pages, k: Array, v: Array, place: Int[Array, "R S"]) -> Pages:
    """The pages with a block's columns [L R K S B H] at their places; in place where XLA owns the buffer."""
    put = jax.vmap(lambda all, at, new: all.at[at].set(new, mode="drop"))
    new = lambda x: x.transpose(1, 3, 0, 2, 4, 5)
    return Pages(k=put(pages.k, place, new(k)), v=put(pages.v, place, new(v)))


def counts(pages: int) -> list[int]:
    """How many pages a program may read, in growing order: a few static sizes, the last of which is all."""
    sizes = [pages]
    for n in range(1, COUNTS):
        size = math.ceil(pages * SHRINK**n)
        sizes += [size] if sizes[-1] - size >= WORTH else []
    return sizes[::-1]


def over_pages(
    q: Float[Array, "R K S G H"], pages: Pages, table: PageTable, *, layer: Int[Array, ""], turn: Int[Array, ""],
    begin: Int[Array, "R S"], window: Int[Array, ""] | None,
) -> Part:  # fmt: skip
    """The part of a softmax that a slot's pages are: queries go to the pages, and what they find comes back.

    No key is moved: a page is multiplied with its slot's queries, and a slot adds up its pages.

    Args:
      turn: now. begin: turn at which the slot's job began. window: how many columns a slot sees at most.
    """
    sizes = counts(pages.k.shape[1])
    which = jnp.sum(table.reach > jnp.array(sizes[:-1], jnp.int32))

    def upto(count: int):
        def attend(q, pages, slot, first, begin):
            slot, first = slot[:, :count], first[:, :count]
            size = (pages.k.shape[0], count, 1, *pages.k.shape[3:])
            zero = layer * 0
            read = lambda all: read_at(all, (zero, zero, layer, zero, zero, zero), size)[:, :, 0]
            return _attend_pages(q, read(pages.k), read(pages.v), slot, first, turn, begin, window)

        return attend

    return jax.lax.switch(which, [upto(n) for n in sizes], q, pages, table.slot, table.first, begin)


def _attend_pages(q, k, v, slot, first, turn, begin, window) -> Part:
    """Keys and values [R M K B H] of one layer."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    asked = jnp.take_along_axis(q.transpose(0, 2, 1, 3, 4), slot[:, :, None, None, None], axis=1)  # [R M K G H]
    scores = jnp.einsum("rmkgh,rmkbh->rmkgb", asked, k, preferred_element_type=wide)
    written = first[:, :, None] + jnp.arange(k.shape[3])[None, None]
    seen = written >= jnp.take_along_axis(begin, slot, axis=1)[:, :, None]
    if window is not None:
        seen &= turn - written < window
    weight, total, top = exp_scores(scores, seen[:, :, None, None])
    out = jnp.einsum("rmkgb,rmkbh->rmkgh", weight.astype(q.dtype), v, preferred_element_type=wide)
    mine = slot[:, None, :] == jnp.arange(q.shape[2])[None, :, None]  # [R S M]
    least = jnp.finfo(wide).min
    best = jnp.max(jnp.where(mine[..., None, None], top[:, None, :, :, :, 0], least), axis=2)  # [R S K G]
    share = jnp.exp(top - jnp.take_along_axis(best, slot[:, :, None, None], axis=1)[..., None])
    add = lambda x: jnp.einsum("rsm,rmkgh->rksgh", mine.astype(wide), x * share, precision=jax.lax.Precision.HIGHEST)
    return add(out), add(total), best.transpose(0, 2, 1, 3)[..., None]
