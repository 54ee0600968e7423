"""Accuracy by difficulty: is what should be harder harder for this policy?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jaxsrl.evals.audits.length import difficulty, quantiles, within
from jaxsrl.evals.probe import Call, Measure, ProbedPolicy, measured
from jaxsrl.evals.records import Record
from jaxsrl.evals.resampled import as_metrics, rank_correlation
from jaxsrl.types import Demonstration


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """The share of right solutions at each level of difficulty, the task's own or else the expert's actions.

    Where there are no more than `levels` different difficulties each is a level, else levels hold as many problems each
    and ties go to the lower one. `trend` is the rank correlation of difficulty and being right: below 0 where harder is
    harder. With `jaxsrl audit --stages base hard` easy and hard problems of a run are asked together.
    Source: our choice.
    """

    name: str = "difficulty"
    levels: int = 5
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = True

    def __post_init__(self):
        if self.levels < 2:
            raise ValueError(f"difficulty.levels must be >= 2, got {self.levels}")

    @property
    def measures(self) -> tuple[Measure, ...]:
        numbers = range(1, self.levels + 1)
        return (
            Measure(name="right", meaning="share of right solutions", share=True, better="higher"),
            *(Measure(name=f"difficulty_{i}", meaning=f"mean difficulty of level {i}") for i in numbers),
            *(Measure(name=f"right_{i}", meaning=f"share of right solutions of level {i}", share=True)
              for i in numbers),
            Measure(name="trend", meaning="rank correlation of difficulty and being right; below 0: harder is harder"),
        )  # fmt: skip

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key):
        own = policy.own(demonstrations)
        solutions = policy.solve(own, key)
        right = policy.right(own, solutions).astype(float)
        hard = np.array([difficulty(policy, one) for one in own], float)
        every = policy.share.of_all({"hard": hard, "right": right})
        edges = level_edges(every["hard"], self.levels)
        records: list[Record] = []
        for one, solution, ok, how_hard in zip(own, solutions, right, hard, strict=True):
            level = within(how_hard, edges) + 1
            values = {"right": ok, f"right_{level}": ok, f"difficulty_{level}": float(how_hard)}
            records.append({"problem": one.problem_id, "text": solution.text, "level": level, "values": values})
        trend = rank_correlation(every["hard"], every["right"])
        return measured(policy, demonstrations, self.measures, records) | as_metrics("trend", trend), records


def level_edges(values: np.ndarray, levels: int) -> np.ndarray:
    """The upper ends of all levels but the last: [1, 1, 2, 9] at most 5 levels gives 1, 2; the third level is 9."""
    different = np.unique(values)
    return different[:-1] if len(different) <= levels else quantiles(values, levels)


PROBE = Difficulty()
