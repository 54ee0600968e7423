"""Keys and values as pytrees: a prompt's, shared by its slots, and each slot's own."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.pages import Pages, PageTable, over_pages
from jaxsrl.models.shared_index import read_at, write_at
from jaxsrl.models.softmax_parts import Part, exp_scores, merge

PARTS = 4  # own columns are read up to the end of the quarter the index is in
LEAST = 16  # columns of a part: fewer are not worth a program of their own


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PromptCache:
    """Of packed prompt rows, heads before tokens as the products want them; all layers have a leading `L` axis."""

    k: Float[Array, "*L R K T H"]
    v: Float[Array, "*L R K T H"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OwnCache:
    """Of what each of the S slots of a row has written itself, C columns each."""

    k: Float[Array, "L R K S C H"]
    v: Float[Array, "L R K S C H"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What was written before an own cache's first column, where slots take one job after another.

    Turns are counted from the first one of all; a slot writes one column a turn.
    """

    pages: Pages
    table: PageTable
    start: Int[Array, ""]  # turn of the own cache's first column
    begin: Int[Array, "R S"]  # turn of the first column of the slot's job; it sees none before


def init_prompt_cache(config: ModelConfig, rows: int, columns: int, dtype) -> PromptCache:
    """An empty cache of all layers."""
    shape = (config.layers, rows, config.kv_heads, columns, config.head_width)
    return PromptCache(k=jnp.zeros(shape, dtype), v=jnp.zeros(shape, dtype))


def write_chunk(
    cache: PromptCache, layer: Int[Array, ""], start: Int[Array, ""], k: Float[Array, "R c K H"], v: Array
) -> PromptCache:
    """The cache with columns of one layer set, from `start` on; in place where XLA owns the buffer."""
    at = (layer, *(layer * 0,) * 2, start.astype(layer.dtype), layer * 0)
    put = lambda all, new: write_at(all, new.transpose(0, 2, 1, 3)[None].astype(all.dtype), at)
    return PromptCache(k=put(cache.k, k), v=put(cache.v, v))


def init_own_cache(config: ModelConfig, rows: int, slots: int, capacity: int, dtype) -> OwnCache:
    """An empty cache; what was never written is never seen."""
    shape = (config.layers, rows, config.kv_heads, slots, capacity, config.head_width)
    return OwnCache(k=jnp.zeros(shape, dtype), v=jnp.zeros(shape, dtype))


def read_sizes(capacity: int) -> list[int]:
    """How many own columns a program may read: up to the end of a quarter, or of 16 columns where that is more."""
    part = max(-(-capacity // PARTS), LEAST)
    return [min(part * n, capacity) for n in range(1, -(-capacity // part) + 1)]


def write(own: OwnCache, layer: Int[Array, ""], column: Int[Array, ""], k: Array, v: Array) -> OwnCache:
    """The cache with a column of one layer set to k, v [R S K H]; in place where XLA owns the buffer."""

    at = (layer, *(layer * 0,) * 3, column.astype(layer.dtype), layer * 0)  # all of one integer type

    def put(all, new):
        new = new.transpose(0, 2, 1, 3)[None, :, :, :, None]
        return write_at(all, new.astype(all.dtype), at)

    return OwnCache(k=put(own.k, k), v=put(own.v, v))


def attend(
    q: Float[Array, "R S N H"], prompt: PromptCache, own: OwnCache, *, prompt_mask: Bool[Array, "R S T"],
    layer: Int[Array, ""], index: Int[Array, ""], window: Int[Array, ""] | None = None, earlier: Earlier | None = None,
) -> Float[Array, "R S N H"]:  # fmt: skip
    """One softmax over the prompt tokens a slot may see and its own columns up to `index`.

    Args:
      prompt: of this layer. own: of all layers, the column of `index` written.
      window: how many of its own columns it sees at most; that of the prompt is in the mask.
      earlier: where `own` is one block of several, see `decode`.
    """
    rows, slots, heads, width = q.shape
    kv_heads = own.k.shape[2]
    q = (q * width**-0.5).reshape(rows, slots, kv_heads, -1, width).transpose(0, 2, 1, 3, 4)  # [R K S G H]
    found = merge(over_prompt(q, prompt, prompt_mask), _over_own(q, own, layer, index, window, earlier))
    if earlier is not None:
        of_pages = over_pages(
            q, earlier.pages, earlier.table, layer=layer, turn=index, begin=earlier.begin, window=window
        )
        found = merge(found, of_pages)
    out = (found[0] / found[1]).astype(q.dtype)
    return out.transpose(0, 2, 1, 3, 4).reshape(rows, slots, heads, width)


def over_prompt(q: Float[Array, "R K S G H"], prompt: PromptCache, mask: Bool[Array, "R S T"]) -> Part:
    """All slots of a row, or tokens of a chunk, share its keys: one product per key head."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    flat = q.reshape(*q.shape[:2], -1, q.shape[-1])
    scores = jnp.einsum("rkqh,rkth->rkqt", flat, prompt.k, preferred_element_type=wide)
    weight, total, top = exp_scores(scores.reshape(*q.shape[:4], -1), mask[:, None, :, None])
    weight = weight.astype(q.dtype).reshape(*flat.shape[:3], -1)
    out = jnp.einsum("rkqt,rkth->rkqh", weight, prompt.v, preferred_element_type=wide)
    return out.reshape(q.shape), total, top


def _over_own(q, own: OwnCache, layer, index, window, earlier: Earlier | None) -> Part:
    """Columns behind the quarter `index` is in are not read: a step costs by what was written, not by capacity."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    sizes = read_sizes(own.k.shape[4])
    last = index if earlier is None else index - earlier.start

    def upto(columns):
        def attend(q, own):
            size = (1, *own.k.shape[1:4], columns, own.k.shape[5])
            read = lambda all: read_at(all, (layer, *(layer * 0,) * 5), size)[0]
            scores = jnp.einsum("rksgh,rksch->rksgc", q, read(own.k), preferred_element_type=wide)
            column = jnp.arange(columns)
            seen = column <= last if window is None else (column <= last) & (last - column < window)
            seen = seen[None, None, None, None]
            if earlier is not None:
                seen = seen & (column[None, None] >= (earlier.begin - earlier.start)[:, :, None])[:, None, :, None]
            weight, total, top = exp_scores(scores, seen)
            weight = weight.astype(q.dtype)
            return jnp.einsum("rksgc,rksch->rksgh", weight, read(own.v), preferred_element_type=wide), total, top

        return attend

    return jax.lax.switch(last // sizes[0], [upto(columns) for columns in sizes], q, own)
