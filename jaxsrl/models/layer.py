"""One block of the decoder as a Flax NNX module, and the formulas it is made of."""

import math
from functools import partial
from itertools import accumulate

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.rope import RopeAngles, rope


def rms_norm(config: ModelConfig, x: Float[Array, "... D"], scale: Float[Array, "D"]) -> Float[Array, "... D"]:
    """x / sqrt(mean(x^2) + epsilon) * scale, in float32 at least; times 1 + scale with `norm_offset`."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + config.rms_epsilon)
    scale = scale.astype(wide.dtype).reshape((1,) * (x.ndim - 1) + scale.shape)
    return (wide * (1 + scale if config.norm_offset else scale)).astype(x.dtype)


class Layer(nnx.Module):
    """One block. Weights are [in, out] with heads flattened, as the matrix products want them.

    `adapters` maps names of matrices to what `models/lora.py` lays beside them; a layer from scratch has none.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        c, self.config = config, config
        vector = lambda size, value: nnx.Param(jnp.full(size, value, jnp.float32))
        queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
        drawn = matrices(
            rngs, (c.width, queries), (c.width, keys), (c.width, keys), (queries, c.width), (c.width, c.mlp_width),
            (c.width, c.mlp_width), (c.mlp_width, c.width),
        )  # fmt: skip
        self.query, self.key, self.value, self.out, self.gate, self.up, self.down = drawn
        self.adapters = nnx.data({})
        # The residual stream keeps its scale however deep the model is (GPT-2's rule).
        for last in (self.out, self.down):
            last[...] = last[...] * (2 * c.layers) ** -0.5
        one = 0.0 if c.norm_offset else 1.0
        self.attention_norm, self.mlp_norm = vector(c.width, one), vector(c.width, one)
        if c.post_norms:
            self.attention_post_norm, self.mlp_post_norm = vector(c.width, one), vector(c.width, one)
        if c.qkv_bias:
            self.query_bias, self.key_bias, self.value_bias = vector(queries, 0.0), vector(keys, 0.0), vector(keys, 0.0)
        if c.qk_norm:
            self.query_norm, self.key_norm = vector(c.head_width, one), vector(c.head_width, one)

    def qkv(self, x: Float[Array, "R T D"], turns: RopeAngles):
        """Queries [R T N H], keys and values [R T K H]; queries and keys rotated.

        Attention divides scores by the root of H; another `query_scalar` is made up for in the queries.
        """
        c = self.config
        x = rms_norm(c, x, self.attention_norm[...])
        made = []
        for name, heads in (("query", c.heads), ("key", c.kv_heads), ("value", c.kv_heads)):
            y = self._times(x, name)
            if c.qkv_bias:
                y = y + getattr(self, name + "_bias")[...].astype(y.dtype)[None, None]
            y = y.reshape(*x.shape[:2], heads, c.head_width)
            if c.qk_norm and name != "value":
                y = rms_norm(c, y, getattr(self, name + "_norm")[...])
            if name == "query" and c.query_scalar not in (None, c.head_width):
                y = y * (c.head_width / c.query_scalar) ** 0.5
            made.append(y if name == "value" else rope(y, turns))
        return made

    def finish(self, x: Float[Array, "R T D"], attended: Float[Array, "R T N H"]) -> Float[Array, "R T D"]:
        """Output projection and MLP, each added to the residual stream."""
        c = self.config
        y = self._times(attended.reshape(*x.shape[:2], -1), "out")
        x = x + (rms_norm(c, y, self.attention_post_norm[...]) if c.post_norms else y)
        y = rms_norm(c, x, self.mlp_norm[...])
        gate = jax.nn.silu if c.activation == "silu" else partial(jax.nn.gelu, approximate=True)
        y = self._times(gate(self._times(y, "gate")) * self._times(y, "up"), "down")
        return x + (rms_norm(c, y, self.mlp_post_norm[...]) if c.post_norms else y)

    def _times(self, x: Float[Array, "R T D"], name: str) -> Float[Array, "R T F"]:
        """x W; where W has adapters, x A B is added to it."""
        y = _matmul(x, getattr(self, name)[...])
        if name not in self.adapters:
            return y
        return y + _low_rank(x, self.adapters[name]["a"], self.adapters[name]["b"])


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


def _low_rank(x: Float[Array, "R T D"], a: Float[Array, "D J"], b: Float[Array, "J F"]) -> Float[Array, "R T F"]:
    """x A B, as products of a batch of one.

    remat="dots" keeps products without a batch. These cost next to nothing to make anew, and take as much room as x W.
    """
    times = lambda x, weight: jax.lax.dot_general(x, weight[None].astype(x.dtype), (((2,), (1,)), ((0,), (0,))))
    return times(times(x.reshape(1, -1, x.shape[-1]), a), b).reshape(*x.shape[:-1], b.shape[-1])
