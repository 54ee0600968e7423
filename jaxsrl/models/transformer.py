"""The decoder in Flax NNX, split into a pytree of arrays at the boundary.

Layers are stacked on their first axis and run by one `lax.scan`; a layer is compiled once however many there are.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from jaxsrl.models.cache import OwnCache, PromptCache, attend_both
from jaxsrl.models.config import ModelConfig
from jaxsrl.ops.tree_attention import tree_attention
from jaxsrl.types import Params


def rms_norm(x: Float[Array, "... D"], scale: Float[Array, "D"], epsilon: float) -> Float[Array, "... D"]:
    """x / sqrt(mean(x^2) + epsilon) * scale, in float32 at least."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return (wide * scale.reshape((1,) * (x.ndim - 1) + scale.shape)).astype(x.dtype)


def rope_frequencies(config: ModelConfig, dtype) -> Float[Array, "H/2"]:
    """Radians per position of each pair of a head."""
    pairs = config.head_width // 2
    frequency = config.rope_base ** (-jnp.arange(pairs, dtype=dtype) / pairs)
    scaling = config.rope_scaling
    if scaling is None:
        return frequency
    turns = scaling.original_length * frequency / (2 * math.pi)  # full turns within the original length
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    blend = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 - blend) * frequency / scaling.factor + blend * frequency


def rope(x: Float[Array, "R T N H"], position: Int[Array, "R T"], config: ModelConfig) -> Float[Array, "R T N H"]:
    """Rotates pairs (i, i + H/2) of every head by position times frequency; angles in float32 at least."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    frequency = rope_frequencies(config, wide)
    angle = position[:, :, None, None].astype(wide) * frequency[None, None, None, :]
    first, second = jnp.split(x.astype(wide), 2, axis=-1)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class Layer(nnx.Module):
    """One block. Weights are [in, out] with heads flattened, as the matrix products want them."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        c, self.config = config, config
        matrix = lambda rows, columns: nnx.Param(jax.random.normal(rngs.params(), (rows, columns)) * rows**-0.5)
        vector = lambda size, value: nnx.Param(jnp.full(size, value))
        queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
        self.attention_norm, self.mlp_norm = vector(c.width, 1.0), vector(c.width, 1.0)
        self.query, self.key, self.value = matrix(c.width, queries), matrix(c.width, keys), matrix(c.width, keys)
        self.out = matrix(queries, c.width)
        self.gate, self.up = matrix(c.width, c.mlp_width), matrix(c.width, c.mlp_width)
        self.down = matrix(c.mlp_width, c.width)
        # The residual stream keeps its scale however deep the model is (GPT-2's rule).
        for last in (self.out, self.down):
            last[...] = last[...] * (2 * c.layers) ** -0.5
        if c.qkv_bias:
            self.query_bias, self.key_bias, self.value_bias = vector(queries, 0.0), vector(keys, 0.0), vector(keys, 0.0)
        if c.qk_norm:
            self.query_norm, self.key_norm = vector(c.head_width, 1.0), vector(c.head_width, 1.0)

    def qkv(self, x: Float[Array, "R T D"], position: Int[Array, "R T"]):
        """Queries [R T N H], keys and values [R T K H], rotated."""
        c = self.config
        x = rms_norm(x, self.attention_norm[...], c.rms_epsilon)
        made = []
        for name, heads in (("query", c.heads), ("key", c.kv_heads), ("value", c.kv_heads)):
            y = _matmul(x, getattr(self, name)[...])
            if c.qkv_bias:
                y = y + getattr(self, name + "_bias")[...].astype(y.dtype)[None, None]
            y = y.reshape(*x.shape[:2], heads, c.head_width)
            if c.qk_norm and name != "value":
                y = rms_norm(y, getattr(self, name + "_norm")[...], c.rms_epsilon)
            made.append(y if name == "value" else rope(y, position, c))
        return made

    def finish(self, x: Float[Array, "R T D"], attended: Float[Array, "R T N H"]) -> Float[Array, "R T D"]:
        """Output projection and MLP, each added to the residual stream."""
        x = x + _matmul(attended.reshape(*x.shape[:2], -1), self.out[...])
        y = rms_norm(x, self.mlp_norm[...], self.config.rms_epsilon)
        return x + _matmul(jax.nn.silu(_matmul(y, self.gate[...])) * _matmul(y, self.up[...]), self.down[...])


