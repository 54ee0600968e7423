"""Curricula on results: which of an objective's branch points are sampled from, by how well earlier steps went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxsrl.types import BranchPoint, Demonstration


class Curriculum(Protocol):
    """Runs on the host before a step is laid out. It remembers one number, its level, which a checkpoint holds."""

    @property
    def first(self) -> float:
        """The level of the first step."""
        ...

    def next_level(self, level: float, metrics: Mapping[str, Any]) -> float:
        """The level after a collection and its optimizer steps, from the metrics that were logged of them."""
        ...

    def branch_points(
        self, level: float, demonstration: Demonstration, points: Sequence[BranchPoint]
    ) -> Sequence[BranchPoint]:
        """Those of the objective's branch points that are used. At least one, where there is one."""
        ...


@dataclass(frozen=True, kw_only=True)
class BackwardOnSuccess:
    """Starts with the last branch point of each demonstration, and adds earlier ones as the policy succeeds.

    A demonstration whose branch points lie before actions 0..L uses, at level v, those before (1 - v / levels) L or
    later: with SRL, rollouts begin ever closer to the problem.

    Args:
      metric: of the training log; a level is won where it reaches `threshold`.
      levels: to win until every branch point is used.
    Source: the order of arXiv:2402.05808; that results decide when to move on is our choice.
    """

    metric: str = "reward/mean"
    threshold: float = 0.5
    levels: int = 10

    def __post_init__(self):
        if self.levels < 1:
            raise ValueError(f"levels must be >= 1, got {self.levels}")

    @property
    def first(self) -> float:
        return 0.0

    def next_level(self, level: float, metrics: Mapping[str, Any]) -> float:
        """Raises: ValueError where a step that sampled has no such metric."""
        value = metrics.get(self.metric)
        if value is None and "collect/groups" in metrics:
            known = ", ".join(sorted(name for name, number in metrics.items() if isinstance(number, float)))
            raise ValueError(f"curriculum.metric={self.metric!r} is none of: {known}")
        won = value is not None and value >= self.threshold
        return min(level + won, float(self.levels))

    def branch_points(
        self, level: float, demonstration: Demonstration, points: Sequence[BranchPoint]
    ) -> Sequence[BranchPoint]:
        last = max((point.after for point in points), default=0)
        return [point for point in points if point.after * self.levels >= (self.levels - level) * last]
