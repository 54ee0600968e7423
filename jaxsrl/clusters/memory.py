"""What a stage's programs hold on one device, estimated by formula where no compiler is asked.

What is an argument is counted from sizes. What the compiler adds follows what compilers were seen to add: libtpu and
XLA for CUDA at the recipes of `configs/recipes/`. `jaxsrl/clusters/README.md` says how far off it was.
"""

import math
from collections.abc import Iterator

from jaxsrl.clusters.compile import Program
from jaxsrl.clusters.flops import adapter_parameters
from jaxsrl.clusters.formula import vectors
from jaxsrl.clusters.queueing import Queued, queued
from jaxsrl.clusters.shapes import StageShapes, evaluation_call
from jaxsrl.clusters.traffic import CHUNK
from jaxsrl.config.run import Config, Stage
from jaxsrl.models.chunks import chunk_size
from jaxsrl.models.config import ModelConfig, parameter_count
from jaxsrl.sharding import MeshShape


def estimates(config: Config, stage: Stage, shapes: StageShapes, platform: str = "tpu") -> tuple[Program, ...]:
    """The stage's programs, as `programs.programs` has them, without compiling any.

    Args:
      platform: whose compiler's habits are assumed, `tpu` or `gpu`.
    """
    return tuple(_programs(config, stage, shapes, platform))


def _programs(config: Config, stage: Stage, shapes: StageShapes, platform: str) -> Iterator[Program]:
    c, learner, sampler, of = config.model, config.mesh, config.layout_to_sample, shapes.of
    size = 2 if c.dtype == "bfloat16" else 4
    whole = _own(c, learner)
    trained = whole if config.lora is None else adapter_parameters(c, config.lora) / learner.fsdp
    params, moments = 4 * trained, (8 if stage.optimizer.moments == "float32" else 4) * trained
    base = {} if config.lora is None else {"base": size * whole}
    moves = config.layout_to_sample != learner
    copied = _own(c, sampler) if moves or config.lora is None else trained
    copy = size * copied if moves or size == 2 else 0
    reference = params if stage.has_reference and stage.reference_on == "device" else 0
    always = {"optimizer": moments, "reference": reference}
    make = lambda phase, times, parts, other, beside: Program(
        stage=stage.name, phase=phase, times=times, compiled=False, parts=_whole(parts), beside=_whole(beside),
        peak_bytes=int(sum(parts.values()) + other),
    )  # fmt: skip
    held = always | ({"parameters": params} if copy else {})
    if copy:
        parts = {"parameters": params, "sampler's copy": copy}
        if moves:
            parts |= base
        yield make("reshard", 1, parts, copy if moves else 0, always | ({} if moves else base))
    cap, calls = stage.sampling.max_new_tokens, shapes.sheets * shapes.rounds
    jobs = of.jobs * calls
    step = {"completions": 20 * jobs * cap, "trunk": 5 * shapes.of.trunk_tokens * shapes.rounds}
    sampled = (copy or params) + (base.get("base", 0) if not moves else 0)
    if calls:
        rows, tokens, at_once = of.prompt_rows, of.prompt_tokens, (stage.rows or config.rows).at_once
        queue = queued(config, rows=rows, tokens=tokens, jobs=of.slots, cap=cap, at_once=at_once)
        yield make(
            "sample", calls, _caches(config, rows, tokens, queue) | {"sampler's parameters": sampled},
            _sampler_other(c, sampler, rows, tokens, queue.slots, platform), held,
        )  # fmt: skip
        yield make("weigh", shapes.rounds, step, 0, always | base | {"parameters": params})
    again = {"replayed state": params + moments} if config.survive.replay_every else {}
    rows = max(of.rows)
    batch = 40 * rows * of.tokens / learner.row_parts
    yield make("fill", shapes.batches, step | {"batch": batch}, 0, always | base | again | {"parameters": params})
    needs, others = stage.objective.needs, {"batches": batch * (shapes.batches - 1)}
    scoring = needs.reference + needs.reference_to_weigh + (stage.behavior_logp == "recompute")
    if scoring:
        parts = base | {"parameters": params, "batch": batch}
        other = logits(c, learner, rows, of.tokens) + _layer(c, learner, rows, of.tokens)
        yield make("score", shapes.batches * scoring, parts, other, always | again | step | others)
    beside = always | again | step | others | ({"summed gradients": params} if shapes.batches > 1 else {})
    parts = base | {"parameters": params, "gradient": params, "batch": batch}
    updates = stage.updates_per_rollout
    yield make("gradient", shapes.batches * updates, parts, gradient_other(config, rows, of.tokens, platform), beside)
    parts = {"parameters": params, "optimizer": moments, "gradient": params}
    yield make("update", updates * stage.minibatches, parts, 0, base | again | {"reference": reference})
    call = evaluation_call(stage, shapes)
    if call is not None:
        rows = shapes.evaluate_rows
        queue = queued(config, rows=rows, tokens=call.tokens, jobs=call.jobs, cap=call.cap)
        yield make(
            "evaluation", math.ceil(stage.validate.problems / rows),
            _caches(config, rows, call.tokens, queue) | {"sampler's parameters": sampled},
            _sampler_other(c, sampler, rows, call.tokens, queue.slots, platform), held,
        )  # fmt: skip


