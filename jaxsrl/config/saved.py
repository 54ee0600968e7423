"""The config of a run from its folder, so far as evaluating and sampling need it."""

import dataclasses
import importlib
import pkgutil
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any

from jaxsrl.config.overrides import load, to_dict
from jaxsrl.config.run import Config, ConfigError, Data, Stage, TaskData
from jaxsrl.evals.probe import DoesNotApply, Probe
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.rope import Scaling
from jaxsrl.objectives.sft import SFT
from jaxsrl.tasks.draw import Task

# Of a stage, what says how it is evaluated. The others belong to training: of them a stage has the defaults here.
STAGE = (
    "name", "steps", "data", "start_from", "validate", "test", "test_problems", "rows", "action_tokens", "solve_tokens",
)  # fmt: skip

GIVE = "eval and sample take the config file instead of the run's folder, audit takes it beside it: --config FILE"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Data that cannot be made from their saved settings, as those of a class that a config file defines itself."""

    reason: str

    def load(self, data_dir: str | None) -> TaskData:
        raise ConfigError(self.reason)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeElsewhere:
    """A probe of the config file's own, which its saved settings do not bring back."""

    name: str
    measures: tuple = ()
    calls: tuple = ()
    needs_answer: bool = False

    def __call__(self, policy, demonstrations, key):
        raise DoesNotApply(f"the probe {self.name} is a class of the config file's own; {GIVE}")


def own_parts(path: Path) -> tuple[Any, ...]:
    """Settings within a config whose class is not the project's own: data, tasks and probes of the file itself.

    Raises: ConfigError where there are none, or as `load`.
    """
    found = tuple(one for one in _parts(load(path)) if not type(one).__module__.startswith("jaxsrl."))
    if not found:
        raise ConfigError(
            f"{path} uses no data, task or probe class of its own, so a run's folder says all: leave it out"
        )
    return found


def _parts(value: Any) -> Iterator[Any]:
    """Every settings object within one, itself first."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield value
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
    else:
        inner = value if isinstance(value, tuple | list) else ()
    for one in inner:
        yield from _parts(one)


def saved_config(saved: Mapping[str, Any], folder: Path, own: Sequence[Any] = ()) -> Config:
    """The config that a run wrote as JSON; of its stages only what evaluation reads, with SFT as objective.

    The run is found where `folder` is, also if it was moved. A folder keeps settings and no code, so that reading one
    runs nothing: classes that a config file defines must come from that file.

    Args:
      saved: what `config.json` holds.
      own: see `own_parts`. One with the saved settings is taken as it is, else its class with the saved settings.
    Raises: ConfigError naming a setting that this version does not have, or a function, which is saved by its name
      alone. Data of a class that the config file defines raise it when they are loaded.
    """
    try:
        stages = [
            {name: value for name, value in stage.items() if name in (*STAGE, "type")} for stage in saved["stages"]
        ]
        whole = {name: value for name, value in saved.items() if name != "stages"}
    except (KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"{folder / 'config.json'} is no config of a run: {error!r}") from error
    where = f"{folder / 'config.json'}: "
    made_stages = tuple(_made(Stage, stage, f"{where}stages.{stage['name']}", own, objective=SFT()) for stage in stages)
    made = _made(Config, whole, where.removesuffix(": "), own, stages=made_stages)
    return dataclasses.replace(made, name=folder.resolve().name, runs=str(folder.resolve().parent))


def _made(kind: type, saved: Mapping[str, Any], where: str, own: Sequence[Any], **more: Any) -> Any:
    """A settings class from its fields; `more` are those that are not read."""
    try:
        hints = typing.get_type_hints(kind)
    except NameError as error:
        raise ConfigError(f"{where}: the types of {kind.__name__} cannot be found: {error}") from error
    values = {
        name: _value(hints[name], value, f"{where}.{name}", own) if name in hints else value
        for name, value in saved.items() if name != "type"
    }  # fmt: skip
    try:
        return kind(**values, **more)
    except TypeError as error:
        raise ConfigError(f"{where}: written by another version: {error}; {GIVE}") from error


def _value(hint: Any, saved: Any, where: str, own: Sequence[Any]) -> Any:
    """A field's value of the type that it is declared with."""
    if typing.get_origin(hint) in (typing.Union, UnionType):
        if saved is None:
            return None
        inner = [one for one in typing.get_args(hint) if one is not type(None)]
        named = saved.get("type") if isinstance(saved, Mapping) else None
        hint = next((one for one in inner if getattr(one, "__name__", None) == named), inner[0])
    same = next((one for one in own if to_dict(one) == saved), None)
    if same is not None:
        return same
    if hint is Data:
        try:
            return _made(_kind("jaxsrl.config", saved, where, own), saved, where, own)
        except ConfigError as error:
            return Elsewhere(reason=str(error))
    if hint is Task:
        hint = _kind("jaxsrl.tasks", saved, where, own)
    if hint is Probe:
        try:
            hint = _kind("jaxsrl.evals.audits", saved, where, own)
        except ConfigError:
            return ProbeElsewhere(name=saved["name"])
    if dataclasses.is_dataclass(hint):
        return _made(hint, saved, where, own)
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_value(item, one, where, own) for one in saved)
    if not isinstance(saved, bool | int | float | str) or _is_call(hint):
        more = "write into the config file what the run was started with" if own else GIVE
        raise ConfigError(f"{where} is {saved!r}, which cannot be read back; {more}")
    return saved


def _kind(package: str, saved: Mapping[str, Any], where: str, own: Sequence[Any]) -> type:
    """The settings class of that name which the config file or a module of the package defines, where the declared type
    is a protocol."""
    for kind in map(type, own):
        if kind.__name__ == saved["type"]:
            return kind
    for one in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        found = vars(importlib.import_module(one.name)).get(saved["type"])
        if isinstance(found, type) and found.__module__ == one.name and dataclasses.is_dataclass(found):
            return found
    there = ", ".join(sorted({type(one).__name__ for one in own}))
    more = f"the file given has {there}" if own else GIVE
    raise ConfigError(f"{where} is a {saved['type']}, a class of the config file's own; {more}")


def _is_call(hint: Any) -> bool:
    """Functions are saved by their name alone."""
    return typing.get_origin(hint) is not None and typing.get_origin(hint) is not typing.Literal


def model_from(said: Mapping[str, Any]) -> ModelConfig:
    """The `ModelConfig` that a run wrote as JSON."""
    values = {f.name: said[f.name] for f in dataclasses.fields(ModelConfig) if f.name in said}
    scaling = values.get("rope_scaling")
    if scaling is not None:
        kind = {k.__name__: k for k in typing.get_args(Scaling)}[scaling["type"]]
        values["rope_scaling"] = kind(**{k: v for k, v in scaling.items() if k != "type"})
    return ModelConfig(**values | {"global_layers": tuple(values.get("global_layers", ()))})
