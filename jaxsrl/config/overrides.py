"""Configs from files, overrides by key, and how a config is saved and compared."""

import dataclasses
import difflib
import importlib.util
import json
import types as pytypes
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxsrl.config.run import Config, ConfigError

# What may change when a run is resumed: how long it runs, and what is only written down or looked up.
MAY_CHANGE = ("runs", "data_dir", "log_every", "checkpoint_every")
STAGE_MAY_CHANGE = ("steps", "validate", "test", "test_problems", "step_tokens", "solve_tokens")


def load(path: str | Path) -> Config:
    """The config a Python file's `config()` returns.

    Raises: ConfigError naming the file where there is none, or it does not return a Config.
    """
    path = Path(path)
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")], 1)
        raise ConfigError(f"no config file {path}" + (f"; did you mean {path.parent / near[0]}?" if near else ""))
    spec = importlib.util.spec_from_file_location(f"jaxsrl_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file; a config is a file with a function config()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = module.config() if hasattr(module, "config") else None
    except (ValueError, TypeError, SyntaxError, ImportError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(made, Config):
        raise ConfigError(f"{path} must define config() -> Config, got {type(made).__name__}")
    return made


def override(config: Any, assignments: Iterable[str]) -> Any:
    """The config with `a.b=c` applied, one after the other. A stage is addressed by its name: `stages.srl.steps=10`.

    Raises: ConfigError naming key, value and the nearest valid key.
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment!r}: write key=value")
        try:
            config = _replace(config, key.split("."), text, key)
        except ConfigError:
            raise
        except (ValueError, TypeError) as error:
            raise ConfigError(f"--set {key}={text}: {error}") from error
    return config


def _replace(value: Any, parts: list[str], text: str, key: str) -> Any:
    """`value` with the field at `parts` replaced; every level is rebuilt, so every check runs again."""
    name, rest = parts[0], parts[1:]
    if isinstance(value, tuple):
        names = [getattr(item, "name", str(i)) for i, item in enumerate(value)]
        if name not in names:
            raise _unknown(key, name, names)
        at = names.index(name)
        if not rest:
            raise ConfigError(f"--set {key}: names a whole {type(value[at]).__name__}; name one of its fields")
        return (*value[:at], _replace(value[at], rest, text, key), *value[at + 1 :])
    if not dataclasses.is_dataclass(value):
        raise ConfigError(f"--set {key}: {name!r} is not a field, {value!r} has none")
    hints = typing.get_type_hints(type(value))
    names = [f.name for f in dataclasses.fields(value)]
    if name not in names:
        raise _unknown(key, name, names)
    old = getattr(value, name)
    new = _replace(old, rest, text, key) if rest else coerce(text, hints[name], old)
    return dataclasses.replace(value, **{name: new})


def _unknown(key: str, name: str, names: list[str]) -> ConfigError:
    near = difflib.get_close_matches(name, names, 1, cutoff=0.0)
    full = ".".join([*key.split(".")[: key.split(".").index(name)], near[0]]) if near else ""
    return ConfigError(f"--set {key}: no key {name!r}; nearest is {full}; valid here: {', '.join(names)}")


def coerce(text: str, kind: Any, old: Any) -> Any:
    """The value `text` spells, of the type a field is declared with.

    Raises: ValueError naming what was expected.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, pytypes.UnionType):
        if text in ("None", "none", "null") and type(None) in args:
            return None
        kinds = [arg for arg in args if arg is not type(None)]
        for arg in kinds:
            try:
                return coerce(text, arg, old)
            except ValueError:
                if arg is kinds[-1]:
                    raise
    if origin is typing.Literal:
        if text not in map(str, args):
            raise ValueError(f"must be one of {', '.join(map(str, args))}")
        return next(arg for arg in args if str(arg) == text)
    if origin is tuple:
        item = args[0] if args else str
        return tuple(coerce(part.strip(), item, None) for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"must be true or false, got {text!r}")
        return text.lower() == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"must be {'a whole number' if kind is int else 'a number'}, got {text!r}") from None
    if kind is str:
        return text
    raise ValueError(f"a {type(old).__name__} cannot be set from the command line; set one of its fields")


def to_dict(value: Any) -> Any:
    """A config as JSON values; dataclasses carry their type's name, functions their qualified name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__} | fields
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): to_dict(item) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__qualname__", repr(value))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield prefix, value
        return
    yield prefix + ".len", len(value)
    for name, item in items:
        label = item["name"] if isinstance(item, dict) and isinstance(value, list) and "name" in item else name
        yield from _flat(item, f"{prefix}.{label}" if prefix else str(label))


def check_unchanged(saved: dict[str, Any], now: dict[str, Any], where: Path) -> None:
    """Raises ConfigError naming the first keys in which a resumed run's config differs from the saved one."""

    def fixed(config: dict[str, Any]) -> dict[str, Any]:
        left = {name: value for name, value in config.items() if name not in MAY_CHANGE}
        stages = [{k: v for k, v in stage.items() if k not in STAGE_MAY_CHANGE} for stage in config["stages"]]
        return left | {"stages": stages}

    old, new = dict(_flat(fixed(saved))), dict(_flat(fixed(json.loads(json.dumps(now)))))
    different = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    if different:
        shown = "; ".join(f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in different[:5])
        raise ConfigError(
            f"{where} was started with another config: {shown}. Use the old values, or a new name (--set name=...)"
        )
