"""Names of the version before, still taken in configs, with a warning. This file goes with the next version."""

import dataclasses
import functools
import warnings
from typing import Any

FIELDS = {"samples": "group_size"}


def takes_old_names(made: type) -> type:
    """A dataclass that also takes the fields of `FIELDS` by their old names, and says so."""
    renamed, make = _renamed(made), made.__init__

    @functools.wraps(make)
    def init(self, *args: Any, **given: Any) -> None:
        for old in renamed.keys() & given.keys():
            if renamed[old] in given:
                raise TypeError(f"{made.__name__} was given {old} and {renamed[old]}, one setting; leave out {old}")
            _say(f"{made.__name__}({old}=...)", f"{renamed[old]}=")
            given[renamed[old]] = given.pop(old)
        make(self, *args, **given)

    made.__init__ = init
    return made


def new_name(value: Any, name: str) -> str:
    """The name of a field of `value`, given that or the one it had."""
    renamed = _renamed(type(value))
    if name in renamed:
        _say(name, renamed[name])
    return renamed.get(name, name)


def _renamed(made: type) -> dict[str, str]:
    has = {field.name for field in dataclasses.fields(made)}
    return {old: new for old, new in FIELDS.items() if new in has and old not in has}


def _say(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes with the next version", FutureWarning, stacklevel=3)
