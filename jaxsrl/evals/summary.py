"""Columns of an evaluation to metrics with intervals over problems."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from jaxsrl.collect.share import Share
from jaxsrl.data.templates import THINK_CLOSE, THINK_OPEN
from jaxsrl.evals.statistics import (
    Interval,
    bootstrap,
    clustered_wilson,
    majority_at_k,
    mean_interval,
    pass_at_k,
    pass_hat_k,
    resample,
    wilson,
)
from jaxsrl.types import Metrics, Rollouts


@dataclass(frozen=True, kw_only=True)
class Column:
    """One number per row of an evaluation; the metric is its mean over the rows of `among`, None meaning all."""

    value: Float[np.ndarray, "P"]
    among: Bool[np.ndarray, "P"] | None = None
    share: bool = False  # values are 0 or 1
    bounded: bool = False  # values lie in 0..1


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The problems that processes share, known to all by their ids: rows cross as numbers."""

    share: Share
    ids: tuple[str, ...]

    def of_all(
        self, problem: Sequence[str], columns: Mapping[str, Column]
    ) -> tuple[Sequence[str], Mapping[str, Column]]:
        """The rows of all processes."""
        if self.share.count == 1:
            return problem, columns
        number, rows = {name: i for i, name in enumerate(self.ids)}, {}
        for name, column in columns.items():
            among = np.ones(len(problem), bool) if column.among is None else column.among
            rows |= {f"value {name}": column.value, f"among {name}": among.astype(float)}
        every = self.share.of_all({"problem": np.array([number[one] for one in problem], float)} | rows)
        joined = {
            name: replace(column, value=every[f"value {name}"], among=every[f"among {name}"] > 0)
            for name, column in columns.items()
        }
        return [self.ids[int(i)] for i in every["problem"]], joined


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How completions of a pass are drawn: the most likely token each time, or `samples` of them at a temperature."""

    temperature: float = 0.0
    samples: int = 1

    @property
    def name(self) -> str:
        return "sampled" if self.temperature else "greedy"

    def label(self, columns: Mapping[str, Column], headline: str) -> dict[str, Column]:
        """Names that say how the completions were drawn; greedy ones are plain, the sampled headline is avg@k."""
        if not self.temperature:
            return dict(columns)
        return {f"avg@{self.samples}" if n == headline else f"sampled_{n}": c for n, c in columns.items()}


def summarise(problem: Sequence[str], columns: Mapping[str, Column], shared: Shared | None = None) -> Metrics:
    """Mean of every column, with 95 % bounds as NAME_low and NAME_high. The order of rows is of no consequence.

    Problems are what is drawn at random, so rows of one problem are kept together. A share with at most one row per
    problem has Wilson's interval, one with more Wilson's interval of an effective number of trials, everything else a
    studentised bootstrap over problems. Where all rows agree on 0 or on 1 it is Wilson's of so many problems.

    Args:
      problem: the id of each row's problem.
      shared: how processes share the evaluation; the rows are then this one's, the metrics those of all.
    Returns: None for the mean of no rows; bounds are left out where there are fewer than two problems to draw from.
    """
    if shared is not None:
        problem, columns = shared.of_all(problem, columns)
    ids, owner = np.unique(np.asarray(problem, dtype=object).astype(str), return_inverse=True)
    draws = resample(len(ids)) if len(ids) else None
    metrics: Metrics = {}
    for name, column in columns.items():
        estimate = _estimate(column, owner, len(ids), draws)
        metrics[name] = estimate.value
        if estimate.low is not None:
            metrics |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return metrics


def _estimate(column: Column, owner: np.ndarray, problems: int, draws) -> Interval:
    value = np.asarray(column.value, np.float64)
    among = np.ones(len(value), bool) if column.among is None else column.among
    value, owner = value[among], owner[among]
    order = np.lexsort((value, owner))  # sums must not depend on the order in which rows came
    value, owner = value[order], owner[order]
    total, count = np.bincount(owner, value, problems), np.bincount(owner, minlength=problems).astype(np.float64)
    trials = int((count > 0).sum())
    if not trials:
        return Interval(None)
    if column.share and count.max() <= 1:
        return wilson(float(total.sum()), trials)
    if column.share and total.sum() in (0, count.sum()):
        return wilson(trials if total.sum() else 0, trials)
    if trials > 1 and column.share:
        return clustered_wilson(total, count, most=float(count.sum()))
    return _held(bootstrap(total, count, draws), total, count, bounded=column.bounded)


def _held(found: Interval, total: np.ndarray, count: np.ndarray, *, bounded: bool) -> Interval:
    """Bounds within 0..1 where values are; one that the draws do not reach is Wilson's there, and else Student's."""
    if found.value is None or (count > 0).sum() < 2:
        return found
    stand_in = clustered_wilson(total, count) if bounded else mean_interval(total, count)
    low, high = (b if a is None else a for a, b in zip(found[1:], stand_in[1:], strict=True))
    return Interval(found.value, max(low, 0.0), min(high, 1.0)) if bounded else Interval(found.value, low, high)


def at_k(
    correct: Bool[np.ndarray, "P K"], votes: Sequence[Sequence[Hashable | None]] | None = None
) -> dict[str, Column]:
    """pass@k for k = 2, 4, … and K, pass^K, and maj@K where there are votes; one row per group of K samples."""
    samples = correct.shape[1]
    right = correct.sum(axis=1)
    powers = {2**i for i in range(1, samples.bit_length()) if 2**i <= samples}
    chance = {k: pass_at_k(right, samples, k) for k in sorted(powers | {samples})}
    columns = {f"pass@{k}": Column(value=value, bounded=True) for k, value in chance.items()}
    columns[f"pass^{samples}"] = Column(value=pass_hat_k(right, samples, samples), share=True)
    if votes is not None:
        won = [majority_at_k(*group) for group in zip(votes, correct, strict=True)]
        columns[f"maj@{samples}"] = Column(value=np.array(won, float), share=True)
    return columns


def completion_columns(rollouts: Rollouts) -> dict[str, Column]:
    """What a completion looks like, whatever it says; one row each."""
    return {
        "thinks": Column(value=np.array([has_thought(text) for text in rollouts.text], float), share=True),
        "truncated": Column(value=rollouts.truncated.astype(float), share=True),
        "tokens_mean": Column(value=rollouts.mask.sum(axis=1).astype(float)),
        "words_mean": Column(value=np.array([words(text) for text in rollouts.text], float)),
    }


def has_thought(text: str) -> bool:
    """Whether there is a closed think block with something in it."""
    blocks = (rest.partition(THINK_CLOSE) for rest in text.split(THINK_OPEN)[1:])
    return any(closed and thought.strip() for thought, closed, _ in blocks)


def words(text: str) -> int:
    """Runs between white space, thoughts included, think marks not."""
    return len(text.replace(THINK_OPEN, " ").replace(THINK_CLOSE, " ").split())
