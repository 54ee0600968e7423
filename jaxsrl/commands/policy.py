"""A policy of a run, with what it takes to sample from it: for `eval` and `sample`."""

from dataclasses import dataclass
from pathlib import Path

from jaxsrl.checkpoint import Checkpoints
from jaxsrl.config.overrides import check_unchanged, to_dict
from jaxsrl.config.run import Config, Splits, Stage
from jaxsrl.programs import Programs
from jaxsrl.runs import RunError, read_json
from jaxsrl.sharding import placed_shapes
from jaxsrl.train import load_data
from jaxsrl.types import Params


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Parameters with the stage, data and compiled functions they are used with."""

    name: str
    params: Params
    stage: Stage
    splits: Splits
    programs: Programs


def load_policy(config: Config, name: str | None) -> Policy:
    """A saved policy of the run that `config` names: `STAGE-last`, `STAGE-best-STEP`; None takes the newest stage's.

    Raises: RunError naming those that exist.
    """
    folder = Path(config.runs) / config.name
    check_unchanged(read_json(folder / "config.json"), to_dict(config), folder)
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        there = checkpoints.policies()
        order = [f"{stage.name}-last" for stage in config.stages if f"{stage.name}-last" in there]
        chosen = name or (order[-1] if order else None)
        if chosen not in there:
            raise RunError(f"{folder} has no policy {chosen!r}; there are: {', '.join(there) or 'none yet'}")
        stage = next(s for s in config.stages if chosen.startswith((f"{s.name}-last", f"{s.name}-best-")))
        splits, tokenizer, model = load_data(config)
        programs = Programs(config, model, tokenizer)
        programs.load_base(stage.name)
        params = checkpoints.restore_policy(chosen, placed_shapes(programs.mesh, programs.shapes()))
    finally:
        checkpoints.close()
    return Policy(name=chosen, params=params, stage=stage, splits=splits[stage.name], programs=programs)
