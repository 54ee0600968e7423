"""A policy that can be asked: of a run, or a published model's. For `eval` and `sample`."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from jaxsrl.checkpoint import Checkpoints, fingerprint
from jaxsrl.commands.run_folder import check_run, choose_policy
from jaxsrl.config.demonstrations import config_tokenizer
from jaxsrl.config.overrides import check_unchanged, load, override, to_dict
from jaxsrl.config.run import Config, Stage, TaskData
from jaxsrl.config.saved import model_from, saved_config
from jaxsrl.data.chat import Template
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.lora import frozen
from jaxsrl.policy import Compiled, Policy, load_base, make_placement, make_policy, trained_shapes
from jaxsrl.runs import check_base, read_json
from jaxsrl.sharding import MeshShape, placed_shapes
from jaxsrl.stages.begin import load_data
from jaxsrl.stages.material import Material


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A policy with what turns texts into its tokens.

    Args:
      name: for a person: which policy, of what.
      short: the same as part of a file's name.
      folder: of the run, or of the published model.
      rows: prompt rows of a call are a multiple of it.
    """

    name: str
    short: str
    folder: Path
    policy: Policy
    tokenizer: Tokenizer
    template: Template
    rows: int = 1


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A policy of a run with the stage and data it is used with; `splits` is None where they were not asked for."""

    name: str
    policy: Policy
    stage: Stage
    splits: TaskData | None
    material: Material

    def asked(self, config: Config) -> Asked:
        """The policy alone, without the stage's data."""
        return Asked(
            name=f"policy {self.name} of {config.name}", short=self.name, folder=Path(config.runs) / config.name,
            policy=self.policy, tokenizer=self.material.tokenizer, template=config.template,
            rows=config.layout_to_sample.row_parts,
        )  # fmt: skip


def named_config(path: Path, assignments: Iterable[str], own: Sequence[Any] = ()) -> tuple[Config, bool]:
    """The config of a file or of a run folder, with `key=value` applied; and whether it is a run's own.

    A run's own is read back from its `config.json`. Of it only what may change in a resumed run can be set.

    Args:
      own: what a folder does not keep, see `own_parts`.
    Raises: RunError naming the folder that is no run, and those beside it; ConfigError.
    """
    if path.suffix == ".py" or path.is_file():
        return override(load(path), assignments), False
    check_run(path)
    read = on_this_machine(saved_config(read_json(path / "config.json"), path, own))
    made = override(read, assignments)
    check_unchanged(to_dict(read), to_dict(made), path)
    return made, True


def on_this_machine(config: Config) -> Config:
    """The config with a mesh that these devices can form: what was trained on many is sampled from on one."""
    if config.mesh.size <= len(jax.devices()):
        return config
    print(
        f"note: the run's mesh has {config.mesh.size} devices, here are {len(jax.devices())}: one is used; --set "
        "mesh.fsdp=N takes more", file=sys.stderr,
    )  # fmt: skip
    return replace(config, mesh=MeshShape(), sampler_mesh=MeshShape())


def load_policy(
    config: Config, name: str | None, *, checked: bool = True, data: bool = True, compiled: Compiled | None = None
) -> Saved:
    """A saved policy of the run that `config` names, see `choose_policy`.

    Args:
      checked: compares the config with the run's own; False for one that was read back from it.
      data: loads the stage's demonstrations.
      compiled: programs that other policies share; None: this one has its own.
    Raises: RunError naming those that exist.
    """
    folder = Path(config.runs) / config.name
    check_run(folder)
    if checked:
        check_unchanged(read_json(folder / "config.json"), to_dict(config), folder)
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        chosen = choose_policy(checkpoints, [stage.name for stage in config.stages], name)
        stage = next(s for s in config.stages if s.name == chosen.stage)
        splits, tokenizer, model = _material(config, folder, data)
        placement, compiled = make_placement(config.mesh, config.layout_to_sample), compiled or Compiled()
        base = None
        if config.lora is not None:
            starts = {one.name: one.start_from for one in config.stages}
            base = load_base(model, starts, stage.name, config.seed, config.weights, placement.mesh)
            if config.weights is not None:
                check_base(folder, fingerprint(base), config.weights)
            base = frozen(model, base)
        like = placed_shapes(placement.mesh, trained_shapes(model, config.lora))
        params = checkpoints.restore_policy(chosen, like)
    finally:
        checkpoints.close()
    material = Material(
        model=model, tokenizer=tokenizer, token_bytes=token_bytes(tokenizer, config.template), placement=placement,
        compiled=compiled,
    )  # fmt: skip
    policy = make_policy(
        model, params, base, config.lora, placement, tokenizer.ends, compiled, known=tokenizer.vocab_size
    )  # fmt: skip
    part = None if splits is None else splits[stage.name]
    return Saved(name=str(chosen), policy=policy, stage=stage, splits=part, material=material)


def _material(config: Config, folder: Path, data: bool) -> tuple[dict[str, TaskData] | None, Tokenizer, ModelConfig]:
    """The stages' data where they are asked for, tokenizer and model. A vocabulary of used ids needs the data."""
    if data or config.used_ids_only:
        return load_data(config)
    return None, config_tokenizer(config), model_from(read_json(folder / "model.json"))
