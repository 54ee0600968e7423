"""Keys and values as pytrees: a prompt's, shared by its slots, and each slot's own."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxsrl.models.config import ModelConfig


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PromptCache:
    """Of packed prompt rows; with a leading `L` axis for all layers."""

    k: Float[Array, "*L R T K H"]
    v: Float[Array, "*L R T K H"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OwnCache:
    """Of what each of the S slots of a row has written itself, C columns each."""

    k: Float[Array, "*L R S C K H"]
    v: Float[Array, "*L R S C K H"]

    def write(self, layer: Int[Array, ""], index: Int[Array, ""], k: Array, v: Array) -> "OwnCache":
        """The cache with column `index` of one layer set to k, v [R S K H]."""
        at = (layer, 0, 0, index, 0, 0)
        put = lambda all, new: jax.lax.dynamic_update_slice(all, new[None, :, :, None].astype(all.dtype), at)
        return OwnCache(k=put(self.k, k), v=put(self.v, v))

    def layer(self, number: Int[Array, ""]) -> "OwnCache":
        """One layer's part."""
        take = lambda all: jax.lax.dynamic_index_in_dim(all, number, 0, keepdims=False)
        return OwnCache(k=take(self.k), v=take(self.v))


def init_own_cache(config: ModelConfig, rows: int, slots: int, capacity: int, dtype) -> OwnCache:
    """An empty cache; what was never written is never seen."""
    shape = (config.layers, rows, slots, capacity, config.kv_heads, config.head_width)
    return OwnCache(k=jnp.zeros(shape, dtype), v=jnp.zeros(shape, dtype))


def attend_both(
    q: Float[Array, "R S N H"], prompt: PromptCache, own: OwnCache, *, prompt_mask: Bool[Array, "R S T"],
    index: Int[Array, ""],
) -> Float[Array, "R S N H"]:  # fmt: skip
    """One softmax over the prompt tokens a slot may see and its own columns up to `index`."""
    rows, slots, heads, width = q.shape
    kv_heads, columns = own.k.shape[-2], own.k.shape[-3]
    wide = jnp.promote_types(q.dtype, jnp.float32)
    q = (q * width**-0.5).reshape(rows, slots, kv_heads, heads // kv_heads, width)
    shared = jnp.einsum("rskgh,rtkh->rskgt", q, prompt.k, preferred_element_type=wide)
    mine = jnp.einsum("rskgh,rsckh->rskgc", q, own.k, preferred_element_type=wide)
    lowest = jnp.finfo(wide).min
    shared = jnp.where(prompt_mask[:, :, None, None, :], shared, lowest)
    mine = jnp.where((jnp.arange(columns) <= index)[None, None, None, None], mine, lowest)
    weight = jax.nn.softmax(jnp.concatenate([shared, mine], axis=-1), axis=-1).astype(q.dtype)
    split = shared.shape[-1]
    out = jnp.einsum("rskgt,rtkh->rskgh", weight[..., :split], prompt.v)
    out = out + jnp.einsum("rskgc,rsckh->rskgh", weight[..., split:], own.v)
    return out.reshape(rows, slots, heads, width)
