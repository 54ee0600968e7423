"""Settings that lower what a run needs of a device's memory, with what each would save by formula."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxsrl.clusters.compile import Program
from jaxsrl.clusters.memory import estimates
from jaxsrl.clusters.shapes import stage_shapes
from jaxsrl.config.overrides import override
from jaxsrl.config.run import Config, Stage

MOST = 3


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One change of a config.

    Args:
      assignments: as `--set` takes them. saved_bytes: on each device, of the program that needs the most.
      devices: that it takes, times those of now.
    """

    assignments: tuple[str, ...]
    saved_bytes: int
    devices: int = 1


def settings_that_help(config: Config, worst: Program, missing: int, platform: str) -> list[Setting]:
    """The three settings that save most, those first that mend it alone.

    Args:
      worst: the program that needs the most. missing: bytes. platform: as `memory.estimates` takes it.
    """
    before, found = _needed(config, platform), []
    for assignments in candidates(config, next(x for x in config.stages if x.name == worst.stage)):
        try:
            changed = override(config, assignments)
            saved = before - _needed(changed, platform)
        except ValueError:  # a combination that the config refuses
            continue
        if saved > 0:
            times = changed.mesh.size // config.mesh.size
            found.append(Setting(assignments=assignments, saved_bytes=saved, devices=times))
    mends = lambda one: one.saved_bytes >= missing
    return sorted(found, key=lambda one: (not mends(one), -one.saved_bytes))[:MOST]


def candidates(config: Config, stage: Stage) -> Iterator[tuple[str, ...]]:
    """Changes that are worth asking about, whether they apply or not."""
    rows, where = stage.rows or config.rows, "rows" if stage.rows is None else f"stages.{stage.name}.rows"
    mesh, there = config.mesh, config.layout_to_sample
    if config.model.remat != "full":
        yield ("model.remat=full",)
    for name, parts in (
        ("rows", mesh.row_parts), ("tokens", mesh.tensor), ("prompt_rows", there.row_parts), ("slots", 1),
        ("evaluate_rows", there.row_parts), ("evaluate_slots", 1),
    ):  # fmt: skip
        value = getattr(rows, name)
        half = value // 2 // parts * parts if value else 0
        if half:
            yield (f"{where}.{name}={half}",)
    if stage.optimizer.moments == "float32":
        yield (f"stages.{stage.name}.optimizer.moments=bfloat16",)
    if stage.has_reference and stage.reference_on == "device":
        yield (f"stages.{stage.name}.reference_on=host",)
    if mesh.data > 1 and mesh.data % 2 == 0:
        yield f"mesh.data={mesh.data // 2}", f"mesh.fsdp={mesh.fsdp * 2}"
    if there.data % 2 == 0 and config.sampler_mesh.size > 1 and config.model.kv_heads % (2 * there.tensor) == 0:
        yield f"sampler_mesh.data={there.data // 2}", f"sampler_mesh.tensor={there.tensor * 2}"
    if config.lora is None:
        yield ("lora.rank=32",)
    yield _twice(config, rows, where)  # on twice as many devices


def _twice(config: Config, rows, where: str) -> tuple[str, ...]:
    mesh, there = config.mesh, config.sampler_mesh
    more = [f"mesh.fsdp={mesh.fsdp * 2}"]
    if there.size > 1:
        more.append(f"sampler_mesh.data={there.data * 2}")
    for name in ("rows", "prompt_rows", "evaluate_rows"):
        value, parts = getattr(rows, name), 2 * (mesh if name == "rows" else config.layout_to_sample).row_parts
        if value % parts:
            more.append(f"{where}.{name}={-(-value // parts) * parts}")
    return tuple(more)


def _needed(config: Config, platform: str) -> int:
    """Bytes of the program that needs the most."""
    found = [one for stage in config.stages for one in estimates(config, stage, stage_shapes(config, stage), platform)]
    return max(one.needed_bytes for one in found)
