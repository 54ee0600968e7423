"""Estimators over k samples of a problem, and how far a number may be off."""

import math
from collections.abc import Callable, Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

LEVEL = 0.95
RESAMPLES = 2000


class Interval(NamedTuple):
    """A number with its confidence bounds; None where there is nothing to say."""

    value: float | None
    low: float | None = None
    high: float | None = None


def avg_at_k(correct: Bool[np.ndarray, "P K"]) -> Float[np.ndarray, "P"]:
    """Share of right samples of each problem."""
    return np.asarray(correct, np.float64).mean(axis=1)


def pass_at_k(right: Int[np.ndarray, "P"], samples: int, k: int) -> Float[np.ndarray, "P"]:
    """1 - C(n - c, k) / C(n, k): the chance that k of a problem's n samples hold a right one, without bias.

    Args:
      right: c, right samples of each problem.
      samples: n.
    Raises: ValueError unless 1 <= k <= n and 0 <= c <= n.
    Source: arXiv:2107.03374 eq. 1.
    """
    right = _check(right, samples, k)
    return np.array([1 - math.comb(samples - c, k) / math.comb(samples, k) for c in range(samples + 1)])[right]


def pass_hat_k(right: Int[np.ndarray, "P"], samples: int, k: int) -> Float[np.ndarray, "P"]:
    """C(c, k) / C(n, k): the chance that k samples of a problem are all right. Arguments and errors as `pass_at_k`.

    Source: arXiv:2406.12045.
    """
    right = _check(right, samples, k)
    return np.array([math.comb(c, k) / math.comb(samples, k) for c in range(samples + 1)])[right]


def _check(right, samples: int, k: int) -> np.ndarray:
    right = np.asarray(right, np.int64)
    if not 1 <= k <= samples:
        raise ValueError(f"k must be in 1..samples, got k={k} samples={samples}")
    if right.size and not (0 <= right.min() and right.max() <= samples):
        raise ValueError(f"right must be in 0..samples={samples}, got {right.min()}..{right.max()}")
    return right


def one_vote(answers: Sequence[str | None], same: Callable[[str, str], bool]) -> list[str | None]:
    """Each answer as the first of those before it that is the same, so that `0.5` and `1/2` are one vote."""
    first: list[str] = []
    votes: list[str | None] = []
    for answer in answers:
        vote = answer
        if answer is not None:
            vote = next((seen for seen in first if seen == answer or same(answer, seen)), answer)
            if vote not in first:
                first.append(vote)
        votes.append(vote)
    return votes


def majority_at_k(votes: Sequence[Hashable | None], correct: Sequence[bool]) -> bool:
    """Whether the most frequent answer of one problem's samples is right, as the first of them was judged.

    Equal counts: the answer that came first. None does not vote; without a vote the problem is not solved.
    """
    count: dict[Hashable, int] = {}
    for vote in votes:
        if vote is not None:
            count[vote] = count.get(vote, 0) + 1
    if not count:
        return False
    return bool(correct[list(votes).index(max(count, key=count.__getitem__))])


def wilson(successes: float, trials: int, *, level: float = LEVEL) -> Interval:
    """Score interval of a share of independent trials; never of width 0, also at 0 and at 1.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be in 0..trials, got successes={successes} trials={trials}")
    if not trials:
        return Interval(None)
    z2, share = NormalDist().inv_cdf((1 + level) / 2) ** 2, successes / trials
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    # A bound is at most rounding away from the share where they meet at 0 or 1.
    return Interval(share, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))


def resample(problems: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Int[np.ndarray, "B P"]:
    """How often each problem occurs in each of B draws of P problems with replacement; a function of the arguments."""
    drawn = np.random.default_rng(seed).integers(problems, size=(resamples, problems))
    flat = drawn + problems * np.arange(resamples)[:, None]
    return np.bincount(flat.ravel(), minlength=resamples * problems).reshape(resamples, problems)


def bootstrap(
    total: Float[np.ndarray, "P"], count: Float[np.ndarray, "P"], draws: Int[np.ndarray, "B P"], *, level: float = LEVEL
) -> Interval:
    """sum(total) / sum(count) with the percentile interval over resampled problems.

    With one value a problem this is a mean. With several, a problem's values stay together, as they are not
    independent of each other. Draws in which nothing counts say nothing and are left out.

    Args:
      total, count: sum and number of the values of each problem.
      draws: see `resample`.
    Returns: None for bounds of fewer than two problems that count, and for the value if none does.
    """
    counting = int((count > 0).sum())
    if not counting:
        return Interval(None)
    value = float(total.sum() / count.sum())
    return Interval(value, *_quantiles(_resampled(total, count, draws), level)) if counting > 1 else Interval(value)


def paired_difference(
    first: tuple[Float[np.ndarray, "P"], Float[np.ndarray, "P"]],
    second: tuple[Float[np.ndarray, "P"], Float[np.ndarray, "P"]],
    draws: Int[np.ndarray, "B P"],
    *,
    level: float = LEVEL,
) -> Interval:
    """First minus second ratio of sums, on the same problems: both are taken from the same draws.

    What makes a problem hard for both cancels, so that this interval is narrower than two separate ones suggest.

    Args:
      first, second: (total, count) as in `bootstrap`, of two policies or of a policy and its baseline.
    Raises: ValueError if they are not about the same number of problems.
    """
    if len({len(x) for x in (*first, *second)} | {draws.shape[1]}) != 1:
        sizes = [len(x) for x in (*first, *second)]
        raise ValueError(f"totals and counts must be of the same problems, got {sizes} and draws of {draws.shape[1]}")
    if not first[1].sum() or not second[1].sum():
        return Interval(None)
    value = float(first[0].sum() / first[1].sum() - second[0].sum() / second[1].sum())
    if ((first[1] > 0) & (second[1] > 0)).sum() < 2:
        return Interval(value)
    return Interval(value, *_quantiles(_resampled(*first, draws) - _resampled(*second, draws), level))


def _resampled(total, count, draws) -> np.ndarray:
    # No BLAS: the order of a sum must not follow the number of threads.
    total, count = (np.einsum("bp,p->b", draws, column) for column in (total, count))
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _quantiles(values, level: float) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
