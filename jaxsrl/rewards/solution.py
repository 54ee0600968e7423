"""One-shot reward: is the whole solution like the expert's?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from jaxsrl.rewards.format import without_thoughts
from jaxsrl.rewards.similarity import Unit, score_pairs
from jaxsrl.types import Demonstration, Rewards, Rollouts, means


@dataclass(frozen=True, kw_only=True)
class SolutionSimilarity:
    """2M / (|model| + |expert|) of the whole solution, thoughts taken out; `malformed` for none or one cut off.

    The one-shot row of arXiv:2510.25992, whose text does not say how a solution is written down: here the expert's
    actions joined by `separator`, from the rollout's branch point on.

    Args:
      unit, autojunk: as in `ActionSimilarity`.
    """

    unit: Unit = "char"
    autojunk: bool = True
    separator: str = "\n"
    malformed: float = -1.0

    def __call__(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
        expert = tuple(
            self.separator.join(demonstrations[m].actions[int(k) :]).strip()
            for m, k in zip(rollouts.demonstration, rollouts.branch, strict=True)
        )
        found = tuple(
            None if cut else without_thoughts(text).strip() or None
            for text, cut in zip(rollouts.text, rollouts.truncated, strict=True)
        )
        formed = np.array([text is not None for text in found], bool)
        reward = np.full(len(rollouts), self.malformed, np.float64)
        pairs = [(a, b) for a, b in zip(found, expert, strict=True) if a is not None]
        reward[formed] = score_pairs(pairs, unit=self.unit, autojunk=self.autojunk)
        exact = np.array([a == b for a, b in zip(found, expert, strict=True)], bool)
        shown = {
            "reward/mean": reward, "reward/similarity": reward[formed], "reward/malformed_share": ~formed,
            "reward/exact_share": exact,
        }  # fmt: skip
        return Rewards(
            reward=reward, action=found, expert=expert, settings=asdict(self) | {"order": "model, expert"},
            means=means(shown),
        )  # fmt: skip