class Decoder(nnx.Module):
    """Embedding, stacked layers, final norm, head."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        c = config
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (c.vocab, c.width)) * c.width**-0.5)
        stack = nnx.split_rngs(splits=c.layers)(nnx.vmap(lambda r: Layer(c, r), in_axes=0, out_axes=0))
        self.layers = stack(rngs)
        self.final_norm = nnx.Param(jnp.ones(c.width))
        if not c.tied:
            self.head = nnx.Param(jax.random.normal(rngs.params(), (c.width, c.vocab)) * c.width**-0.5)


def _matmul(x: Float[Array, "R T D"], weight: Float[Array, "D F"]) -> Float[Array, "R T F"]:
    """One flat product: on a CPU two to three times as fast as a batched one."""
    flat = x.reshape(-1, x.shape[-1]) @ weight.astype(x.dtype)
    return flat.reshape(*x.shape[:-1], weight.shape[-1])


def init_params(config: ModelConfig, key: Key[Array, ""]) -> Params:
    """Random float32 parameters as a nested dict; layers are stacked on the first axis."""
    decoder = Decoder(config, nnx.Rngs(params=key))
    return nnx.to_pure_dict(nnx.state(decoder, nnx.Param))


def _layer(config: ModelConfig, params: Params) -> Layer:
    """The module of one layer over given arrays."""
    graph, state = nnx.split(nnx.eval_shape(lambda: Layer(config, nnx.Rngs(0))))
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def _embed(config: ModelConfig, params: Params, token: Int[Array, "R T"]) -> Float[Array, "R T D"]:
    # float64 parameters are there to check numbers, so nothing below them is narrower.
    dtype = jnp.float64 if params["embedding"].dtype == jnp.float64 else config.dtype
    return params["embedding"].at[token].get(mode="clip").astype(dtype)


def _remat(config: ModelConfig, body):
    if config.remat == "none":
        return body
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if config.remat == "dots" else None
    return jax.checkpoint(body, policy=policy)


def head_matrix(config: ModelConfig, params: Params) -> Float[Array, "D V"]:
    """The matrix that turns hidden states into logits."""
    return params["embedding"].T if config.tied else params["head"]


def _final(config: ModelConfig, params: Params, x: Float[Array, "R T D"]) -> Float[Array, "R T D"]:
    return rms_norm(x, params["final_norm"], config.rms_epsilon)


def forward(
    config: ModelConfig, params: Params, token: Int[Array, "R T"], position: Int[Array, "R T"],
    enter: Int[Array, "R T"], leave: Int[Array, "R T"],
) -> Float[Array, "R T D"]:  # fmt: skip
    """Hidden states after the final norm, under tree attention (see `Batch`)."""

    def body(x, layer):
        layer = _layer(config, layer)
        q, k, v = layer.qkv(x, position)
        return layer.finish(x, tree_attention(q, k, v, position=position, enter=enter, leave=leave)), None

    x, _ = jax.lax.scan(_remat(config, body), _embed(config, params, token), params["layers"])
    return _final(config, params, x)


def prefill(
    config: ModelConfig, params: Params, token: Int[Array, "R T"], position: Int[Array, "R T"],
    enter: Int[Array, "R T"], leave: Int[Array, "R T"],
) -> tuple[Float[Array, "R T D"], PromptCache]:  # fmt: skip
    """`forward`, with the keys and values of every layer."""

    def body(x, layer):
        layer = _layer(config, layer)
        q, k, v = layer.qkv(x, position)
        x = layer.finish(x, tree_attention(q, k, v, position=position, enter=enter, leave=leave))
        return x, PromptCache(k=k, v=v)

    x, cache = jax.lax.scan(body, _embed(config, params, token), params["layers"])
    return _final(config, params, x), cache


def decode(
    config: ModelConfig, params: Params, token: Int[Array, "R S"], position: Int[Array, "R S"], prompt: PromptCache,
    prompt_mask: Array, own: OwnCache, index: Int[Array, ""],
) -> tuple[Float[Array, "R S D"], OwnCache]:  # fmt: skip
    """One token of every slot: it sees the prompt tokens its mask allows and its own columns up to `index`.

    Args:
      prompt_mask: [R S T] bool; at least one prompt token per slot.
      own: written at column `index` in place, when the caller's loop carries it.
    Returns: hidden states after the final norm, and the cache.
    """
    visible = partial(attend_both, prompt_mask=prompt_mask, index=index)

    def body(carry, layer_and_prompt):
        x, own, number = carry
        layer, cache = layer_and_prompt
        layer = _layer(config, layer)
        q, k, v = layer.qkv(x, position)
        own = own.write(number, index, k, v)
        x = layer.finish(x, visible(q, cache, own.layer(number)))
        return (x, own, number + 1), None

    start = (_embed(config, params, token), own, jnp.int32(0))
    (x, own, _), _ = jax.lax.scan(body, start, (params["layers"], prompt))
    return _final(config, params, x), own
