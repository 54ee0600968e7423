"""How long a stage will take: steps, compilation and evaluations are timed apart."""

from collections import deque
from dataclasses import dataclass, field
from statistics import median

RECENT = 20  # calls whose median is the pace, so that one that waits for a disk does not count


@dataclass(kw_only=True)
class Pace:
    """Clock readings of a stage's attempt. The first step and the first evaluation compile: they are no pace."""

    steps: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))  # seconds a step
    first: float | None = None  # seconds of the first call
    evaluations: dict[str, float] = field(default_factory=dict)  # seconds of a split's last one
    calls: dict[str, int] = field(default_factory=dict)  # of the sampler, in a split's last one

    def took(self, seconds: float, steps: int = 1) -> None:
        """A call that took `steps` optimizer steps; the attempt's first one compiled."""
        if self.first is None:
            self.first = seconds
        else:
            self.steps.append(seconds / steps)

    def evaluated(self, split: str, seconds: float, calls: int) -> None:
        self.evaluations[split], self.calls[split] = seconds, calls

    def says(self, steps: int, evaluations: dict[str, int]) -> str:
        """What is left, as far as it is known.

        Args:
          steps: optimizer steps left.
          evaluations: how many are left of each split; one that was never timed is named, not guessed.
        """
        if not self.steps:
            return f"first step {duration(self.first or 0.0)}, compilation included"
        pace = median(self.steps)
        known = sum(count * self.evaluations.get(split, 0.0) for split, count in evaluations.items())
        unknown = [split for split, count in evaluations.items() if count and split not in self.evaluations]
        left = f"{pace:.2f} s/step, {duration(pace * steps + known)} left"
        return left + (f" + the {' and '.join(unknown)} evaluation" if unknown else "")


def validations_left(step: int, steps: int, every: int) -> int:
    """How many there will be from the end of optimizer step `step` on: those due before the last step, and the last."""
    return 1 + (max(0, (steps - 1) // every - (step - 1) // every) if every else 0)


def duration(seconds: float) -> str:
    """`7.1 s`, `42 s`, `12 min`, `3 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
