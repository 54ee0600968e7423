"""Bytes that the gradient of one batch sends between devices, by formula: what the layout should cost.

Counted as in `collectives.py`: what one device receives at the least. n groups of devices have rows of their own
(dcn * data * fsdp), f = fsdp, t = tensor.
"""

from dataclasses import dataclass

from jaxsrl.models.config import ModelConfig
from jaxsrl.sharding import MeshShape


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """What a platform's compiler makes of sums over devices.

    Args:
      scatters: a sum of which each device keeps a part becomes a reduce-scatter; else it is summed whole, then cut.
      adds_first: summands that are only added are added before they are summed over devices; else each is summed.
    """

    scatters: bool
    adds_first: bool


TPU = Compiler(scatters=True, adds_first=True)
CPU = Compiler(scatters=False, adds_first=False)


def gathered(parts: int) -> float:
    """Share of an array that a device receives which holds one of its parts and wants all."""
    return (parts - 1) / parts


def summed(parts: int) -> float:
    """The same where the arrays of all devices are added up: scattered in parts, then gathered."""
    return 2 * gathered(parts)


def decoder_bytes(
    model: ModelConfig, layout: MeshShape, rows: int, tokens: int, *, width: int, compiler: Compiler
) -> dict[str, float]:
    """Of hidden states and their gradient, per device: name of a term -> bytes.

    Args:
      rows, tokens: of the batch.
      width: bytes of a number that is sent, those of activations.
    Raises: ValueError for heads that the tensor axis does not divide: they are gathered, and the formula is another.
    """
    if model.kv_heads % layout.tensor:
        raise ValueError(f"tensor={layout.tensor} does not divide the {model.kv_heads} key-value heads")
    c, n, f, t = model, layout.row_parts, layout.fsdp, layout.tensor
    queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
    matrices = c.width * (2 * queries + 2 * keys + 3 * c.mlp_width) * c.layers * width
    own = rows // n * tokens * c.width * width  # activations of a device's rows
    table = c.vocab * c.width * width / (t * f)
    # Forward, two: attention's output and the MLP's. Backward: the inputs of gate and up, and of query, key and value.
    sums = 2 + (2 if compiler.adds_first else 5) + (1 if c.remat == "full" else 0)
    scattered = gathered(f) if compiler.scatters else summed(f)
    return {
        "gather parameters": 2 * gathered(f) * matrices / t,  # once in each pass
        "scatter gradients": scattered * matrices / t,
        "sum gradients": summed(n // f) * (matrices / (t * f) + table),
        "sum vectors": summed(n) * vectors(c) * max(width, 4),
        "sum activations": c.layers * sums * summed(t) * own,
        "look up": summed(t) * own + 2 * gathered(f) * own + (f - 1) * rows // n * tokens * 4,
    }


def head_bytes(model: ModelConfig, layout: MeshShape, rows: int, tokens: int, *, width: int) -> dict[str, float]:
    """Of log-probs and their gradient: every device scores the tokens of its rows under its part of the vocabulary.

    Args:
      width: as in `decoder_bytes`; the head's gradient and numbers of tokens are float32 at least.
    Raises: ValueError for a vocabulary that the tensor axis does not divide: it is gathered, at another cost.
    """
    if model.vocab % layout.tensor:
        raise ValueError(f"tensor={layout.tensor} does not divide the vocabulary of {model.vocab}")
    part = model.vocab * model.width / layout.tensor
    own, summand = rows // layout.row_parts * tokens, max(width, 4)
    return {
        "gather head": gathered(layout.fsdp) * part * width,
        "scatter head's gradient": gathered(layout.fsdp) * part * summand,
        "sum head's gradient": summed(layout.row_parts // layout.fsdp) * part / layout.fsdp * summand,
        "sum hidden's gradient": summed(layout.tensor) * own * model.width * width,
        "sum log-probs": 3 * summed(layout.tensor) * own * max(width, 4),  # largest logit, sum of exp, target's logit
    }


def vectors(c: ModelConfig) -> int:
    """Numbers in norms and biases, whose gradients every device holds whole."""
    queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
    layer = (4 if c.post_norms else 2) * c.width + (2 * c.head_width if c.qk_norm else 0)
    return c.layers * (layer + (queries + 2 * keys if c.qkv_bias else 0)) + c.width
