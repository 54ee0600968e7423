"""Rotary positions and the ways published models stretch them past their original length."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

RopeAngles = tuple[Float[Array, "R T 1 H/2"], Float[Array, "R T 1 H/2"]]  # cos and sin of the angles


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
        _check_factor(self.factor)
        if not 0 < self.low_frequency_factor < self.high_frequency_factor:
            raise ValueError(
                f"rope_scaling.low_frequency_factor={self.low_frequency_factor} must be below "
                f"high_frequency_factor={self.high_frequency_factor}, and above 0"
            )

    def stretch(self, frequency: Float[Array, "H/2"], base: float) -> Float[Array, "H/2"]:
        turns = self.original_length * frequency / (2 * math.pi)  # full turns within the original length
        low, high = self.low_frequency_factor, self.high_frequency_factor
        blend = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
        return (1 - blend) * frequency / self.factor + blend * frequency

    @property
    def amplitude(self) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class LinearScaling:
    """Positions divided by `factor` (Gemma 3 from 4B on). Source: arXiv:2306.15595."""

    factor: float

    def __post_init__(self):
        _check_factor(self.factor)

    def stretch(self, frequency: Float[Array, "H/2"], base: float) -> Float[Array, "H/2"]:
        return frequency / self.factor

    @property
    def amplitude(self) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class YarnScaling:
    """Pairs that turn less than `slow` times in the original length are slowed, those above `fast` stay, and cos and
    sin grow by `amplitude` (Qwen2.5 and Qwen3 past 32,768 tokens). Source: arXiv:2309.00071.

    Args:
      attention_factor: the amplitude; None is the paper's 0.1 ln(factor) + 1.
    """

    factor: float
    original_length: int
    fast: float = 32.0
    slow: float = 1.0
    attention_factor: float | None = None

    def __post_init__(self):
        _check_factor(self.factor)
        if not 0 < self.slow < self.fast:
            raise ValueError(f"rope_scaling.slow={self.slow} must be above 0 and below fast={self.fast}")

    def stretch(self, frequency: Float[Array, "H/2"], base: float) -> Float[Array, "H/2"]:
        pairs = frequency.shape[0]
        # The pair that turns so many times within the original length, rounded outwards.
        pair = lambda turns: pairs * math.log(self.original_length / (turns * 2 * math.pi)) / math.log(base)
        low, high = max(math.floor(pair(self.fast)), 0), min(math.ceil(pair(self.slow)), 2 * pairs - 1)
        ramp = jnp.clip((jnp.arange(pairs, dtype=frequency.dtype) - low) / max(high - low, 0.001), 0.0, 1.0)
        return frequency * (1 - ramp) + frequency / self.factor * ramp

    @property
    def amplitude(self) -> float:
        return self.attention_factor if self.attention_factor is not None else 0.1 * math.log(self.factor) + 1.0


Scaling = Llama3Scaling | LinearScaling | YarnScaling


def rope_frequencies(head_width: int, base: float, scaling: Scaling | None, dtype) -> Float[Array, "H/2"]:
    """Radians per position of each pair of a head. Source: arXiv:2104.09864."""
    pairs = head_width // 2
    frequency = base ** (-jnp.arange(pairs, dtype=dtype) / pairs)
    return frequency if scaling is None else scaling.stretch(frequency, base)


def rope_angles(
    head_width: int, base: float, scaling: Scaling | None, position: Int[Array, "R T"], dtype
) -> RopeAngles:
    """cos and sin of position times frequency, in float32 at least."""
    wide = jnp.promote_types(dtype, jnp.float32)
    frequency = rope_frequencies(head_width, base, scaling, wide)[None, None, None, :]
    angle = position[:, :, None, None].astype(wide) * frequency
    amplitude = 1.0 if scaling is None else scaling.amplitude
    return jnp.cos(angle) * amplitude, jnp.sin(angle) * amplitude


def rope(x: Float[Array, "R T N H"], turns: RopeAngles) -> Float[Array, "R T N H"]:
    """Rotates the pairs (i, i + H/2) of every head: the order of published weights."""
    cos, sin = turns
    first, second = jnp.split(x.astype(cos.dtype), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def _check_factor(factor: float) -> None:
    if factor < 1:
        raise ValueError(f"rope_scaling.factor must be >= 1, got {factor}")
