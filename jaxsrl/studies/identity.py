"""What makes two runs the same run: the resolved config, the code that it runs, and the data that it reads."""

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jaxsrl.config.demonstrations import tokenizer_path
from jaxsrl.config.overrides import to_dict
from jaxsrl.config.run import Config, ConfigError, TaskData
from jaxsrl.stores.copies import here

PACKAGE = Path(__file__).parents[1]
WITHOUT = ("studies", "bench", "clusters", "commands", "report", "__main__.py")  # nothing here changes a run's numbers
PLACES = ("name", "runs", "data_dir", "log_every", "layout_workers")
WHOLE_BYTES = 2**26  # files up to this size are hashed whole, larger ones by size and both ends


def run_id(config: Config, code: str, data: str) -> str:
    """12 hex digits that change with any setting that changes a number, with the code, or with the data.

    Args:
      code: see `code_version`.
      data: see `data_fingerprint`.
    Raises: ConfigError where the source of a function or class that the config holds cannot be found.
    """
    settings = {name: value for name, value in to_dict(config).items() if name not in PLACES}
    text = json.dumps([settings, code, data, sorted(set(foreign_sources(config)))], sort_keys=True)
    return hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", text).encode()).hexdigest()[:12]


def code_version(package: Path = PACKAGE) -> str:
    """Hash of the sources that a run consists of."""
    files = [path for path in sorted(package.rglob("*.py")) if path.relative_to(package).parts[0] not in WITHOUT]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def data_fingerprint(config: Config, splits: Mapping[str, TaskData]) -> str:
    """Hash of the files that the stages' data were read from, or of demonstrations that were generated, and of the
    files of weights and tokenizer.

    The one place that says what data a run has read.

    Args:
      splits: of each stage, as loaded.
    """
    digest, seen = hashlib.sha256(), {}
    for name, part in splits.items():
        if id(part) not in seen:
            seen[id(part)] = _part(part)
        digest.update(f"{name} {seen[id(part)]}\n".encode())
    for place in dict.fromkeys((config.weights, tokenizer_path(config))):
        if place is not None and Path(here(place)).exists():
            digest.update(_files(Path(here(place))).encode())
    return digest.hexdigest()[:16]


def _part(part: TaskData) -> str:
    """Of data that were read, the hashes of their files, those of a run's `data.json`; else of what was made.

    How files become demonstrations is said by config and code, which are in a run's identity themselves.
    """
    digest = hashlib.sha256()
    if part.files:
        named = sorted((Path(name).name, found) for name, found in part.files.items())
        digest.update(json.dumps(named).encode())
        return digest.hexdigest()
    for demonstrations in (part.train, part.validation, part.test):
        for demonstration in demonstrations:
            digest.update(repr(demonstration).encode("utf-8", "surrogatepass") + b"\n")
        digest.update(b"\0")
    return digest.hexdigest()


def foreign_sources(config: Config) -> Iterator[str]:
    """Sources of functions and classes in the config that are no part of the package: those a study's file defines."""
    for thing in _named(config):
        if (thing.__module__ or "").split(".")[0] not in ("jaxsrl", "builtins"):
            try:
                yield inspect.getsource(thing)
            except (OSError, TypeError) as error:
                raise ConfigError(
                    f"the source of {thing.__module__}.{thing.__qualname__} cannot be found, so a run with it has no "
                    "identity: define it in the study's file, or in a module that is imported"
                ) from error


def _named(value: Any) -> Iterator[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        yield type(value)
        for inner in fields(value):
            yield from _named(getattr(value, inner.name))
    elif isinstance(value, partial):
        for inner in (value.func, *value.args, *value.keywords.values()):
            yield from _named(inner)
    elif isinstance(value, tuple | list | Mapping):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _named(inner)
    elif isinstance(value, Callable) and hasattr(value, "__qualname__"):
        yield value


def _files(place: Path) -> str:
    files: Iterable[Path] = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else (place,)
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= WHOLE_BYTES:
                digest.update(file.read())
            else:
                digest.update(file.read(2**20))
                file.seek(-(2**20), 2)
                digest.update(file.read())
    return digest.hexdigest()


def difference(anchor: Any, other: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """(key, the anchor's value, the other's) where two saved configs differ. Stages go by their name."""
    if isinstance(anchor, dict) and isinstance(other, dict):
        names = dict.fromkeys([*anchor, *other])
        pairs = [(name, anchor.get(name), other.get(name)) for name in names]
    elif isinstance(anchor, list) and isinstance(other, list) and len(anchor) == len(other):
        label = lambda i, item: item.get("name", i) if isinstance(item, dict) else i
        pairs = [(label(i, a), a, b) for i, (a, b) in enumerate(zip(anchor, other, strict=True))]
    else:
        return [] if anchor == other else [(key, anchor, other)]
    return [found for name, a, b in pairs for found in difference(a, b, f"{key}.{name}" if key else str(name))]
