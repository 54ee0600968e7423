"""Whether a run fits its devices, what bounds its speed, and what would mend it where it does not fit."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxsrl.clusters.advice import Setting, settings_that_help
from jaxsrl.clusters.compile import INSTALL, PACKAGE, Effort, Program, compile_program, describe_devices, has_compiler
from jaxsrl.clusters.hardware import GIB, Hardware
from jaxsrl.clusters.memory import estimates
from jaxsrl.clusters.placed import place
from jaxsrl.clusters.programs import programs
from jaxsrl.clusters.roofline import Speed, speed
from jaxsrl.clusters.shapes import StageShapes, stage_shapes
from jaxsrl.config.run import Config, Stage

SHARE = 0.92  # of a device's memory that a plan may fill: the rest is for fragments and what a compiler changes


class DoesNotFit(ValueError):
    """A run needs more memory than a device has; the message says how much, and what to change."""


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """Of one stage."""

    stage: str
    shapes: StageShapes
    programs: tuple[Program, ...]
    speed: Speed

    @property
    def worst(self) -> Program:
        """The program that needs the most memory, with all that lies beside it."""
        return max(self.programs, key=lambda one: one.needed_bytes)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Of a run.

    Args:
      compiled: whether compilers were asked; else all is estimated by formula.
      source: who says so, in words.
    """

    name: str
    devices: Hardware
    stages: tuple[StagePlan, ...]
    compiled: bool
    source: str

    @property
    def worst(self) -> Program:
        return max((stage.worst for stage in self.stages), key=lambda one: one.needed_bytes)

    @property
    def needed_bytes(self) -> int:
        """On each device."""
        return self.worst.needed_bytes

    @property
    def seconds(self) -> float:
        """Of the whole run, at the roofline."""
        return sum(stage.speed.run_seconds for stage in self.stages)

    def missing_bytes(self, share: float = SHARE) -> int:
        return max(0, self.needed_bytes - int(share * self.devices.chip.hbm_bytes))

    def to_json(self) -> dict[str, Any]:
        """Numbers alone: bytes, seconds, FLOPs."""
        chip = asdict(self.devices.chip)
        return {
            "name": self.name, "devices": asdict(self.devices) | {"chip": chip, "count": self.devices.devices},
            "compiled": self.compiled, "source": self.source, "needed_bytes": self.needed_bytes,
            "hbm_bytes": self.devices.chip.hbm_bytes, "run_seconds": self.seconds,
            "chip_hours": self.seconds / 3600 * self.devices.devices, "stages": [_stage_json(x) for x in self.stages],
        }  # fmt: skip


def _stage_json(found: StagePlan) -> dict[str, Any]:
    programs = [
        asdict(one) | {"other_bytes": one.other_bytes, "needed_bytes": one.needed_bytes} for one in found.programs
    ]
    phases = [asdict(one) | {"bound": one.bound, "least_seconds": one.least_seconds} for one in found.speed.phases]
    whole = {
        name: getattr(found.speed, name)
        for name in ("step_seconds", "run_seconds", "tokens", "tokens_per_second", "mfu")
    }
    return {
        "stage": found.stage, "shapes": asdict(found.shapes), "programs": programs, "phases": phases, "speed": whole,
    }  # fmt: skip


def check(plan: Plan, config: Config, share: float = SHARE) -> None:
    """Raises: DoesNotFit, naming the program that needs the most, what is missing, and three settings that help."""
    missing = plan.missing_bytes(share)
    if not missing:
        return
    worst, hbm = plan.worst, plan.devices.chip.hbm_bytes
    refused = f" (the compiler: {worst.refused[:160]})" if worst.refused else ""
    raise DoesNotFit(
        f"{plan.name} does not fit {plan.devices.name}: stage {worst.stage}, program {worst.phase!r} needs "
        f"{worst.needed_bytes / GIB:.2f} GiB on each {plan.devices.chip.kind}, and {share:.0%} of "
        f"{hbm / GIB:.2f} GiB may be filled: {missing / GIB:.2f} GiB are missing{refused}.\n"
        + advice(settings_that_help(config, worst, missing, plan.devices.chip.platform), missing)
    )


def advice(settings: list[Setting], missing: int) -> str:
    """The settings as lines to copy."""
    if not settings:
        return "No single setting helps: take more devices, or chips with more memory."
    lines = [
        f"  --set {' --set '.join(one.assignments)}    saves {one.saved_bytes / GIB:.2f} GiB"
        + (", and it fits" if one.saved_bytes >= missing else "")
        + (f", on {one.devices} times the devices" if one.devices > 1 else "")
        for one in settings
    ]
    return "\n".join(["What would help (by formula):", *lines])


def make_plan(
    config: Config, devices: Hardware, *, compiled: bool = True, effort: Effort = "full", cache: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Plan:  # fmt: skip
    """Compiles the programs of every stage for the devices; estimates them where `compiled` is false.

    A program that cannot fit by a wide margin is not compiled: its estimate is what is shown.

    Args:
      cache: see `compile_program`. say: is told which program is being compiled.
    Raises: ValueError for a mesh that does not take the devices, and where the compiler is asked for and missing.
    """
    check_mesh(config, devices)
    made = []
    there = describe_devices(devices) if compiled else []
    for stage in config.stages:
        shapes = stage_shapes(config, stage)
        found = estimates(config, stage, shapes, devices.chip.platform)
        if compiled and max(one.needed_bytes for one in found) < 2 * devices.chip.hbm_bytes:
            found = _compiled(config, stage, shapes, devices, there, effort, cache, say)
        made.append(StagePlan(
            stage=stage.name, shapes=shapes, programs=found, speed=speed(config, stage, shapes, devices, found),
        ))  # fmt: skip
    return Plan(
        name=config.name, devices=devices, stages=tuple(made), compiled=compiled,
        source=_source(devices, compiled, effort),
    )  # fmt: skip


def _compiled(
    config: Config, stage: Stage, shapes, devices: Hardware, there, effort, cache, say
) -> tuple[Program, ...]:
    placed = place(config, stage, shapes, there)
    found = []
    for wanted in programs(placed):
        say(f"[{stage.name}] compiling {wanted.phase} for {devices.name}")
        found.append(compile_program(wanted, devices, effort, cache))
    return tuple(found)


def check_mesh(config: Config, devices: Hardware) -> None:
    """Raises: ValueError where the mesh does not take all devices, or `dcn` does not follow the slices."""
    layout, count = config.mesh, devices.devices
    slices = devices.groups if devices.chip.platform == "tpu" else 1
    if layout.size != count or layout.dcn % slices:
        raise ValueError(
            f"{devices.described()}: the mesh {layout} takes {layout.size} devices in {layout.dcn} slices; set for "
            f"example --set mesh.dcn={slices} --set mesh.data=1 --set mesh.fsdp={count // slices} --set mesh.tensor=1"
        )


def _source(devices: Hardware, compiled: bool, effort: str) -> str:
    if compiled:
        package = PACKAGE[devices.chip.platform]
        return (
            f"compiled by {package}, {effort} effort"
            if package == "libtpu"
            else f"compiled by XLA for CUDA ({package})"
        )
    platform = devices.chip.platform
    if has_compiler(devices):
        return "estimated by formula (--estimate)"
    missing, command = PACKAGE[platform], INSTALL[platform]
    return f"ESTIMATED by formula, as {missing} is not installed; for the compiler's own figures: {command}"
