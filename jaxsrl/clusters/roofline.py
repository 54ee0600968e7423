"""What bounds each phase of a step, and how long a run takes at the least.

A phase takes as long as the slowest of its three: products at the chip's peak, memory and links at theirs. Sums along
`tensor` come on top: the next product waits for them. Nothing reaches that: these are bounds, against which a measured
run can be held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxsrl.clusters import flops
from jaxsrl.clusters.compile import Program
from jaxsrl.clusters.hardware import Hardware, axis_link
from jaxsrl.clusters.queueing import queued
from jaxsrl.clusters.shapes import StageShapes, evaluation_call
from jaxsrl.clusters.traffic import (
    by_axes,
    decode_memory,
    gradient_memory,
    gradient_sent,
    products,
    reshard_sent,
    sample_sent,
    update_memory,
)
from jaxsrl.config.run import Config, Stage
from jaxsrl.models.config import parameter_count


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase on one device.

    Args:
      times: in an optimizer step, or in one evaluation.
      flops, memory_bytes: of one run. sent: link -> bytes, of one run.
      seconds: of `compute`, `memory` and each link alone; `tensor` of what nothing hides, whatever its link.
      useful_flops: what MFU counts.
    """

    phase: str
    times: float
    flops: float
    useful_flops: float
    memory_bytes: float
    sent: Mapping[str, float]
    seconds: Mapping[str, float]

    @property
    def bound(self) -> str:
        """Which of `compute`, `memory` or the links takes longest."""
        return max(self.seconds, key=self.seconds.get)

    @property
    def least_seconds(self) -> float:
        """Of one run."""
        return max(value for name, value in self.seconds.items() if name != "tensor") + self.seconds.get("tensor", 0.0)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Of a stage, at the roofline.

    Args:
      step_seconds: of one optimizer step. run_seconds: of all, evaluations included.
      tokens: of one step, executed: prefilled, sampled, and learned from.
    """

    phases: tuple[Phase, ...]
    step_seconds: float
    run_seconds: float
    tokens: float
    mfu: float

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.step_seconds


def speed(config: Config, stage: Stage, shapes: StageShapes, devices: Hardware, programs: Sequence[Program]) -> Speed:
    """The roofline of a stage's programs; collectives of those that were compiled are the compiler's."""
    phases = tuple(_phase(config, stage, shapes, devices, one) for one in programs)
    of_step = [one for one in phases if one.phase != "evaluation"]
    step = sum(one.times * one.least_seconds for one in of_step)
    evaluated = sum(one.times * one.least_seconds for one in phases if one.phase == "evaluation")
    evaluations = stage.steps // stage.validate.every + 1 if stage.validate.every else 0
    useful = sum(one.times * one.useful_flops for one in of_step)
    steps = stage.steps / stage.steps_per_collection
    return Speed(
        phases=phases, step_seconds=step, run_seconds=steps * step + evaluations * evaluated,
        tokens=step_tokens(stage, shapes), mfu=useful / (step * devices.chip.flops) if step else 0.0,
    )  # fmt: skip


def step_tokens(stage: Stage, shapes: StageShapes) -> float:
    """Executed in a step, every completion as long as its cap."""
    calls = shapes.sheets * shapes.rounds
    sampled = calls * (shapes.of.prompt_rows * shapes.of.prompt_tokens + shapes.of.jobs * stage.sampling.max_new_tokens)
    return sampled + shapes.batches * max(shapes.of.rows) * shapes.of.tokens * stage.updates_per_rollout


def _phase(config: Config, stage: Stage, shapes: StageShapes, devices: Hardware, program: Program) -> Phase:
    layout, chip = config.mesh, devices.chip
    of_flops, useful, memory, sent = _work(config, stage, shapes, program)
    if program.compiled and not program.refused:
        sent = by_axes(program.collectives)
    of = config.layout_to_sample if program.phase in ("sample", "evaluation") else layout
    sizes = {"dcn": of.dcn, "data": of.data, "fsdp": of.fsdp, "tensor": of.tensor}
    links: dict[str, float] = {}
    rates = {"network": chip.network_rate, "ici": chip.link_rate, "nvlink": chip.link_rate}
    seconds = {"compute": of_flops / chip.flops, "memory": memory / chip.hbm_rate}
    for axes, size in sent.items():
        link = axis_link(chip, devices.groups, axes, sizes)
        links[link] = links.get(link, 0.0) + size
        name = "tensor" if "tensor" in axes else link
        seconds[name] = seconds.get(name, 0.0) + size / rates[link]
    return Phase(
        phase=program.phase, times=program.times, flops=of_flops, useful_flops=useful, memory_bytes=memory, sent=links,
        seconds=seconds,
    )  # fmt: skip


def _work(config: Config, stage: Stage, shapes: StageShapes, program: Program):
    """(FLOPs, useful ones, bytes of memory, axes -> bytes from others) of one device, by formula."""
    c, layout, sampler, lora = config.model, config.mesh, config.layout_to_sample, config.lora
    of, cap, n = shapes.of, stage.sampling.max_new_tokens, layout.size
    moved = float(sum(program.parts.values()))
    trained = parameter_count(c) if lora is None else flops.adapter_parameters(c, lora)
    rows = max(of.rows)
    tokens = rows * of.tokens
    pairs = tokens * (of.prompt_tokens + cap) / 2  # a token sees half of a prompt and half of a completion on average
    match program.phase:
        case "gradient":
            made = flops.gradient(c, tokens, tokens, pairs, lora) / n
            useful = flops.useful_gradient(c, tokens, tokens, pairs, lora) / n
            try:
                sent = gradient_sent(c, layout, rows, of.tokens, trained / parameter_count(c))
            except ValueError:  # heads or vocabulary that the tensor axis does not divide
                sent = {}
            return made, useful, gradient_memory(c, layout, rows, of.tokens, lora), sent
        case "score":
            made = flops.score(c, tokens, tokens, pairs, lora) / n
            return made, made, products(c, layout, tokens / layout.row_parts), {}
        case "update":
            size = 4 if stage.optimizer.moments == "float32" else 2
            return 0.0, 0.0, update_memory(trained / (layout.fsdp * layout.tensor), size), {}
        case "reshard":
            return 0.0, 0.0, moved, reshard_sent(c, layout, sampler)
        case "sample" | "evaluation":
            calls, jobs, length, prompt, at_once = (
                of.prompt_rows, of.slots, cap, of.prompt_tokens, (stage.rows or config.rows).at_once
            )  # fmt: skip
            if program.phase == "evaluation":
                calls, (jobs, length, prompt), at_once = shapes.evaluate_rows, evaluation_call(stage, shapes), None
            queue = queued(config, rows=calls, tokens=prompt, jobs=jobs, cap=length, at_once=at_once)
            filled = calls * prompt
            made = flops.forward(c, filled, filled * prompt / 2, lora)
            made = (made + flops.decode(c, calls, prompt, jobs, length, lora)) / n
            memory = queue.rounds * decode_memory(c, sampler, calls, prompt, queue.slots, length)
            memory += products(c, sampler, filled / sampler.row_parts)
            sent = sample_sent(c, sampler, calls * queue.slots, length)
            return made, made, memory, {axes: queue.rounds * size for axes, size in sent.items()}
    return 0.0, 0.0, moved, {}
