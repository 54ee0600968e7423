"""A policy of a run, with what it takes to sample from it: for `eval` and `sample`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxsrl.checkpoint import Checkpoints, PolicyName, parse_old
from jaxsrl.config.overrides import check_unchanged, to_dict
from jaxsrl.config.run import Config, Stage, TaskData
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.models.lora import frozen
from jaxsrl.policy import Compiled, Policy, load_base, make_placement, make_policy, trained_shapes
from jaxsrl.runs import RunError, check_base, read_json
from jaxsrl.sharding import placed_shapes
from jaxsrl.stages.begin import load_data
from jaxsrl.stages.material import Material


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A policy with the stage and data it is used with."""

    name: str
    policy: Policy
    stage: Stage
    splits: TaskData
    material: Material


def load_policy(config: Config, name: str | None) -> Saved:
    """A saved policy of the run that `config` names, see `choose_policy`.

    Raises: RunError naming those that exist.
    """
    folder = Path(config.runs) / config.name
    saved = read_json(folder / "config.json")
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        check_unchanged(saved, to_dict(config), folder)
        chosen = choose_policy(checkpoints, [stage.name for stage in config.stages], name)
        stage = next(s for s in config.stages if s.name == chosen.stage)
        splits, tokenizer, model = load_data(config)
        placement, compiled = make_placement(config.mesh, config.layout_to_sample), Compiled()
        base = None
        if config.lora is not None:
            starts = {one.name: one.start_from for one in config.stages}
            base = load_base(model, starts, stage.name, config.seed, config.weights, placement.mesh)
            if config.weights is not None:
                check_base(folder, base, config.weights)
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
    return Saved(name=str(chosen), policy=policy, stage=stage, splits=splits[stage.name], material=material)


def choose_policy(checkpoints: Checkpoints, stages: Sequence[str], text: str | None) -> PolicyName:
    """The saved policy that a user names: `STAGE`, `STAGE:last` or `STAGE:best`; None takes the newest stage's last.

    `STAGE-last` and `STAGE-best-STEP`, the spelling of version 0.1, are read for one version more, and it is said.

    Args:
      stages: names of the run's stages, in their order.
    Raises: RunError if there is no such policy, or the old spelling is also the name of a stage.
    """
    if text is None:
        there = [p for stage in stages for p in checkpoints.policies() if p == PolicyName(stage, "last")]
        if not there:
            raise RunError(f"{checkpoints.folder.parent} has no policy of a stage that ended yet")
        return there[-1]
    old = parse_old(text, stages)
    if old is not None and text in stages:
        raise RunError(f"{text!r} may be {old} in the old spelling, or {text}:last: name one of these")
    if old is not None:
        print(f"note: {text!r} is an old spelling that goes with the next version; write {old}", file=sys.stderr)
    try:
        return checkpoints.find(old or PolicyName.parse(text))
    except (ValueError, FileNotFoundError) as error:
        known = ", ".join(map(str, checkpoints.policies())) or "none yet"
        raise RunError(f"{checkpoints.folder.parent} has no policy {text!r}; there are: {known}") from error
