"""Bytes of a stage's programs on one device, by formula: from and to its memory, and from other devices.

Memory: every product reads its operands and writes its result once. Links: as `formula.py` counts.
"""

from collections.abc import Mapping

from jaxsrl.clusters.flops import matrices, own_columns
from jaxsrl.clusters.formula import TPU, decoder_bytes, gathered, head_bytes, summed
from jaxsrl.models.config import ModelConfig, parameter_count
from jaxsrl.models.lora import LoRA
from jaxsrl.sharding import MeshShape

ROW_CUT = ("out", "down")  # matrices whose rows lie along `tensor`; the columns of the others do
CHUNK = 4096  # tokens whose logits exist at once, see `ops/token_logprob`


def products(c: ModelConfig, layout: MeshShape, tokens: float) -> float:
    """One pass over all layers, `tokens` of a device."""
    size, total = 2 if c.dtype == "bfloat16" else 4, 0.0
    for name, (rows, columns) in matrices(c).items():
        rows, columns = (rows / layout.tensor, columns) if name in ROW_CUT else (rows, columns / layout.tensor)
        total += size * (tokens * rows + rows * columns + tokens * columns)
    return c.layers * total


def gradient_memory(c: ModelConfig, layout: MeshShape, rows: int, tokens: int, lora: LoRA | None) -> float:
    """Of the gradient of a batch: passes over the layers, logits in chunks, gradients."""
    own = rows / layout.row_parts * tokens
    passes = (3 if lora is None else 2) + (c.remat == "full")
    chunks = -(-own // CHUNK)
    table = c.width * c.vocab / layout.tensor
    head = 8 * 4 * own * c.vocab / layout.tensor + chunks * table * (3 * 2 + (8 if lora is None else 0))
    return passes * products(c, layout, own) + head


def update_memory(parameters: float, moment_bytes: int) -> float:
    """Parameters, gradient and moments are read; parameters and moments are written."""
    return parameters * (12 + 4 * moment_bytes)


def decode_memory(c: ModelConfig, layout: MeshShape, rows: int, prompt_tokens: int, slots: int, cap: int) -> float:
    """Of a sampler call after its prefill: parameters, caches and logits at every turn."""
    size, own_rows = 2 if c.dtype == "bfloat16" else 4, rows / layout.row_parts
    column = 2 * size * c.layers * c.kv_heads / layout.tensor * c.head_width
    seen = sum(prompt_tokens + slots * columns for columns in own_columns(cap))
    logits = 4 * 4 * own_rows * slots * c.vocab / layout.tensor
    head = size * c.width * c.vocab / layout.tensor
    return (cap - 1) * products(c, layout, own_rows * slots) + cap * (head + logits) + own_rows * column * seen


def gradient_sent(
    c: ModelConfig, layout: MeshShape, rows: int, tokens: int, trained_share: float = 1.0
) -> dict[tuple[str, ...], float]:
    """Mesh axes -> bytes that a device receives in the gradient of a batch.

    Args:
      trained_share: of the parameters; the others are gathered, and have no gradient to be sent.
    Raises: ValueError as `formula.py`.
    """
    width = 2 if c.dtype == "bfloat16" else 4
    terms = decoder_bytes(c, layout, rows, tokens, width=width, compiler=TPU)
    terms |= head_bytes(c, layout, rows, tokens, width=width)
    out: dict[tuple[str, ...], float] = {}
    for name, size in terms.items():
        of_gradient = name in ("scatter gradients", "sum gradients", "sum vectors") or name.endswith("head's gradient")
        axes = _axes(name)
        out[axes] = out.get(axes, 0.0) + size * (trained_share if of_gradient else 1.0)
    return {axes: size for axes, size in out.items() if size}


def _axes(term: str) -> tuple[str, ...]:
    if term in ("sum gradients", "sum vectors", "sum head's gradient"):
        return ("dcn", "data")
    return ("tensor",) if term in ("sum activations", "sum hidden's gradient", "sum log-probs") else ("fsdp",)


def reshard_sent(c: ModelConfig, learner: MeshShape, sampler: MeshShape) -> dict[tuple[str, ...], float]:
    """What a device lacks of the sampler's part and no more."""
    size = 2 if c.dtype == "bfloat16" else 4
    lacking = size * parameter_count(c) / (sampler.tensor * sampler.fsdp) * gathered(max(learner.fsdp, 1))
    return {("fsdp",): lacking} if lacking and learner != sampler else {}


def sample_sent(c: ModelConfig, layout: MeshShape, jobs: int, cap: int) -> dict[tuple[str, ...], float]:
    """Sums of activations along `tensor`; parameters at every turn where `fsdp` cuts them."""
    size = 2 if c.dtype == "bfloat16" else 4
    out = {
        ("tensor",): cap * 2 * c.layers * summed(layout.tensor) * jobs / layout.row_parts * c.width * size,
        ("fsdp",): cap * gathered(layout.fsdp) * size * parameter_count(c) / layout.tensor,
    }
    return {axes: sent for axes, sent in out.items() if sent}


def by_axes(collectives) -> Mapping[tuple[str, ...], float]:
    """The same of a compiled program."""
    out: dict[tuple[str, ...], float] = {}
    for one in collectives:
        out[one.axes] = out.get(one.axes, 0.0) + one.bytes
    return out
