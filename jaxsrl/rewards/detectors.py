"""Signs that a policy games its reward: repeated answers, skipped computation, text going round in circles."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxsrl.old_names import moved, takes_old_names
from jaxsrl.types import Demonstration, Mean, Reward, Rewards, Rollouts, means

BOXED = r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"  # braces within braces once, as in \frac{1}{2}
ANSWER = re.compile(BOXED + r"|(?:final )?answer is(?!:?\s*\\boxed):?\s*((?:[^\s.,;:]|[.,](?=\d))+)", re.IGNORECASE)
EQUATION = re.compile(r"\d\s*(?:[-+*/×÷]\s*\d+(?:\.\d+)?\s*)+=\s*-?\d")


def stated_answers(text: str) -> list[str]:
    """Every boxed answer and every "the answer is …", in order."""
    return [next(part for part in match if part).strip() for match in ANSWER.findall(text) if any(match)]


def count_equations(text: str) -> int:
    """Arithmetic that was carried out: `3 + 4 = 7` counts one."""
    return len(EQUATION.findall(text))


def repeats_answer(text: str, *, at_least: int = 3, answers: Callable[[str], list[str]] = stated_answers) -> bool:
    """Whether one answer is stated `at_least` times."""
    return max(Counter(answers(text)).values(), default=0) >= at_least


def repeated_ngram_share(text: str, n: int = 4) -> float:
    """Occurrences of the most frequent n-gram of words over all n-grams, if it occurs more than once; else 0."""
    words = text.split()
    grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    most = max(grams.values(), default=0)
    return most / sum(grams.values()) if most > 1 else 0.0


MASTERED = 7 / 8  # share of a problem's rollouts that the start policy has right: accuracy there should not fall


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class WithDetectors:
    """Another reward with the detectors as metrics beside its own; no reward changes.

    Args:
      count: how much a text computes; `computation_ratio` is its sum over that of what the expert wrote there.
      answers: the answers a text states.
      short_tokens: completions shorter than this that state an answer all the same are counted.
      success_threshold: a reward from here on is right.
    Metrics: `detect/answer_repetition_share`, `detect/ngram_share`, `detect/computation_ratio`,
      `detect/short_answer_share`; where demonstrations have been profiled, `detect/lost_accuracy`: the share of right
      rollouts that the profiled policy had, less today's, where it had at least 7/8.
    """

    reward: Reward
    count: Callable[[str], int] = count_equations
    answers: Callable[[str], list[str]] = stated_answers
    short_tokens: int = 32
    success_threshold: float = 1.0

    def __call__(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
        rewards = self.reward(rollouts, demonstrations)
        if not len(rollouts):
            return rewards
        lengths = rollouts.mask.sum(axis=1)
        short = [n < self.short_tokens and bool(self.answers(t)) for n, t in zip(lengths, rollouts.text, strict=True)]
        profiled = [
            dict(demonstrations[d].profile or ()).get(int(after), ())
            for d, after in zip(rollouts.demonstration, rollouts.branch, strict=True)
        ]
        before = np.array([np.mean(np.asarray(r) >= self.success_threshold) if r else 0.0 for r in profiled])
        lost = before - (rewards.reward >= self.success_threshold)
        repeats = [repeats_answer(text, answers=self.answers) for text in rollouts.text]
        found = means({
            "detect/answer_repetition_share": np.array(repeats),
            "detect/ngram_share": np.array([repeated_ngram_share(x) for x in rollouts.text]),
            "detect/short_answer_share": np.array(short),
            "detect/lost_accuracy": lost[before >= MASTERED],
        })  # fmt: skip
        expected = sum(self.count(_asked(rollouts, p, demonstrations)) for p in range(len(rollouts)))
        if expected:
            found["detect/computation_ratio"] = Mean(sum(map(self.count, rollouts.text)), expected)
        return replace(rewards, means={**rewards.means, **found})


def _asked(rollouts: Rollouts, row: int, demonstrations: Sequence[Demonstration]) -> str:
    """What the expert wrote where the rollout had to write: the next action, or all that follow."""
    demonstration, given = demonstrations[rollouts.demonstration[row]], int(rollouts.branch[row])
    thoughts = demonstration.thoughts or ("",) * len(demonstration.actions)
    lines = [f"{t or ''} {a}" for t, a in zip(thoughts, demonstration.actions, strict=True)]
    return "\n".join(lines[given : given + 1] if rollouts.form[row] == "action" else lines[given:])


def __getattr__(name: str):
    return moved(name, __name__, {"Watched": WithDetectors})
