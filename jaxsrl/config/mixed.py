"""Several sources of demonstrations in one stage, each as often as its weight says."""

from dataclasses import dataclass

from jaxsrl.config.run import ConfigError, Data, TaskData
from jaxsrl.config.splits import near_duplicates
from jaxsrl.data.built import Stored


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """Demonstrations of several sources, drawn by weight: `Mixed(parts=(Files(…), Gsm8k()), weights=(3, 1))`.

    A source is gone through in an order of its own, a small one more often than a large one. What any of them holds
    out is in no other's training split.

    Args:
      weights: of the parts, > 0; 3 and 1 draw three in four from the first.
    """

    parts: tuple[Data, ...]
    weights: tuple[float, ...]

    def __post_init__(self):
        if len(self.parts) < 2 or len(self.parts) != len(self.weights):
            raise ValueError(f"give at least two parts and a weight for each, got {len(self.parts)} and {self.weights}")
        if min(self.weights) <= 0:
            raise ValueError(f"weights must be > 0, got {self.weights}; leave a part out instead")

    def load(self, data_dir: str | None) -> TaskData:
        """Raises: ConfigError where a part is a stored set of many rows, or judges answers otherwise than the first."""
        loaded = [part.load(data_dir) for part in self.parts]
        first = loaded[0]
        for number, part in enumerate(loaded):
            if isinstance(part.train, Stored):
                raise ConfigError(
                    f"data.parts.{number} is a stored set of {len(part.train)} rows, which are not in memory; mix the "
                    "sources before `jaxsrl data build`, or take a slice of it"
                )
            if part.reward != first.reward:
                raise ConfigError(
                    f"data.parts.{number} judges final answers otherwise than data.parts.0: set their extract alike"
                )
        held_out = {name: tuple(d for part in loaded for d in getattr(part, name)) for name in ("validation", "test")}
        away = {d.problem_id for rows in held_out.values() for d in rows}
        trains = [tuple(d for d in part.train if d.problem_id not in away) for part in loaded]
        counts: dict[str, int] = {}
        for part in loaded:
            for name, value in part.counts.items():
                counts[name] = counts.get(name, 0) + value
        train = sum(trains, ())
        return TaskData(
            train=train, **held_out, reward=first.reward, finished=first.finished, first_action=first.first_action,
            same=first.same, quarantine=sum((part.quarantine for part in loaded), ()), counts=counts,
            notes=near_duplicates(train, (*held_out["validation"], *held_out["test"])),
            files={name: found for part in loaded for name, found in part.files.items()},
            splitter=first.splitter, finish_mark=first.finish_mark, parts=tuple(map(len, trains)), weights=self.weights,
        )  # fmt: skip
