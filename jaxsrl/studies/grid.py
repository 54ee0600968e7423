"""Settings of several runs as plain values: a grid is a tuple of mappings from a config's key to its value."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product as every_combination
from typing import Any

Settings = Mapping[str, Any]
Grid = tuple[dict[str, Any], ...]


def product(axes: Mapping[str, Sequence[Any]]) -> Grid:
    """Every combination: `{"seed": (0, 1), "model.layers": (2, 4)}` gives four. The last key changes fastest.

    Raises: ValueError naming a key without values.
    """
    return tuple(dict(zip(axes, values, strict=True)) for values in every_combination(*_checked(axes)))


def together(axes: Mapping[str, Sequence[Any]]) -> Grid:
    """Values that change in step, as `zip` does: `{"model.width": (64, 128), "model.layers": (2, 4)}` gives two.

    Raises: ValueError naming the keys whose lengths differ.
    """
    columns = _checked(axes)
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"{key} has {len(column)}" for key, column in zip(axes, columns, strict=True))
        raise ValueError(f"values that change together must be equally many: {lengths}")
    return tuple(dict(zip(axes, values, strict=True)) for values in zip(*columns, strict=True))


def chain(*grids: Sequence[Settings]) -> Grid:
    """One grid after the other. Settings that stand in several are kept once."""
    kept: list[dict[str, Any]] = []
    for settings in (dict(one) for grid in grids for one in grid):
        if settings not in kept:
            kept.append(settings)
    return tuple(kept)


def label(settings: Settings) -> str:
    """A name for settings from the last parts of their keys: `lr=0.001,group_size=8`.

    Keys with one last part keep as much of what stands before it as tells them apart.
    """
    parts = {key: key.split(".") for key in settings}
    depth = {key: 1 for key in settings}
    while len({tail for tail in _tails(parts, depth)}) < len(parts):
        tails = list(_tails(parts, depth))
        depth |= {key: depth[key] + 1 for key, tail in zip(parts, tails, strict=True) if tails.count(tail) > 1}
    return ",".join(f"{tail}={settings[key]}" for key, tail in zip(parts, _tails(parts, depth), strict=True))


def _tails(parts: Mapping[str, list[str]], depth: Mapping[str, int]) -> Iterator[str]:
    return (".".join(names[-depth[key] :]) for key, names in parts.items())


def _checked(axes: Mapping[str, Sequence[Any]]) -> list[tuple[Any, ...]]:
    for key, values in axes.items():
        if isinstance(values, str) or not len(values):
            raise ValueError(f"{key}={values!r}: give a sequence of values, at least one")
    return [tuple(values) for values in axes.values()]
