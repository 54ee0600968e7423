"""Overrides by key, and how a config is saved and compared."""

import dataclasses
import difflib
import json
import math
import types as pytypes
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxsrl.config.load import MEANT, load
from jaxsrl.config.run import ConfigError
from jaxsrl.old_names import new_name
from jaxsrl.redact import redacted

__all__ = ["check_unchanged", "coerce", "keys", "load", "nearest_key", "override", "to_dict"]

# What may change when a run is resumed: how long it runs, and what is only written down or looked up.
MAY_CHANGE = (
    "runs", "data_dir", "log_every", "checkpoint_every", "survive", "mesh", "sampler_mesh", "layout_workers", "mirrors",
)  # fmt: skip
STAGE_MAY_CHANGE = ("steps", "validate", "test", "test_problems", "action_tokens", "solve_tokens", "reference_on")


@dataclasses.dataclass
class _Change:
    """What is asked of a field: a new value, changes of its own fields, or these after that."""

    key: str = ""
    text: str | None = None
    inner: dict[str, "_Change"] = dataclasses.field(default_factory=dict)

    def assignments(self) -> Iterator[tuple[str, str]]:
        if self.text is not None:
            yield self.key, self.text
        for change in self.inner.values():
            yield from change.assignments()


def override(config: Any, assignments: Iterable[str]) -> Any:
    """The config with `a.b=c` applied; of two for one key the later counts. All are applied before anything is checked.

    A stage is addressed by its name: `stages.srl.steps=10`.

    Raises: ConfigError naming key, value and the nearest valid key.
    """
    whole = _Change()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment!r}: write key=value")
        change = whole
        for part in key.split("."):
            change = change.inner.setdefault(part, _Change())
        change.key, change.text, change.inner = key, text, {}
    return _changed(config, whole, config) if whole.inner else config


def _changed(value: Any, change: _Change, config: Any) -> Any:
    """`value` with some of its fields or items changed; it is built once, so its checks see them all."""
    nested = dataclasses.is_dataclass(value) or isinstance(value, tuple)
    if dataclasses.is_dataclass(value):
        change.inner = {new_name(value, name): inner for name, inner in change.inner.items()}
    for name, inner in change.inner.items():
        if not nested or name not in _names(value):
            raise _unknown(config, *next(inner.assignments()))
    if isinstance(value, tuple):
        items = dict(zip(_names(value), value, strict=True))
        for name, inner in change.inner.items():
            if inner.text is not None:
                kind = type(items[name]).__name__
                raise ConfigError(f"--set {inner.key}={inner.text}: is a whole {kind}; set one of its fields")
            items[name] = _changed(items[name], inner, config)
        return tuple(items.values())
    fields = {name: _new(value, name, inner, config) for name, inner in change.inner.items()}
    try:
        return dataclasses.replace(value, **fields)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        given = " ".join(f"--set {key}={text}" for key, text in change.assignments())
        raise ConfigError(f"{given}: {error}") from error


def _new(value: Any, name: str, change: _Change, config: Any) -> Any:
    """What a field becomes."""
    found = getattr(value, name)
    if change.text is not None:
        try:
            found = coerce(change.text, typing.get_type_hints(type(value))[name], found)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"--set {change.key}={change.text}: {error}") from error
    return _changed(_begun(value, name, found), change, config) if change.inner else found


def _field(value: Any, name: str) -> Any:
    """A field; where it is None and its metadata say what it `begins_with`, that: its fields may be set at once."""
    return _begun(value, name, getattr(value, name))


def _begun(value: Any, name: str, found: Any) -> Any:
    kind = type(value).__dataclass_fields__[name].metadata.get("begins_with")
    return kind() if found is None and kind is not None else found


def _names(value: Any) -> list[str]:
    """What may follow `value` in a key: fields of a dataclass, items of a tuple by name or number."""
    if isinstance(value, tuple):
        return [getattr(item, "name", str(i)) for i, item in enumerate(value)]
    return [f.name for f in dataclasses.fields(value)]


def keys(value: Any, prefix: str = "") -> list[str]:
    """Every key that can be set, in the order of the fields: the leaves of the config."""
    nested = dataclasses.is_dataclass(value) or isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value))
    if not nested:
        return [prefix]
    items = value if isinstance(value, tuple) else [_field(value, name) for name in _names(value)]
    pairs = zip(_names(value), items, strict=True)
    return [key for name, item in pairs for key in keys(item, f"{prefix}.{name}" if prefix else name)]


