"""Does an action do what the expert's does, however it is written?"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsrl.rewards.format import Think, parse
from jaxsrl.types import Demonstration, Rewards, Rollouts, means


@dataclass(frozen=True, kw_only=True)
class StepEquivalence:
    """1 if the action is functionally the expert's next one, else 0; `malformed` where there is none to compare.

    Args:
      same: (model's action, expert's action) -> whether both do the same; from a task, or `same_json`.
      think: see `format.parse`.
    """

    same: Callable[[str, str], bool]
    malformed: float = 0.0
    think: Think = "required"

    def __call__(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
        expert = tuple(
            demonstrations[m].actions[int(k)].strip()
            for m, k in zip(rollouts.demonstration, rollouts.branch, strict=True)
        )
        parsed = [
            None if cut else parse(text, think=self.think)
            for text, cut in zip(rollouts.text, rollouts.truncated, strict=True)
        ]
        action = tuple(p and p.action for p in parsed)
        formed = np.array([a is not None for a in action], bool)
        right = np.array([a is not None and self.same(a, e) for a, e in zip(action, expert, strict=True)], bool)
        reward = np.where(formed, right.astype(np.float64), self.malformed)
        shown = {"reward/mean": reward, "reward/equivalent_share": right, "reward/malformed_share": ~formed}
        name = getattr(self.same, "__qualname__", type(self.same).__qualname__)
        return Rewards(
            reward=reward, action=action, expert=expert,
            settings={"same": name, "malformed": self.malformed, "think": self.think},
            means=means(shown),
        )  # fmt: skip


def same_json(found: str, expert: str) -> bool:
    """Whether two texts are one JSON value: order of keys and white space do not count, 1 is 1.0, true is not 1.

    A text that is no JSON, names a key twice or holds NaN is equal to nothing.
    """
    try:
        return _value(found) == _value(expert)
    except (ValueError, RecursionError):
        return False


def _value(text: str) -> Any:
    return _tagged(json.loads(text, object_pairs_hook=_once, parse_constant=_refuse))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _tagged(value: Any) -> Any:
    """The value with its kind beside it: Python's True equals 1."""
    if isinstance(value, dict):
        return ("object", {key: _tagged(item) for key, item in value.items()})
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number too large to compare")
    if isinstance(value, list):
        return ("array", [_tagged(item) for item in value])
    return ("number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__, value)
