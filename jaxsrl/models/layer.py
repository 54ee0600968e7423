"""One block of the decoder as a Flax NNX module, and the formulas it is made of."""

import math
from itertools import accumulate

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxsrl.models.config import ModelConfig

Turns = tuple[Float[Array, "R T 1 H/2"], Float[Array, "R T 1 H/2"]]  # cos and sin of RoPE's angles


def rms_norm(x: Float[Array, "... D"], scale: Float[Array, "D"], epsilon: float) -> Float[Array, "... D"]:
    """x / sqrt(mean(x^2) + epsilon) * scale, in float32 at least."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    return (wide * scale.reshape((1,) * (x.ndim - 1) + scale.shape)).astype(x.dtype)


def rope_frequencies(config: ModelConfig, dtype) -> Float[Array, "H/2"]:
    """Radians per position of each pair of a head.

    Source: arXiv:2104.09864; the stretch from the Llama 3.1 release.
    """
    pairs = config.head_width // 2
    frequency = config.rope_base ** (-jnp.arange(pairs, dtype=dtype) / pairs)
    scaling = config.rope_scaling
    if scaling is None:
        return frequency
    turns = scaling.original_length * frequency / (2 * math.pi)  # full turns within the original length
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    blend = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 - blend) * frequency / scaling.factor + blend * frequency


def rope_turns(config: ModelConfig, position: Int[Array, "R T"], dtype) -> Turns:
    """cos and sin of position times frequency, in float32 at least; all layers share them."""
    wide = jnp.promote_types(dtype, jnp.float32)
    angle = position[:, :, None, None].astype(wide) * rope_frequencies(config, wide)[None, None, None, :]
    return jnp.cos(angle), jnp.sin(angle)


def rope(x: Float[Array, "R T N H"], turns: Turns) -> Float[Array, "R T N H"]:
    """Rotates the pairs (i, i + H/2) of every head: the order of published weights."""
    cos, sin = turns
    first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


class Layer(nnx.Module):
    """One block. Weights are [in, out] with heads flattened, as the matrix products want them."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        c, self.config = config, config
        vector = lambda size, value: nnx.Param(jnp.full(size, value, jnp.float32))
        queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
        drawn = matrices(
            rngs, (c.width, queries), (c.width, keys), (c.width, keys), (queries, c.width), (c.width, c.mlp_width),
            (c.width, c.mlp_width), (c.mlp_width, c.width),
        )  # fmt: skip
        self.query, self.key, self.value, self.out, self.gate, self.up, self.down = drawn
        # The residual stream keeps its scale however deep the model is (GPT-2's rule).
        for last in (self.out, self.down):
            last[...] = last[...] * (2 * c.layers) ** -0.5
        self.attention_norm, self.mlp_norm = vector(c.width, 1.0), vector(c.width, 1.0)
        if c.qkv_bias:
            self.query_bias, self.key_bias, self.value_bias = vector(queries, 0.0), vector(keys, 0.0), vector(keys, 0.0)
        if c.qk_norm:
            self.query_norm, self.key_norm = vector(c.head_width, 1.0), vector(c.head_width, 1.0)

    def qkv(self, x: Float[Array, "R T D"], turns: Turns):
        """Queries [R T N H], keys and values [R T K H]; queries and keys rotated."""
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
            made.append(y if name == "value" else rope(y, turns))
        return made

    def finish(self, x: Float[Array, "R T D"], attended: Float[Array, "R T N H"]) -> Float[Array, "R T D"]:
        """Output projection and MLP, each added to the residual stream."""
        x = x + _matmul(attended.reshape(*x.shape[:2], -1), self.out[...])
        y = rms_norm(x, self.mlp_norm[...], self.config.rms_epsilon)
        return x + _matmul(jax.nn.silu(_matmul(y, self.gate[...])) * _matmul(y, self.up[...]), self.down[...])


def matrices(rngs: nnx.Rngs, *shapes: tuple[int, int]) -> list[nnx.Param]:
    """float32 matrices from N(0, 1 / rows), cut from one draw: one program to compile, not one per shape."""
    ends = list(accumulate(rows * columns for rows, columns in shapes))
    drawn = jax.random.normal(rngs.params(), (ends[-1],), jnp.float32)
    parts = (drawn[end - math.prod(shape) : end].reshape(shape) for end, shape in zip(ends, shapes, strict=True))
    return [nnx.Param(part * shape[0] ** -0.5) for part, shape in zip(parts, shapes, strict=True)]


def _matmul(x: Float[Array, "R T D"], weight: Float[Array, "D F"]) -> Float[Array, "R T F"]:
    """One flat product: on a CPU two to three times as fast as a batched one."""
    flat = x.reshape(-1, x.shape[-1]) @ weight.astype(x.dtype)
    return flat.reshape(*x.shape[:-1], weight.shape[-1])
