"""Sizes of the decoder, and presets."""

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Literal

from jaxsrl.models.rope import Llama3Scaling, Scaling


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A pre-norm decoder: RMSNorm, RoPE, grouped-query attention, a gated MLP.

    Args:
      vocab: rows of the embedding, padding rows included.
      width, layers, heads, kv_heads, head_width, mlp_width: D, L, N, K, H, F.
      qkv_bias: biases on the query, key and value projections (Qwen2.5).
      qk_norm: RMSNorm over every query and key head (Qwen3, Gemma 3).
      tied: embedding and head are one matrix.
      window: tokens that a token sees in a windowed layer, itself included; None: no layer is windowed.
      global_layers: numbers of the layers that see everything all the same (every sixth of Gemma 3).
      local_rope_base: RoPE base of windowed layers, which are then not stretched; None: like the others.
      query_scalar: attention scores are divided by its root; None is `head_width`.
      activation: of the MLP's gate.
      norm_offset: norms multiply by 1 + scale (Gemma).
      post_norms: what attention and MLP return is normed too, before it is added (Gemma 3).
      scale_embedding: embeddings are multiplied by the root of `width` (Gemma).
      dtype: of activations and matrix products; parameters are float32 (or whatever they are given as).
      remat: what the backward pass recomputes: all but matrix products (`dots`), which costs next to no FLOPs and takes
        half the memory of recomputing nothing (`none`), or `full` layers.
    """

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    rope_base: float = 10_000.0
    rope_scaling: Scaling | None = None
    rms_epsilon: float = 1e-6
    qkv_bias: bool = False
    qk_norm: bool = False
    tied: bool = True
    window: int | None = None
    global_layers: tuple[int, ...] = ()
    local_rope_base: float | None = None
    query_scalar: float | None = None
    activation: Literal["silu", "gelu_tanh"] = "silu"
    norm_offset: bool = False
    post_norms: bool = False
    scale_embedding: bool = False
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    # Recomputing all but matrix products took 0.79 of the processor time of keeping everything (CPU, float32, 16 rows
    # of 528 tokens, value and gradient), in half the memory: what is kept has to be written and read.
    remat: Literal["none", "full", "dots"] = "dots"

    def __post_init__(self):
        for name in ("vocab", "width", "layers", "heads", "kv_heads", "head_width", "mlp_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be >= 1, got {getattr(self, name)}")
        if self.heads % self.kv_heads:
            raise ValueError(f"model.heads={self.heads} must be a multiple of model.kv_heads={self.kv_heads}")
        if self.head_width % 2:
            raise ValueError(f"model.head_width must be even for RoPE, got {self.head_width}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"model.window must be >= 1, got {self.window}")
        if any(not 0 <= layer < self.layers for layer in self.global_layers):
            raise ValueError(f"model.global_layers={self.global_layers} must be numbers of the {self.layers} layers")
        if self.window is None and (self.global_layers or self.local_rope_base is not None):
            raise ValueError("model.global_layers and model.local_rope_base need model.window")
        if self.activation not in ("silu", "gelu_tanh"):
            raise ValueError(f"model.activation must be silu or gelu_tanh, got {self.activation!r}")
        for name in ("rope_base", "rms_epsilon", "local_rope_base", "query_scalar"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"model.{name} must be > 0, got {getattr(self, name)}")
        if self.dtype not in ("float32", "bfloat16", "float64"):
            raise ValueError(f"model.dtype must be float32, bfloat16 or float64, got {self.dtype!r}")
        if self.remat not in ("none", "full", "dots"):
            raise ValueError(f"model.remat must be none, full or dots, got {self.remat!r}")


def parameter_count(config: ModelConfig) -> int:
    """Parameters that follow from the sizes; a tied matrix counts once."""
    c = config
    queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
    attention = c.width * (queries + 2 * keys) + queries * c.width
    attention += (queries + 2 * keys if c.qkv_bias else 0) + (2 * c.head_width if c.qk_norm else 0)
    layer = attention + 3 * c.width * c.mlp_width + (4 if c.post_norms else 2) * c.width
    return c.vocab * c.width * (1 if c.tied else 2) + c.layers * layer + c.width


def _sizes(width, layers, heads, kv_heads, head_width, mlp_width, vocab, tied=True, **more) -> ModelConfig:
    return ModelConfig(
        vocab=vocab, width=width, layers=layers, heads=heads, kv_heads=kv_heads, head_width=head_width,
        mlp_width=mlp_width, tied=tied, **more,
    )  # fmt: skip


BYTES = 272  # the byte tokenizer's vocabulary
OURS = {"qk_norm": True}
QWEN2 = {"qkv_bias": True, "rope_base": 1e6, "dtype": "bfloat16"}
QWEN3 = {"qk_norm": True, "rope_base": 1e6, "dtype": "bfloat16"}
LLAMA = {"rope_base": 5e5, "rms_epsilon": 1e-5, "dtype": "bfloat16"}
LLAMA31 = LLAMA | {"rope_scaling": Llama3Scaling(factor=8.0)}
LLAMA32 = LLAMA | {"rope_scaling": Llama3Scaling(factor=32.0)}
GEMMA3 = {
    "qk_norm": True, "rope_base": 1e6, "local_rope_base": 1e4, "activation": "gelu_tanh", "norm_offset": True,
    "post_norms": True, "scale_embedding": True, "dtype": "bfloat16",
}  # fmt: skip

# Small ones are ours, for models from scratch over bytes; the others have their publishers' shapes.
PRESETS = {
    "0.1M": _sizes(64, 2, 4, 2, 16, 192, BYTES, **OURS),
    "0.2M": _sizes(96, 2, 6, 2, 16, 256, BYTES, **OURS),
    "1M": _sizes(128, 5, 4, 2, 32, 384, BYTES, **OURS),
    "10M": _sizes(320, 8, 10, 5, 32, 864, BYTES, **OURS),
    "qwen2.5-0.5b": _sizes(896, 24, 14, 2, 64, 4864, 151936, **QWEN2),
    "qwen2.5-1.5b": _sizes(1536, 28, 12, 2, 128, 8960, 151936, **QWEN2),
    "qwen2.5-3b": _sizes(2048, 36, 16, 2, 128, 11008, 151936, **QWEN2),
    "qwen2.5-7b": _sizes(3584, 28, 28, 4, 128, 18944, 152064, False, **QWEN2),
    "qwen3-0.6b": _sizes(1024, 28, 16, 8, 128, 3072, 151936, **QWEN3),
    "qwen3-1.7b": _sizes(2048, 28, 16, 8, 128, 6144, 151936, **QWEN3),
    "qwen3-4b": _sizes(2560, 36, 32, 8, 128, 9728, 151936, **QWEN3),
    "qwen3-8b": _sizes(4096, 36, 32, 8, 128, 12288, 151936, False, **QWEN3),
    "llama-3.2-1b": _sizes(2048, 16, 32, 8, 64, 8192, 128256, **LLAMA32),
    "llama-3.2-3b": _sizes(3072, 28, 24, 8, 128, 8192, 128256, **LLAMA32),
    "llama-3.1-8b": _sizes(4096, 32, 32, 8, 128, 14336, 128256, False, **LLAMA31),
    "mistral-7b-v0.3": _sizes(4096, 32, 32, 8, 128, 14336, 32768, False, **LLAMA | {"rope_base": 1e6}),
    "smollm2-135m": _sizes(576, 30, 9, 3, 64, 1536, 49152, **LLAMA | {"rope_base": 1e5}),
    "gemma-3-1b": _sizes(
        1152, 26, 4, 1, 256, 6912, 262144, window=512, global_layers=(5, 11, 17, 23), query_scalar=256.0, **GEMMA3
    ),
}  # fmt: skip


def preset(name: str, **changes) -> ModelConfig:
    """A named size, with fields changed: `preset("0.2M", remat="full")`.

    Raises: ValueError naming the nearest preset and all of them.
    """
    if name.lower() not in {key.lower() for key in PRESETS}:
        near = difflib.get_close_matches(name.lower(), list(PRESETS), 1, cutoff=0.0)
        raise ValueError(f"no preset {name!r}; nearest is {near[0]}; there are: {', '.join(PRESETS)}")
    found = next(value for key, value in PRESETS.items() if key.lower() == name.lower())
    return dataclasses.replace(found, **changes)
