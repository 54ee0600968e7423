"""Outcome and process in one reward."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from jaxsrl.old_names import takes_old_names
from jaxsrl.rewards.format import without_thoughts
from jaxsrl.types import Demonstration, Reward, Rewards, Rollouts, means

Process = Callable[[str, Demonstration], Sequence[float]]  # text without thoughts -> a reward per step


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class OutcomeAndProcess:
    """alpha * outcome + (1 - alpha) * f(process rewards); no step at all is a process reward of 0.

    Args:
      outcome: another reward.
      process: rewards the steps of a solution; given by the config, here from a task's verifier instead of a trained
        model.
      alpha: 0.7 in the paper; its released reward class also has 0.5.
      reduce: f, over the steps.
    Source: arXiv:2412.16849.
    """

    outcome: Reward
    process: Process
    alpha: float = 0.7
    reduce: Literal["mean", "min"] = "mean"

    def __post_init__(self):
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {self.alpha}")
        if self.reduce not in ("mean", "min"):
            raise ValueError(f"reduce must be mean or min, got {self.reduce!r}")

    def __call__(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
        rewards = self.outcome(rollouts, demonstrations)
        steps = [
            self.process(without_thoughts(text), demonstrations[m])
            for text, m in zip(rollouts.text, rollouts.demonstration, strict=True)
        ]
        f = np.mean if self.reduce == "mean" else np.min
        process = np.array([float(f(s)) if len(s) else 0.0 for s in steps], np.float64)
        reward = self.alpha * rewards.reward + (1 - self.alpha) * process
        shown = {"alpha": self.alpha, "reduce": self.reduce}
        columns = {"reward/mean": reward, "reward/outcome_mean": rewards.reward, "reward/process_mean": process}
        return replace(
            rewards, reward=reward, settings={**rewards.settings, "process": shown},
            means={**rewards.means, **means(columns)},
        )  # fmt: skip
