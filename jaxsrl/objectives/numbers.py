"""The numbers of an objective apart from what is static: a population of runs differs in them and is one program."""

from collections.abc import Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import jax
import numpy as np

from jaxsrl.types import Numbers

STATIC = "reward"  # a reward has settings of its own, which are static


def numbers_of(settings: Any) -> Numbers:
    """Every field of type float that is not None, by name; those of settings within settings under their name."""
    hints = get_type_hints(type(settings))
    out: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == STATIC or value is None:
            continue
        if hints[field.name] is float or float in get_args(hints[field.name]):
            out[field.name] = float(value)
        elif is_dataclass(value) and (inner := numbers_of(value)):
            out[field.name] = inner
    return out


def static_of(settings: Any) -> tuple[Any, ...]:
    """Everything but the numbers, and of each number whether it is 0, for that may switch a term off: hashable."""
    names = _flat(numbers_of(settings))
    return type(settings), tuple(sorted((name, value != 0) for name, value in names.items())), _rest(settings)


def _flat(numbers: Mapping[str, Any], before: str = "") -> dict[str, float]:
    out: dict[str, float] = {}
    for name, value in numbers.items():
        out |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return out


def _rest(settings: Any) -> tuple[Any, ...]:
    own = numbers_of(settings)
    rest = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(own.get(field.name), Mapping):
            rest.append((field.name, type(value), _rest(value)))
        elif field.name not in own:
            rest.append((field.name, value))
    return tuple(rest)


def as_arrays(numbers: Numbers) -> Numbers:
    """The numbers as the device is given them: of the default float type."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    return jax.tree.map(lambda value: np.asarray(value, dtype), dict(numbers))


def with_arrays(settings: Any, numbers: Numbers) -> Any:
    """Settings whose named numbers are arrays, as a program of many runs has them. They were checked as numbers."""
    made = copy(settings)
    for name, value in numbers.items():
        inner = with_arrays(getattr(settings, name), value) if isinstance(value, Mapping) else value
        object.__setattr__(made, name, inner)  # past the checks, which ask for a bool
    return made
