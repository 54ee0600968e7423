"""Sizes of the decoder, and presets."""

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Llama3Scaling:
    """Llama 3's stretch of RoPE: long wavelengths are slowed by `factor`, short ones stay, between them it blends.

    Source: the Llama 3.1 release; lengths in tokens.
    """

    factor: float
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_length: int = 8192

    def __post_init__(self):
        if self.factor < 1:
            raise ValueError(f"rope_scaling.factor must be >= 1, got {self.factor}")
        if not 0 < self.low_frequency_factor < self.high_frequency_factor:
            raise ValueError(
                f"rope_scaling.low_frequency_factor={self.low_frequency_factor} must be below "
                f"high_frequency_factor={self.high_frequency_factor}, and above 0"
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A pre-norm decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU.

    Args:
      vocab: rows of the embedding, padding rows included.
      width, layers, heads, kv_heads, head_width, mlp_width: D, L, N, K, H, F.
      qkv_bias: biases on the query, key and value projections (Qwen2.5).
      qk_norm: RMSNorm over every query and key head (Qwen3).
      tied: embedding and head are one matrix.
      dtype: of activations and matrix products; parameters are float32 (or whatever they are given as).
      remat: what the backward pass recomputes: `none`, `full` layers, or all but matrix products (`dots`).
    """

    vocab: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    mlp_width: int
    rope_base: float = 10_000.0
    rope_scaling: Llama3Scaling | None = None
    rms_epsilon: float = 1e-6
    qkv_bias: bool = False
    qk_norm: bool = False
    tied: bool = True
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    remat: Literal["none", "full", "dots"] = "none"

    def __post_init__(self):
        for name in ("vocab", "width", "layers", "heads", "kv_heads", "head_width", "mlp_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be >= 1, got {getattr(self, name)}")
        if self.heads % self.kv_heads:
            raise ValueError(f"model.heads={self.heads} must be a multiple of model.kv_heads={self.kv_heads}")
        if self.head_width % 2:
            raise ValueError(f"model.head_width must be even for RoPE, got {self.head_width}")
        for name in ("rope_base", "rms_epsilon"):
            if not getattr(self, name) > 0:
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
    layer = attention + 3 * c.width * c.mlp_width + 2 * c.width
    return c.vocab * c.width * (1 if c.tied else 2) + c.layers * layer + c.width


def _sizes(width, layers, heads, kv_heads, head_width, mlp_width, vocab, tied=True, **more) -> ModelConfig:
    return ModelConfig(
        vocab=vocab, width=width, layers=layers, heads=heads, kv_heads=kv_heads, head_width=head_width,
        mlp_width=mlp_width, tied=tied, **more,
    )  # fmt: skip


BYTES = 272  # the byte tokenizer's vocabulary
# Recomputing all but matrix products took 0.85 to 0.95 of the processor time of keeping everything (CPU, float32,
# 16 x 256 tokens, value and gradient), in half the memory: what is kept has to be written and read.
OURS = {"qk_norm": True, "remat": "dots"}
QWEN2 = {"qkv_bias": True, "rope_base": 1e6, "dtype": "bfloat16"}
QWEN3 = {"qk_norm": True, "rope_base": 1e6, "dtype": "bfloat16"}
LLAMA = {"rope_base": 5e5, "rms_epsilon": 1e-5, "dtype": "bfloat16"}
LLAMA31 = LLAMA | {"rope_scaling": Llama3Scaling(factor=8.0)}
LLAMA32 = LLAMA | {"rope_scaling": Llama3Scaling(factor=32.0)}

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
