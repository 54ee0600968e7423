"""Names of the version before, still taken in configs and logs, and said. The file goes with the next version."""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

FIELDS = {
    "samples": "group_size", "grader": "reward", "step_tokens": "action_tokens", "lone": "singleton_advantage",
    "right_from": "success_threshold", "answer": "extract",
}  # fmt: skip
VALUES = {"trunk": {"step": "action"}, "form": {"step": "action"}, "modes": {"steps": "actions"}}
METRICS = {"steps/": "actions/", "forced_steps/": "forced_actions/"}


def takes_old_names(made: type) -> type:
    """A dataclass whose fields may also be given by the names and with the values that they had."""
    renamed, make = _renamed(made), made.__init__

    @functools.wraps(make)
    def init(self, *args: Any, **given: Any) -> None:
        for old in renamed.keys() & given.keys():
            if renamed[old] in given:
                raise TypeError(f"{made.__name__} was given {old} and {renamed[old]}, one setting; leave out {old}")
            _say(f"{made.__name__}({old}=...)", f"{renamed[old]}=")
            given[renamed[old]] = given.pop(old)
        make(self, *args, **{name: _new_value(made, name, value) for name, value in given.items()})

    made.__init__ = init
    return made


def new_name(value: Any, name: str) -> str:
    """The name of a field of `value`, given that or the one it had."""
    renamed = _renamed(type(value))
    if name in renamed:
        _say(name, renamed[name])
    return renamed.get(name, name)


def new_metric(name: str) -> str:
    """The name of a metric in a log, given that or the one it had."""
    old = next((old for old in METRICS if name.startswith(old)), None)
    return name if old is None else METRICS[old] + name.removeprefix(old)


def moved(name: str, module: str, new: dict[str, Any]) -> Any:
    """What a module's `__getattr__` returns: the object that had `name` in that module.

    Raises: AttributeError where there was none.
    """
    if name not in new:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    _say(name, new[name].__name__)
    return new[name]


def _new_value(made: type, name: str, value: Any) -> Any:
    if name == "metric" and isinstance(value, str) and value != new_metric(value):
        _say(f"{made.__name__}(metric={value!r})", repr(new_metric(value)))
        return new_metric(value)
    values = VALUES.get(name, {})
    change: Callable[[Any], Any] = lambda x: values.get(x, x) if isinstance(x, str) else x
    changed = tuple(map(change, value)) if isinstance(value, tuple) else change(value)
    if values and changed != value:
        _say(f"{made.__name__}({name}={value!r})", repr(changed))
    return changed


def _renamed(made: type) -> dict[str, str]:
    has = {field.name for field in dataclasses.fields(made)}
    return {old: new for old, new in FIELDS.items() if new in has and old not in has}


def _say(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes with the next version", FutureWarning, stacklevel=3)
