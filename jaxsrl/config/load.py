"""Configs from files: what is wrong with one is said with the line it stands in."""

import dataclasses
import difflib
import importlib.util
import re
import sys
import traceback
import types as pytypes
import typing
from collections.abc import Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from jaxsrl.config.run import Config, ConfigError

ROOT = Path(__file__).parents[2]
# What other libraries call a setting -> our name of it.
MEANT = {
    "learning_rate": "lr", "num_generations": "group_size", "max_completion_length": "max_new_tokens",
    "max_tokens": "max_new_tokens", "beta": "kl_coef", "max_steps": "steps", "max_grad_norm": "clip_norm",
    "lora_r": "rank", "lora_alpha": "alpha", "batch_size": "demonstrations", "save_steps": "checkpoint_every",
    "logging_steps": "log_every", "num_train_epochs": "steps", "warmup": "warmup_steps",
}  # fmt: skip
UNKNOWN = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
KINDS = {
    int: (Integral, "a whole number"), float: (Real, "a number"), str: (str, "text"), bool: (bool, "True or False"),
}  # fmt: skip


def load(path: str | Path) -> Config:
    """The config a Python file's `config()` returns.

    Raises: ConfigError naming the file, and the line, where there is none, it does not return a Config, or a setting
      has a value of another type.
    """
    path = Path(path)
    _check_file(path)
    spec = importlib.util.spec_from_file_location(f"jaxsrl_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file; a config is a file with a function config()")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where its annotations are looked up
    try:
        spec.loader.exec_module(module)
        made = module.config() if hasattr(module, "config") else NotImplemented  # which no config is
    except Exception as error:  # whatever a file does when it is run, it is the file that is wrong
        raise ConfigError(f"{path}{_line(path, error)}: {_said(error, vars(module))}") from error
    if made is NotImplemented:
        raise ConfigError(f"{path} has no function config(); a config is a file with config() -> Config")
    if not isinstance(made, Config):
        raise ConfigError(f"{path} must define config() -> Config, got {type(made).__name__}")
    wrong = next(wrong_types(made), None)
    if wrong is not None:
        raise ConfigError(f"{path}: {wrong}")
    return made


def _check_file(path: Path) -> None:
    if path.is_dir():
        there = ", ".join(sorted(p.name for p in path.glob("*.py"))) or "no Python file"
        raise ConfigError(f"{path} is a folder; a config is a file: there is {there}")
    if path.is_file():
        return
    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")], 1)
    if near:
        raise ConfigError(f"no config file {path}; did you mean {path.parent / near[0]}?")
    if path.parts[:1] == ("configs",):
        if (ROOT / path).is_file():
            raise ConfigError(f"no config file {path} in this folder; did you mean {ROOT / path}?")
        if not (ROOT / "configs").is_dir():
            raise ConfigError(
                f"no config file {path}: the folder configs/ comes with a checkout of the repository, not with the "
                "installed package; give the path of a checkout's file, or write a file with config() -> Config"
            )
    raise ConfigError(f"no config file {path}")


def _line(path: Path, error: Exception) -> str:
    """`:LINE` of the file, the innermost one of it that the error passed through; empty if it did not."""
    own = lambda name: name is not None and Path(name).absolute() == path.absolute()  # Python writes it out in full
    if isinstance(error, SyntaxError) and own(error.filename) and error.lineno:
        return f":{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if own(frame.filename)]
    return f":{lines[-1]}" if lines else ""


def _said(error: Exception, names: dict[str, Any]) -> str:
    """The error in words of settings: an unknown one with the nearest, a value of a wrong type with its name."""
    unknown = UNKNOWN.search(str(error)) if isinstance(error, TypeError) else None
    kind = names.get(unknown[1]) if unknown else None
    if unknown and dataclasses.is_dataclass(kind):
        known = [f.name for f in dataclasses.fields(kind)]
        ours = MEANT.get(unknown[2])
        near = [ours] if ours in known else difflib.get_close_matches(unknown[2], known, 1)
        meant = f"; did you mean {near[0]}?" if near else ";"
        return f"{unknown[1]} has no setting {unknown[2]!r}{meant} It has: {', '.join(known)}"
    if isinstance(error, TypeError):  # a check that compared text with a number
        for frame, _ in traceback.walk_tb(error.__traceback__):
            value = frame.f_locals.get("self")
            if frame.f_code.co_name == "__post_init__" and dataclasses.is_dataclass(value):
                wrong = next(_wrong_fields(value, type(value).__name__), None)
                if wrong is not None:
                    return wrong
    return f"{type(error).__name__}: {error}"


def wrong_types(value: Any, name: str = "") -> Iterator[str]:
    """Every setting within a config whose value is of another type than declared, by its key, as far as it is declared
    as a number, text, a flag, or a tuple of one of these."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from wrong_types(item, f"{name}.{getattr(item, 'name', index)}" if name else str(index))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _wrong_fields(value, name)
        for field in dataclasses.fields(value):
            yield from wrong_types(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)


def _wrong_fields(value: Any, name: str) -> Iterator[str]:
    try:
        hints = typing.get_type_hints(type(value))
    except NameError:  # a class of somebody's own whose annotations are not all there at run time
        return
    for field in dataclasses.fields(value):
        found = getattr(value, field.name, None)
        expected = _expected(found, hints.get(field.name, Any))
        if expected is not None:
            key = f"{name}.{field.name}" if name else field.name
            yield f"{key} must be {expected}, got {found!r}" + _unquoted(found, expected)


def _expected(found: Any, hint: Any) -> str | None:
    """What a value should be, where it is not; None where it is, or where the hint says too little."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, pytypes.UnionType) else (hint,)
    if found is None or not all(kind in (*KINDS, type(None)) for kind in kinds):
        return None
    allowed = [KINDS[kind] for kind in kinds if kind in KINDS]
    flag = isinstance(found, bool) and bool not in kinds  # True is a number for Python
    if not flag and any(isinstance(found, types) for types, _ in allowed):
        return None
    return " or ".join(words for _, words in allowed)


def _unquoted(found: Any, expected: str) -> str:
    if not isinstance(found, str) or "number" not in expected:
        return ""
    try:
        float(found)
    except ValueError:
        return ""
    return f": write {found} without quotes"
