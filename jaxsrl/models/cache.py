"""Keys and values as pytrees: a prompt's, shared by its slots, and each slot's own."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.shared_index import read_at, write_at

PARTS = 4  # own columns are read up to the end of the quarter the index is in


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


def init_own_cache(config: ModelConfig, rows: int, slots: int, capacity: int, dtype) -> OwnCache:
    """An empty cache; what was never written is never seen."""
    shape = (config.layers, rows, config.kv_heads, slots, capacity, config.head_width)
    return OwnCache(k=jnp.zeros(shape, dtype), v=jnp.zeros(shape, dtype))


def write(own: OwnCache, layer: Int[Array, ""], index: Int[Array, ""], k: Array, v: Array) -> OwnCache:
    """The cache with column `index` of one layer set to k, v [R S K H]; in place where XLA owns the buffer."""

    at = (layer, *(layer * 0,) * 3, index.astype(layer.dtype), layer * 0)  # all of one integer type

    def put(all, new):
        new = new.transpose(0, 2, 1, 3)[None, :, :, :, None]
        return write_at(all, new.astype(all.dtype), at)

    return OwnCache(k=put(own.k, k), v=put(own.v, v))


def attend_both(
    q: Float[Array, "R S N H"], prompt: PromptCache, own: OwnCache, *, prompt_mask: Bool[Array, "R S T"],
    layer: Int[Array, ""], index: Int[Array, ""], window: Int[Array, ""] | None = None,
) -> Float[Array, "R S N H"]:  # fmt: skip
    """One softmax over the prompt tokens a slot may see and its own columns up to `index`.

    Args:
      prompt: of this layer. own: of all layers, column `index` written.
      window: how many of its own columns it sees at most; that of the prompt is in the mask.
    """
    rows, slots, heads, width = q.shape
    kv_heads = own.k.shape[2]
    q = (q * width**-0.5).reshape(rows, slots, kv_heads, -1, width).transpose(0, 2, 1, 3, 4)  # [R K S G H]
    shared = _over_prompt(q, prompt, prompt_mask)
    mine = _over_own(q, own, layer, index, window)
    out = _merge(shared, mine).astype(q.dtype)
    return out.transpose(0, 2, 1, 3, 4).reshape(rows, slots, heads, width)


# A softmax in parts: (sum of exp(score - top) v, sum of exp(score - top), top), shapes [R K S G H], [R K S G 1] twice.


def _over_prompt(q, prompt: PromptCache, mask):
    """All slots of a row share its keys: one product per key head."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    flat = q.reshape(*q.shape[:2], -1, q.shape[-1])
    scores = jnp.einsum("rkqh,rkth->rkqt", flat, prompt.k, preferred_element_type=wide)
    scores = jnp.where(mask[:, None, :, None], scores.reshape(*q.shape[:4], -1), jnp.finfo(wide).min)
    weight, total, top = _exp(scores)
    weight = weight.astype(q.dtype).reshape(*flat.shape[:3], -1)
    out = jnp.einsum("rkqt,rkth->rkqh", weight, prompt.v, preferred_element_type=wide)
    return out.reshape(q.shape), total, top


def _over_own(q, own: OwnCache, layer, index, window):
    """Columns behind the quarter `index` is in are not read: a step costs by what was written, not by capacity."""
    wide = jnp.promote_types(q.dtype, jnp.float32)
    capacity = own.k.shape[4]
    part = -(-capacity // PARTS)

    def upto(columns):
        def attend(q, own):
            size = (1, *own.k.shape[1:4], columns, own.k.shape[5])
            read = lambda all: read_at(all, (layer, *(layer * 0,) * 5), size)[0]
            scores = jnp.einsum("rksgh,rksch->rksgc", q, read(own.k), preferred_element_type=wide)
            column = jnp.arange(columns)
            seen = column <= index if window is None else (column <= index) & (index - column < window)
            weight, total, top = _exp(jnp.where(seen[None, None, None, None], scores, jnp.finfo(wide).min))
            weight = weight.astype(q.dtype)
            return jnp.einsum("rksgc,rksch->rksgh", weight, read(own.v), preferred_element_type=wide), total, top

        return attend

    ends = [min(part * n, capacity) for n in range(1, -(-capacity // part) + 1)]
    return jax.lax.switch(index // part, [upto(end) for end in ends], q, own)


def _exp(scores):
    top = jnp.max(scores, axis=-1, keepdims=True)
    weight = jnp.exp(scores - top)
    return weight, jnp.sum(weight, axis=-1, keepdims=True), top


def _merge(a, b):
    """The softmax over two parts together."""
    top = jnp.maximum(a[2], b[2])
    from_a, from_b = jnp.exp(a[2] - top), jnp.exp(b[2] - top)
    return (a[0] * from_a + b[0] * from_b) / (a[1] * from_a + b[1] * from_b)
