"""A policy for audits that is a table or a function: what it writes is known, so every metric is."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxsrl.collect.share import Share
from jaxsrl.evals.probe import Written


@dataclass(frozen=True, kw_only=True)
class Told:
    """Writes `says(demonstration, sample)`; sample is None when it is asked greedily."""

    says: Any
    verdict: Any  # (text, demonstration) -> bool
    task: Any = None
    cap: int = 10_000
    judge: Any = None
    splitter: Any = None
    share: Share = field(default_factory=Share)
    finished: Any = None
    name: str = "told"

    def own(self, demonstrations):
        return list({one.problem_id: one for one in reversed(demonstrations)}.values())[::-1]

    def solve(self, demonstrations, key):
        return [self._written(self.says(one, None)) for one in demonstrations]

    def write(self, call, demonstrations, paths, key, temperature=0.0, samples=1):
        return [
            [tuple(self._written(self.says(one, i if temperature else None)) for i in range(samples)) for _ in some]
            for one, some in zip(demonstrations, paths, strict=True)
        ]

    def right(self, demonstrations, solutions):
        pairs = zip(demonstrations, solutions, strict=True)
        return np.array([not s.truncated and self.verdict(s.text, one) for one, s in pairs], bool)

    def _written(self, text):
        return Written(text=text[: self.cap], tokens=len(text[: self.cap]), truncated=len(text) > self.cap)
