"""Where a stage stands beside its parameters and optimizer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best policy that a stage's validations have found."""

    step: int
    value: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Everything of a stage that is no array; a checkpoint holds it as it is.

    Args:
      index: of the stage.
      step: optimizer steps taken, as `TrainState.step` says.
      position: in the order of the demonstrations.
      executed: tokens; see `Stage.tokens`.
      level: of the stage's curriculum; see `objectives/curriculum.py`.
      metrics: of the last optimizer step, for the progress line.
      validation_pending: whether the parameters as they are still have to be validated.
      earlier_steps: length of each stage before.
      skipped_in_row: updates left out since the last that was not.
    """

    stage: str
    index: int
    step: int = 0
    position: int = 0
    executed: int = 0
    level: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict)
    best: Best | None = None
    validation_pending: bool = False
    done: bool = False
    earlier_steps: Mapping[str, int] = field(default_factory=dict)
    skipped_in_row: int = 0

    def to_record(self) -> dict[str, Any]:
        """A JSON value."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """What `to_record` gave.

        Raises: KeyError where something is missing: it was another version's.
        """
        known = {"skipped_in_row": 0} | record  # younger than the others
        known = {name: known[name] for name in cls.__dataclass_fields__}
        return cls(**known | {"best": None if known["best"] is None else Best(**known["best"])})


def is_due(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in before < n <= now; never where `every` is 0."""
    return every > 0 and now // every > before // every
