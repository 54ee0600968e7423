"""A study as one value: a question, the arms that answer it, and what was fixed before the first run."""

import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from jaxsrl.config.overrides import override
from jaxsrl.config.run import Config, ConfigError
from jaxsrl.stores.objects import is_stored
from jaxsrl.studies.grid import Settings, label

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """The one number that a run says of an arm, the same for every arm: the mean of its last evaluations.

    Never the best one: the best of many noisy values is too high, and the more so the more there are.

    Args:
      metric: of an evaluation, as actions/exact; higher is better.
      split: whose evaluations; a stage has one on `test`, after its last step.
      last: evaluations that are averaged.
    """

    metric: str
    split: Literal["validation", "test"] = "validation"
    last: int = 3

    def __post_init__(self):
        if self.last < 1 or (self.split == "test" and self.last > 1):
            raise ValueError(f"last must be >= 1, and 1 on the test split, got last={self.last} split={self.split}")


@dataclass(frozen=True, kw_only=True)
class StopBelow:
    """Ends a run that is hopeless: whose metric in a stage is below a value at `after` optimizer steps or later.

    Its estimate is then the mean of what evaluations it has, and the page says so.
    """

    stage: str
    metric: str
    below: float
    after: int


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A change whose effect is asked for.

    Args:
      settings: key -> value on top of the study's base, as `--set` takes them.
      config: another base for this arm, where a setting cannot say what changes (an objective, a reward).
      stage: whose evaluations count; None is the last one's. Arms that differ in this alone share their runs.
      seeds: other than the study's.
      against: the arm that it is compared with; None is the study's anchor.
    """

    name: str
    settings: Settings = field(default_factory=dict)
    config: Config | None = None
    stage: str | None = None
    seeds: tuple[int, ...] | None = None
    against: str | None = None


@dataclass(frozen=True, kw_only=True)
class Study:
    """What `study()` of a study's file returns.

    Args:
      question: in one sentence; the page begins with it.
      fixed: what was settled before the first run, and how: learning rates, budgets, sizes.
      base: the config that the arms change. `runs` is where the study's folder is made.
      anchor: the arm that the others are compared with, seed by seed, where they name no other.
      repeats: arms that are the anchor again with other noise, as another stage with its settings. What differs between
        them is the noise floor. Without any, the anchor's own seeds give it, which is wider: they differ in their base.
      smallest_effect: difference of the estimator below which an arm does not matter.
      stop: a rule that ends runs early; None lets all run to their end.
      population: runs at most that are trained as one program, where they differ in seed and numbers alone; 1 trains
        each by itself, None takes MEMBERS of the backend. With a rule that ends runs early each is trained by itself.
      interval: how a difference's interval is made; the bootstrap needs 6 seeds.
      power: with which an effect should be seen, for the number of seeds that is asked for.
    """

    name: str
    question: str
    fixed: str
    base: Config
    arms: tuple[Arm, ...]
    anchor: str
    seeds: tuple[int, ...]
    estimator: Estimator
    smallest_effect: float
    repeats: tuple[str, ...] = ()
    stop: StopBelow | None = None
    population: int | None = None
    interval: Literal["t", "bootstrap"] = "t"
    power: float = 0.8

    def __post_init__(self):
        names = [arm.name for arm in self.arms]
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"name must be a folder's name of letters, digits, . _ or -, got {self.name!r}")
        if is_stored(self.base.runs):
            raise ValueError(
                f"runs={self.base.runs} is an object store, and workers of a study share a folder: mount a file system "
                "(Filestore, NFS, a volume) and give its folder"
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two arms are named {twice[0]!r}")
        for name in (self.anchor, *self.repeats):
            if name not in names:
                raise ValueError(f"no arm {name!r} for anchor or repeats; there are: {', '.join(names)}")
        for arm in self.arms:
            if arm.against is not None and (arm.against not in names or arm.against == arm.name):
                there = ", ".join(name for name in names if name != arm.name)
                raise ValueError(f"arm {arm.name!r} has against={arm.against!r}; other arms are: {there}")
            if arm.against is not None and arm.name in (self.anchor, *self.repeats):
                raise ValueError(f"arm {arm.name!r} is the anchor or its repeat, and has against={arm.against!r}")
        if self.anchor in self.repeats:
            raise ValueError(f"repeats={self.repeats} holds the anchor itself: name other arms, or leave it out")
        if self.smallest_effect <= 0 or not 0 < self.power < 1:
            raise ValueError(
                f"smallest_effect must be > 0 and power in 0..1: {self.smallest_effect=} power={self.power}"
            )
        if self.population is not None and self.population < 1:
            raise ValueError(f"population must be >= 1, or None, got {self.population}")
        for arm in self.arms:
            if not seeds_of(self, arm):
                raise ValueError(f"arm {arm.name!r} has no seed; give the study seeds=(0, 1, 2), or the arm its own")
        if self.interval == "bootstrap" and len(self.seeds) < 6:
            raise ValueError(f"interval='bootstrap' needs 6 seeds, got {len(self.seeds)}; use interval='t'")


def seeds_of(study: Study, arm: Arm) -> tuple[int, ...]:
    return study.seeds if arm.seeds is None else arm.seeds


def arms(grid: Sequence[Settings], *, stage: str | None = None, config: Config | None = None) -> tuple[Arm, ...]:
    """An arm for each settings of a grid, named after them. A key `seed` gives an arm its seeds and no name."""
    seeds: dict[str, list[int]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for one in grid:
        own = {key: value for key, value in one.items() if key != "seed"}
        name = label(own) or "base"
        settings[name] = own
        seeds.setdefault(name, []).extend([one["seed"]] if "seed" in one else [])
    return tuple(
        Arm(name=name, settings=own, stage=stage, config=config, seeds=tuple(seeds[name]) or None)
        for name, own in settings.items()
    )


def arm_config(study: Study, arm: Arm, seed: int) -> Config:
    """The config of one run of an arm.

    Raises: ConfigError naming arm, key and value.
    """
    try:
        made = override(arm.config or study.base, [f"{key}={_text(value)}" for key, value in arm.settings.items()])
        made = replace(made, seed=seed, runs=study.base.runs, data_dir=study.base.data_dir)
    except ValueError as error:
        raise ConfigError(f"arm {arm.name!r}: {error}") from error
    stage = stage_of(arm, made)
    if study.estimator.metric.partition("/")[0].removeprefix("forced_") not in _modes(study, made, stage):
        raise ConfigError(
            f"arm {arm.name!r}: stage {stage} has no {study.estimator.split} evaluation with the metric "
            f"{study.estimator.metric}; set validate.evaluation or test of that stage"
        )
    return made


def stage_of(arm: Arm, config: Config) -> str:
    """Raises ConfigError where the config has no such stage."""
    names = [stage.name for stage in config.stages]
    if arm.stage is not None and arm.stage not in names:
        raise ConfigError(f"arm {arm.name!r}: no stage {arm.stage!r}; there are: {', '.join(names)}")
    return arm.stage or names[-1]


def _modes(study: Study, config: Config, name: str) -> tuple[str, ...]:
    stage = next(stage for stage in config.stages if stage.name == name)
    evaluation = stage.validate.evaluation if study.estimator.split == "validation" else stage.test
    return evaluation.modes if evaluation is not None else ()


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def load_study(path: str | Path, changes: Mapping[str, Any] | None = None) -> Study:
    """The study a Python file's `study()` returns.

    Args:
      changes: fields of its base that are replaced: where runs are made, where data are.
    Raises: ConfigError naming the file where there is none, or what is wrong with it.
    """
    return load_made(path, {"study": Study}, changes)


def load_made(path: str | Path, kinds: Mapping[str, type[Made]], changes: Mapping[str, Any] | None = None) -> Made:
    """What a Python file's function returns, of a kind that has a name and a base config; as `load_study`.

    Args:
      kinds: the function's name -> what it returns; the first of them that the file defines is called.
    """
    path, name = Path(path), " or ".join(kinds)
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in (path if path.is_dir() else path.parent).glob("*.py")))
        raise ConfigError(f"no {name} file {path}; there is: {there or 'no Python file'}")
    own = f"jaxsrl_study_{path.stem}"
    spec = importlib.util.spec_from_file_location(own, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file; a {name} is a file with a function {name}()")
    module = importlib.util.module_from_spec(spec)
    sys.modules[own] = module  # where Python looks up the source of what the file defines
    try:
        spec.loader.exec_module(module)
        made = next((vars(module)[known]() for known in kinds if known in vars(module)), None)
    except Exception as error:  # whatever a file does when it is run, it is the file that is wrong
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(made, tuple(kinds.values())):
        wanted = " or ".join(f"{known}() -> {kind.__name__}" for known, kind in kinds.items())
        raise ConfigError(f"{path} must define {wanted}, got {type(made).__name__}")
    return replace(made, base=replace(made.base, **(changes or {})))


def study_folder(study: Study) -> Path:
    return Path(study.base.runs) / study.name
