"""Layouts of a run on given devices, ranked by formula; and how a layout scales."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxsrl.clusters.hardware import CORES, TOPOLOGIES, Hardware, hardware
from jaxsrl.clusters.plan import SHARE, Plan, make_plan
from jaxsrl.config.overrides import override
from jaxsrl.config.run import Config
from jaxsrl.models.config import ModelConfig

REMAT = ("none", "dots", "full")
ROWS = (1, 2, 4, 8)  # of a device's part of a batch


@dataclass(frozen=True, kw_only=True)
class Found:
    """A layout that fits by formula."""

    assignments: tuple[str, ...]
    step_seconds: float
    needed_bytes: int


def search(config: Config, devices: Hardware, share: float = SHARE) -> list[Found]:
    """Every mesh x sampler mesh x remat x rows that fits by formula, the fastest first.

    Raises: ValueError if none fits.
    """
    found = []
    for assignments in layouts(config, devices):
        try:
            changed = override(config, assignments)
            plan = make_plan(changed, devices, compiled=False)
        except ValueError:  # a combination that the config refuses
            continue
        if not plan.missing_bytes(share):
            seconds = sum(x.speed.step_seconds for x in plan.stages)
            found.append(Found(assignments=assignments, step_seconds=seconds, needed_bytes=plan.needed_bytes))
    if not found:
        raise ValueError(f"no layout of {config.name} fits {devices.name} by formula: take more devices, or LoRA")
    return sorted(found, key=lambda one: (one.step_seconds, one.needed_bytes))


def layouts(config: Config, devices: Hardware) -> Iterator[tuple[str, ...]]:
    """Assignments that make each layout, with rows that it divides."""
    dcn = devices.groups if devices.chip.platform == "tpu" else 1
    inside = devices.devices // dcn
    samplers = [
        (f"sampler_mesh.dcn={dcn}", f"sampler_mesh.data={inside // tensor}", "sampler_mesh.fsdp=1",
         f"sampler_mesh.tensor={tensor}", inside // tensor)
        for tensor in _tensor(config.model, inside)
    ]  # fmt: skip
    for tensor in _tensor(config.model, inside):
        for fsdp in (n for n in range(1, inside // tensor + 1) if inside // tensor % n == 0):
            data = inside // tensor // fsdp
            mesh = (f"mesh.dcn={dcn}", f"mesh.data={data}", f"mesh.fsdp={fsdp}", f"mesh.tensor={tensor}")
            for *sampler, parts in samplers:
                called = [f"rows.{name}={_multiple(getattr(config.rows, name), dcn * parts)}"
                          for name in ("prompt_rows", "evaluate_rows")]  # fmt: skip
                for remat in REMAT:
                    for rows in ROWS:
                        yield (
                            *mesh,
                            *sampler,
                            *called,
                            f"model.remat={remat}",
                            f"rows.rows={dcn * data * fsdp * rows}",
                        )


def _tensor(model: ModelConfig, most: int) -> list[int]:
    return [n for n in (1, 2, 4, 8, 16) if most % n == 0 and model.kv_heads % n == 0 and model.vocab % n == 0]


def _multiple(value: int | None, parts: int) -> int:
    return max(1, math.ceil((value or 1) / parts)) * parts


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """A layout on so many chips, each with the same work.

    Args:
      overlapped: tokens/s of a chip where transfers hide behind products. apart: where nothing overlaps.
      link_seconds: of a step, that collectives take.
    """

    chips: int
    overlapped: float
    apart: float
    link_seconds: float


def weak_scaling(config: Config, chip: str, counts: Sequence[int]) -> list[Scaled]:
    """Parameters cut over all chips, rows and demonstrations in proportion to them, by formula.

    Args:
      chip: as `v5p`. counts: of chips, the first one the measure.
    Raises: ValueError for a number of chips that is no slice.
    """
    names = {devices.devices: devices.name for devices in _slices(chip)}
    missing = [count for count in counts if count not in names]
    if missing:
        raise ValueError(f"{missing[0]} chips are no slice of {chip}; there are: {', '.join(map(str, sorted(names)))}")
    out, each = [], config.mesh.row_parts
    for count in counts:
        rows, there = config.rows.rows // each * count, max(1, config.rows.prompt_rows // each) * count
        stages = [
            f"stages.{stage.name}.collect.{name}={max(1, getattr(stage.collect, name) * count // each)}"
            for stage in config.stages for name in ("demonstrations", "prompts") if getattr(stage.collect, name)
        ]  # fmt: skip
        grown = override(config, (
            "mesh.dcn=1", "mesh.data=1", f"mesh.fsdp={count}", "mesh.tensor=1", "sampler_mesh.dcn=1",
            "sampler_mesh.fsdp=1", "sampler_mesh.tensor=1", f"sampler_mesh.data={count}", f"rows.rows={rows}",
            f"rows.prompt_rows={there}", f"rows.evaluate_rows={there}", *stages,
        ))  # fmt: skip
        out.append(_scaled(make_plan(grown, hardware(names[count]), compiled=False), count))
    return out


def _scaled(plan: Plan, chips: int) -> Scaled:
    phases = [one for stage in plan.stages for one in stage.speed.phases if one.phase != "evaluation"]
    tokens, apart = sum(x.speed.tokens for x in plan.stages), sum(x.times * sum(x.seconds.values()) for x in phases)
    links = sum(x.times * (sum(x.seconds.values()) - x.seconds["compute"] - x.seconds["memory"]) for x in phases)
    step = sum(x.speed.step_seconds for x in plan.stages)
    return Scaled(
        chips=chips, overlapped=tokens / step / chips, apart=tokens / apart / chips, link_seconds=links
    )  # fmt: skip


def _slices(chip: str) -> list[Hardware]:
    if chip not in TOPOLOGIES:
        raise ValueError(f"weak scaling is counted for slices of TPUs: {', '.join(TOPOLOGIES)}; got {chip!r}")
    return [hardware(f"{chip}-{chips * CORES[chip]}") for chips in TOPOLOGIES[chip]]
