"""Numbers that are no means, with the percentiles of draws over problems: where a curve peaks, how two ranks agree."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsrl.evals.statistics import Interval, resample

DRAWS = 500
ITERATIONS = 30
FEWEST = 10  # problems for bounds of a rank correlation: draws of fewer repeat one order
RIDGE = 1e-2  # keeps the fit finite where all solutions of a length are right


class Peak(NamedTuple):
    """Steps at which accuracy is highest, and the share of draws in which that is between the least and the most."""

    at: Interval
    inside: float | None


def peak(steps: Sequence[float], right: Sequence[float], *, draws: int = DRAWS) -> Peak:
    """N*, the maximum of logit P(right) = a + b / n + c log n fitted to one row a problem, within the steps that occur.

    The curve is steep before its peak b / c and falls slowly behind it, as that of arXiv:2502.07266 does, whose peaks
    it finds within 3 %, where a parabola in n is off by 10 to 27 % (a test has the cases). A curve that only rises or
    falls peaks at an end: `inside` says how often it does not. None with fewer than three different numbers of steps,
    or where all or none is right.
    """
    levels, which = np.unique(np.asarray(steps, float), return_inverse=True)
    if len(levels) < 3 or len(np.unique(right)) < 2:
        return Peak(Interval(None), None)
    weight = np.vstack([np.ones(len(which)), resample(len(which), resamples=draws)]).astype(float)  # [1+B P]
    held = np.eye(len(levels))[which]  # [P K]
    trials = np.einsum("bp,pk->bk", weight, held)
    hits = np.einsum("bp,pk->bk", weight * np.asarray(right, float), held)
    some = np.maximum(levels, 0.5)
    some = np.stack([1 / some, np.log(some)], axis=1)
    scale = some.std(axis=0)
    x = np.concatenate([np.ones((len(levels), 1)), (some - some.mean(axis=0)) / scale], axis=1)
    at, inside = _maximum(_logistic(x, hits, trials)[:, 1:] / scale, levels.min(), levels.max())
    low, high = np.quantile(at[1:], (0.025, 0.975))
    return Peak(Interval(float(at[0]), float(low), float(high)), float(inside[1:].mean()))


def _logistic(x: Float[np.ndarray, "K 3"], hits: Float[np.ndarray, "B K"], trials) -> Float[np.ndarray, "B 3"]:
    """Coefficients of a logistic regression for every draw, by Newton's method with a small ridge."""
    beta = np.zeros((len(hits), x.shape[1]))
    for _ in range(ITERATIONS):
        share = 1 / (1 + np.exp(-np.clip(np.einsum("ki,bi->bk", x, beta), -30, 30)))
        slope = np.einsum("ki,bk->bi", x, hits - trials * share) - RIDGE * beta
        bend = np.einsum("ki,kj,bk->bij", x, x, trials * share * (1 - share)) + RIDGE * np.eye(x.shape[1])
        step = np.linalg.solve(bend, slope[..., None])[..., 0]
        beta += np.clip(step, -2, 2)
    return beta


def _maximum(curve: Float[np.ndarray, "B 2"], low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Where b / n + c log n is highest in low..high, and whether that is between them."""
    b, c = curve.T
    top = np.where((b < 0) & (c < 0), b / np.where(c < 0, c, 1.0), np.inf)
    inside = (low < top) & (top < high)
    start = max(low, 0.5)
    rises = b * (1 / high - 1 / start) + c * np.log(high / start) > 0
    return np.where(inside, top, np.where(rises, high, low)), inside


def rank_correlation(a: Sequence[float], b: Sequence[float], *, draws: int = DRAWS) -> Interval:
    """Spearman's rho, ties at their mean rank. None where one of the two does not vary; such draws are left out.

    Bounds are left out with fewer than ten problems: of three in perfect order, every draw is in perfect order.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    value = _rho(x, y)
    if value is None or len(x) < FEWEST:
        return Interval(value)
    picks = np.random.default_rng(0).integers(len(x), size=(draws, len(x)))
    found = [rho for rho in (_rho(x[pick], y[pick]) for pick in picks) if rho is not None]
    low, high = np.quantile(found, (0.025, 0.975))
    return Interval(value, float(low), float(high))


def _rho(x: np.ndarray, y: np.ndarray) -> float | None:
    ranks = [_ranks(some) for some in (x, y)]
    if len(x) < 3 or any(rank.std() == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(some: np.ndarray) -> np.ndarray:
    _, which, count = np.unique(some, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[which]


def as_metrics(name: str, found: Interval) -> dict[str, float | None]:
    """NAME, and NAME_low and NAME_high where there are bounds."""
    bounds = {} if found.low is None else {f"{name}_low": found.low, f"{name}_high": found.high}
    return {name: found.value} | bounds
