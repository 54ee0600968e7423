"""A stage laid out on devices that need not be there."""

from dataclasses import dataclass, replace

import jax
from jax.sharding import Mesh

from jaxsrl.clusters.shapes import StageShapes
from jaxsrl.config.run import Config, Stage
from jaxsrl.models.config import ModelConfig
from jaxsrl.rewards.similarity import DEFAULT_WHERE, ActionSimilarity
from jaxsrl.sharding import AXES, arrange, relayout
from jaxsrl.types import Objective


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A stage on its devices, before a program is made of it."""

    config: Config
    stage: Stage
    shapes: StageShapes
    mesh: Mesh
    there: Mesh  # the sampler's
    moves: bool

    @property
    def model(self) -> ModelConfig:
        return self.config.model


def place(config: Config, stage: Stage, shapes: StageShapes, devices: list[jax.Device]) -> Placed:
    """Lays a stage out on devices, of which one is a mesh too, for it names the platform.

    Raises: ValueError if the mesh does not take them all, with the settings that would.
    """
    layout = config.mesh
    if layout.size != len(devices):
        raise ValueError(
            f"these are {len(devices)} devices and the config's mesh takes {layout.size}: --set mesh.fsdp="
            f"{len(devices)}, or cut it otherwise with mesh.data, mesh.tensor and mesh.dcn"
        )
    mesh = Mesh(arrange(layout, devices), AXES)
    objective = on_platform(stage.objective, devices[0].platform)
    moves = config.layout_to_sample != layout
    return Placed(
        config=config, stage=replace(stage, objective=objective), shapes=shapes, mesh=mesh,
        there=relayout(mesh, config.layout_to_sample), moves=moves,
    )  # fmt: skip


def on_platform(objective: Objective, platform: str) -> Objective:
    """The objective with a reward that is computed where it would be on that platform.

    On the device it is compiled with the backend `xla`, as the Pallas kernels refuse where their device is not there.
    """
    platform = "gpu" if platform == "cuda" else platform
    sampled = vars(objective).get("reward")
    if not isinstance(sampled, ActionSimilarity) or sampled.where is not None or DEFAULT_WHERE[platform] == "host":
        return objective
    try:
        there = replace(sampled, where="device", backend="xla")
    except ValueError:  # compares in a way that only the host can
        return objective
    return replace(objective, reward=there)
