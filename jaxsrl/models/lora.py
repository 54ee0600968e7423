"""Low-rank adapters: a matrix W acts as W + (alpha / rank) A B, and A and B are all that is trained.

Parameters without adapters stay what they are; `with_adapters` lays A and B beside them, and `Layer` adds x A B to x W,
so that no changed copy of W is ever made, neither by the learner nor by the sampler.

This is ours and not qwix, which puts adapters into a Flax module by intercepting its matrix products as it is called:
here a layer is a pure function of one slice of stacked arrays inside `lax.scan`, A and B are stacked in the same way,
and a tree of their own is what optimizer, checkpoints and sharding rules need.

Source: arXiv:2106.09685.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params, rollout_copy
from jaxsrl.types import Params

Matrix = Literal["query", "key", "value", "out", "gate", "up", "down"]


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Which matrices of every layer get adapters, and their size.

    Args:
      rank: columns of A and rows of B.
      alpha: A B is multiplied by alpha / rank, so that another rank wants no other learning rate.
      matrices: of attention and MLP; embedding, head, norms and biases are never trained.
    """

    rank: int = 16
    alpha: float = 32.0
    matrices: tuple[Matrix, ...] = get_args(Matrix)

    def __post_init__(self):
        if self.rank < 1 or not self.alpha > 0:
            raise ValueError(f"lora.rank must be >= 1 and lora.alpha > 0, got rank={self.rank} alpha={self.alpha}")
        known = get_args(Matrix)
        if not self.matrices or len(set(self.matrices)) < len(self.matrices) or not set(self.matrices) <= set(known):
            raise ValueError(f"lora.matrices must be some of {', '.join(known)}, each once, got {self.matrices}")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def init_adapters(config: ModelConfig, lora: LoRA, key: Key[Array, ""]) -> Params:
    """A [L D rank] from N(0, 1 / D) and B [L rank F] of zeros, float32, by the path of their matrix [L D F].

    A matrix draws from a key of its own: it is the same whatever other matrices have adapters.
    """
    shapes = jax.eval_shape(lambda: init_params(config, key))["layers"]
    made = {}
    for name in lora.matrices:
        layers, into, out = shapes[name].shape
        drawn = jax.random.normal(jax.random.fold_in(key, get_args(Matrix).index(name)), (layers, into, lora.rank))
        zeros = jnp.zeros((layers, lora.rank, out), jnp.float32)
        made[name] = {"a": drawn.astype(jnp.float32) * into**-0.5, "b": zeros}
    return {"layers": made}


def with_adapters(lora: LoRA, base: Params, adapters: Params) -> Params:
    """What `forward`, `prefill` and `decode` take: the base itself, and beside its matrices A and scaled B."""
    scaled = {name: {"a": x["a"], "b": x["b"] * lora.scale} for name, x in adapters["layers"].items()}
    return base | {"layers": base["layers"] | {"adapters": scaled}}


def merged(lora: LoRA, base: Params, adapters: Params) -> Params:
    """Parameters without adapters that give the same numbers: W + scale A B, in the wider of both dtypes."""
    product = lambda x: jnp.matmul(x["a"], x["b"], precision="highest") * lora.scale
    return base | {
        "layers": base["layers"] | {name: base["layers"][name] + product(x) for name, x in adapters["layers"].items()}
    }


def frozen(config: ModelConfig, base: Params) -> Params:
    """The base as it is held while adapters are trained: no number changes by it."""
    return rollout_copy(config, base)