def _whole(parts: dict[str, float]) -> dict[str, int]:
    return {name: int(size) for name, size in parts.items() if size}


def _own(c: ModelConfig, layout: MeshShape) -> float:
    """Parameters on a device: its parts of the matrices, and all vectors."""
    return (parameter_count(c) - vectors(c)) / _parts(c, layout) + vectors(c)


def _parts(c: ModelConfig, layout: MeshShape) -> float:
    """Into how many parts parameters are cut; a table whose vocabulary `tensor` does not divide is cut less."""
    tensor = layout.tensor
    if c.vocab % tensor:
        table = c.vocab * c.width * (1 if c.tied else 2) / parameter_count(c)
        tensor = 1 / (table + (1 - table) / tensor)
    return layout.fsdp * tensor


def _caches(config: Config, rows: int, tokens: int, queue: Queued) -> dict[str, float]:
    c, layout = config.model, config.layout_to_sample
    size, heads = (
        2 if c.dtype == "bfloat16" else 4,
        c.kv_heads / (layout.tensor if c.kv_heads % layout.tensor == 0 else 1),
    )
    own = 2 * size * c.layers * heads * c.head_width * rows / layout.row_parts
    return {
        "prompt cache": own * tokens, "slots' cache": own * queue.columns,
        "completions": 8 * rows * queue.written / layout.row_parts, "prompts": 16 * rows * tokens / layout.row_parts,
    }  # fmt: skip


def _sampler_other(c: ModelConfig, layout: MeshShape, rows: int, tokens: int, slots: int, platform: str) -> float:
    """Logits with noise, and of the prefill a part of a chunk's activations; TPUs turn the table around."""
    size, own = 2 if c.dtype == "bfloat16" else 4, rows / layout.row_parts
    tokens = chunk_size(max(int(own), 1), tokens)
    table = size * c.vocab * c.width / layout.tensor if platform == "tpu" else 0
    return 1.25 * 4 * own * slots * c.vocab / layout.tensor + table + _layer(c, layout, rows, tokens) / 4


def logits(c: ModelConfig, layout: MeshShape, rows: int, tokens: int) -> float:
    """Of a chunk, in float32."""
    return 4 * min(rows / layout.row_parts * tokens, CHUNK) * c.vocab / layout.tensor


def _layer(c: ModelConfig, layout: MeshShape, rows: int, tokens: int) -> float:
    """Activations of one layer while it works: of the MLP at its widest, and of attention."""
    size, own = 2 if c.dtype == "bfloat16" else 4, rows / layout.row_parts * tokens
    queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
    return own * size * (2 * c.width + (2 * c.mlp_width + 2 * queries + 2 * keys) / layout.tensor)


def kept(c: ModelConfig, layout: MeshShape) -> float:
    """Bytes of a token that the backward pass finds of all layers."""
    size, queries, keys = 2 if c.dtype == "bfloat16" else 4, c.heads * c.head_width, c.kv_heads * c.head_width
    attended = queries / layout.tensor
    dots = (queries + 2 * keys + 2 * c.mlp_width) / layout.tensor + 2 * c.width
    layer = {"full": c.width + attended, "dots": c.width + attended + dots, "none": 2 * dots + 4 * c.width + attended}
    return size * c.layers * layer[c.remat]


def gradient_other(config: Config, rows: int, tokens: int, platform: str) -> float:
    """Of the gradient of a batch, beside its arguments and result. CUDA's gathers and scatters the head at once."""
    c, layout = config.model, config.mesh
    head = 4 * c.vocab * c.width / layout.tensor if config.lora is None else 0
    own = rows / layout.row_parts * tokens
    found = own * kept(c, layout) + logits(c, layout, rows, tokens) + max(head, _layer(c, layout, rows, tokens))
    return found + (1.5 * head if platform == "gpu" and layout.fsdp > 1 else 0)
