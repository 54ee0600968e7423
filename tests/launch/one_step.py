"""One step of SFT on two devices, with two problems to validate on: what real processes of a launch have to reach."""

from dataclasses import replace
from pathlib import Path

from jaxsrl.config import Config
from jaxsrl.config.overrides import load
from jaxsrl.sharding import MeshShape


def config() -> Config:
    many = load(Path(__file__).parents[1] / "process_config.py")
    (sft,) = (replace(stage, steps=1, test=None) for stage in many.stages if stage.name == "sft")
    return replace(many, mesh=MeshShape(fsdp=2), stages=(sft,))