def nearest_key(config: Any, key: str) -> str:
    """The key one may have meant: `stages.srl.lr` is nearest to `stages.srl.optimizer.lr`.

    The last part counts most, then how many of the parts before it stand in both keys, then the spelling of those that
    do not. Of equals the shortest is taken, and of those the first in the order of the fields.
    """
    valid = keys(config)
    given = key.split(".")
    ours = MEANT.get(given[-1])
    if ours is not None and any(other.endswith(f".{ours}") for other in valid):  # what other libraries call it
        given[-1] = ours

    def closeness(other: str) -> tuple[float, int]:
        parts = other.split(".")
        missed = ".".join(part for part in given[:-1] if part not in parts)
        unasked = ".".join(part for part in parts[:-1] if part not in given)
        shared = sum(part in parts[:-1] for part in given[:-1]) / max(len(given) - 1, 1)
        spelling = _alike(missed, unasked) if missed else 0.0
        return _alike(given[-1], parts[-1]) + (shared + 0.9 * (1 - shared) * spelling) / 2, -len(parts)

    reached = (".".join(given[:end]) for end in range(len(given), 0, -1))  # `seed.x` goes on where a key has ended
    return next((part for part in reached if part in valid), None) or max(valid, key=closeness)


def _alike(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()


def _unknown(config: Any, key: str, text: str) -> ConfigError:
    """Names the part of a key that does not exist, what could stand there, and the nearest key of the whole config."""
    value, known = config, []
    for part in key.split("."):
        if not (dataclasses.is_dataclass(value) or isinstance(value, tuple)):
            break
        names = _names(value)
        if part not in names:
            break
        known.append(part)
        value = value[names.index(part)] if isinstance(value, tuple) else _field(value, part)
    wrong = key.split(".")[len(known)]
    where = ".".join(known) or "the config"
    nested = dataclasses.is_dataclass(value) or isinstance(value, tuple)
    valid = f"{where} has: {', '.join(_names(value))}" if nested else f"{where} is {value!r} and has no fields"
    return ConfigError(f"--set {key}={text}: no key {wrong!r}; nearest is {nearest_key(config, key)}; {valid}")


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
    if kind is tuple:
        raise ValueError("is a tuple of any values; declare it as tuple[int, ...] or the like, or write it in a file")
    if origin is tuple:
        return _items(text, args)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"must be true or false, got {text!r}")
        return text.lower() == "true"
    if kind in (int, float):
        expected = f"must be {'a whole number' if kind is int else 'a finite number'}, got {text!r}"
        try:
            number = kind(text)
        except ValueError:
            raise ValueError(expected) from None
        if not math.isfinite(number):
            raise ValueError(expected)
        return number
    if kind is str:
        return text
    raise ValueError(f"{type(old).__name__} is no number or text; set one of its fields, or write it in a config file")


def _items(text: str, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """A tuple from its values, `1, 2`: as many as are declared, each of its own type.

    Raises: ValueError naming what was expected.
    """
    named = next((kind.__name__ for kind in kinds if dataclasses.is_dataclass(kind)), None)
    if named is not None:
        raise ValueError(f"is a list of {named} values; set a field of one of them")
    if any(typing.get_origin(kind) is tuple for kind in kinds):
        raise ValueError("is a list of lists; write it in a config file")
    if text[:1] + text[-1:] in ("()", "[]"):
        raise ValueError(f"write values with commas between them and no brackets: {text[1:-1]}")
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if kinds[-1:] == (...,):
        kinds = kinds[:1] * len(parts)
    if len(parts) != len(kinds):
        raise ValueError(f"must be {len(kinds)} values with commas between them, got {len(parts)}")
    return tuple(coerce(part, kind, None) for part, kind in zip(parts, kinds, strict=True))


def to_dict(value: Any) -> Any:
    """A config as JSON values without secrets; dataclasses carry their type's name, functions their qualified name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: redacted(to_dict(getattr(value, f.name)), f.name) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__} | fields
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): redacted(to_dict(item), str(name)) for name, item in value.items()}
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
