"""How sure one can be of a difference: noise floor, paired intervals, correction for many comparisons, power.

A value is one run's estimate of one arm. Differences are paired: both runs have one seed, and with it one base.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

QUANTILES = (np.arange(2000) + 0.5) / 2000
Kind = Literal["better", "worse", "same", "undecided", "refused"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its interval; `p` is two-sided, of a mean of 0."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What differs between an anchor and itself.

    Args:
      deviation: standard deviation of a paired difference, in the metric's unit.
      count: differences that it was taken from.
      source: in words.
    """

    deviation: float
    count: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An arm against its anchor.

    Args:
      against: the anchor.
      difference: arm less anchor; None with fewer than two seeds.
      corrected: p after Holm's correction over the study's arms.
      floor: smallest effect that so many seeds can show.
      seeds_needed: for the study's smallest effect at its power; None where 1000 would not do.
      reason: for the verdict, in words.
    """

    arm: str
    against: str
    seeds: tuple[int, ...]
    difference: Interval | None
    corrected: float
    floor: float
    seeds_needed: int | None
    verdict: Kind
    reason: str


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Student's t interval of a mean. Values that are all equal give an interval without width.

    Raises: ValueError with fewer than two values.
    """
    values = _checked(values, 2)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    if error == 0:
        return Interval(value=mean, low=mean, high=mean, p=1.0 if mean == 0 else 0.0)
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, len(values) - 1))
    return Interval(value=mean, low=mean - half, high=mean + half, p=p)


def bootstrap_interval(values: Sequence[float], level: float = 0.95, draws: int = 4000, seed: int = 0) -> Interval:
    """Studentised bootstrap interval of a mean: quantiles of (mean* - mean) / error*, where the values are skewed.

    Draws whose values are all equal have no error and are left out.

    Raises: ValueError with fewer than six values: there are too few different draws.
    """
    values = _checked(values, 6)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    if error == 0:
        return Interval(value=mean, low=mean, high=mean, p=1.0 if mean == 0 else 0.0)
    drawn = values[np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))]
    errors = drawn.std(axis=1, ddof=1) / len(values) ** 0.5
    drawn, errors = drawn[errors > 0], errors[errors > 0]
    ratio = (drawn.mean(axis=1) - mean) / errors
    low, high = np.quantile(ratio, ((1 - level) / 2, (1 + level) / 2))
    shifted = abs(mean) / error
    p = (1 + int((np.abs(ratio) >= shifted).sum())) / (1 + len(ratio))
    return Interval(value=mean, low=float(mean - high * error), high=float(mean - low * error), p=p)


def crossed_interval(differences: Float[np.ndarray, "S P"], level: float = 0.95) -> Interval:
    """t interval of a mean over seeds and problems alike: it holds for other seeds and for other problems.

    The error is that of a two-way layout, var(seed means) / S + var(problem means) / P - var(rest) / (S P), at least
    the larger of the first two. Degrees of freedom are the smaller of S - 1 and P - 1.

    Source: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007.
    Raises: ValueError with fewer than two seeds or problems.
    """
    seeds, problems = differences.shape
    if min(seeds, problems) < 2:
        raise ValueError(f"pairing by problem needs two seeds and two problems, got {seeds} and {problems}")
    mean = float(differences.mean())
    by_seed, by_problem = differences.mean(axis=1), differences.mean(axis=0)
    rest = differences - by_seed[:, None] - by_problem[None] + mean
    of_seeds, of_problems = by_seed.var(ddof=1) / seeds, by_problem.var(ddof=1) / problems
    own = (rest**2).sum() / ((seeds - 1) * (problems - 1)) / (seeds * problems)
    error = float(max(of_seeds + of_problems - own, of_seeds, of_problems)) ** 0.5
    if error == 0:
        return Interval(value=mean, low=mean, high=mean, p=1.0 if mean == 0 else 0.0)
    freedom = min(seeds, problems) - 1
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return Interval(value=mean, low=mean - half, high=mean + half, p=2 * float(stats.t.sf(abs(mean) / error, freedom)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's corrected p-values: the k-th smallest of m times m - k + 1, never falling, at most 1."""
    order, found, largest = np.argsort(p, kind="stable"), [1.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        found[index] = largest
    return found


def power(effect: float, deviation: float, seeds: int, alpha: float = 0.05) -> float:
    """Chance that a paired two-sided t test over so many seeds finds an effect.

    The mean over what the seeds' own deviation may be, at 2000 evenly spaced quantiles: noncentral t of libraries fails
    for large shifts.
    """
    if deviation == 0:
        return 1.0 if effect else alpha
    shift, freedom = abs(effect) / deviation * seeds**0.5, seeds - 1
    bound = stats.t.ppf(1 - alpha / 2, freedom) * (stats.chi2.ppf(QUANTILES, freedom) / freedom) ** 0.5
    return float(np.mean(stats.norm.sf(bound - shift) + stats.norm.cdf(-bound - shift)))


def smallest_effect(deviation: float, seeds: int, alpha: float = 0.05, wanted: float = 0.8) -> float:
    """The smallest effect that so many seeds find with the wanted power; infinite for one seed.

    By bisection, in units of the deviation: beyond 200 of them it says infinite.
    """
    if seeds < 2:
        return float("inf")
    low, high = 0.0, 200.0
    if power(high, 1.0, seeds, alpha) < wanted:
        return float("inf")
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, 1.0, seeds, alpha) >= wanted else (middle, high)
    return high * deviation


def seeds_needed(
    effect: float, deviation: float, alpha: float = 0.05, wanted: float = 0.8, most: int = 1000
) -> int | None:
    """Seeds with which an effect is found with the wanted power; None where `most` would not do."""
    if power(effect, deviation, most, alpha) < wanted:
        return None
    low, high = 1, most  # power rises with seeds
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, deviation, middle, alpha) >= wanted else (middle, high)
    return high


def noise_floor(anchor: Mapping[int, float], repeats: Sequence[Mapping[int, float]]) -> Noise | None:
    """How much a paired difference of the anchor to itself varies, seed -> value; None where nothing says.

    Repeats of one seed share the anchor's base: their differences have mean 0, and so no degree of freedom is taken.
    Without repeats two seeds of the anchor are a pair that shares nothing: sqrt(2) times their deviation.
    """
    paired = [own[seed] - anchor[seed] for own in repeats for seed in sorted(own.keys() & anchor.keys())]
    if len(paired) >= 2:
        deviation = float(np.mean(np.square(paired))) ** 0.5
        return Noise(
            deviation=deviation, count=len(paired), source=f"{len(paired)} pairs of the anchor and its repeats"
        )
    if repeats or len(anchor) < 2:
        return None
    deviation = 2**0.5 * float(np.std(list(anchor.values()), ddof=1))
    return Noise(deviation=deviation, count=len(anchor), source=f"{len(anchor)} seeds of the anchor, unpaired")


def compare_arms(
    values: Mapping[str, Mapping[int, float]], against: Mapping[str, str], noise: Noise | None, *, smallest: float,
    interval: Callable[[Sequence[float]], Interval] = t_interval, alpha: float = 0.05, wanted: float = 0.8,
) -> tuple[Comparison, ...]:  # fmt: skip
    """Arms against their anchors, paired by seed. Holm's correction is over all of them.

    Args:
      values: arm -> seed -> estimate.
      against: arm -> its anchor, of the arms that are compared.
      noise: None refuses every verdict: nothing says what chance does.
      smallest: effect of interest.
    """
    pairs = {arm: tuple(sorted(values[arm].keys() & values[anchor].keys())) for arm, anchor in against.items()}
    differences = {arm: [values[arm][s] - values[against[arm]][s] for s in seeds] for arm, seeds in pairs.items()}
    found = {arm: interval(own) if len(own) > 1 else None for arm, own in differences.items()}
    tested = [arm for arm in found if found[arm] is not None]
    corrected = dict(zip(tested, holm([found[arm].p for arm in tested]), strict=True))
    out = []
    for arm, seeds in pairs.items():
        own = float(np.std(differences[arm], ddof=1)) if len(seeds) > 1 else 0.0
        deviation = max(own, noise.deviation if noise else 0.0)
        floor = smallest_effect(noise.deviation, len(seeds), alpha, wanted) if noise else float("inf")
        needed = seeds_needed(smallest, deviation, alpha, wanted)
        p = corrected.get(arm, 1.0)
        kind, reason = judge(found[arm], p, floor, smallest, alpha, has_noise=noise is not None)
        out.append(
            Comparison(arm=arm, against=against[arm], seeds=seeds, difference=found[arm], corrected=p, floor=floor,
                       seeds_needed=needed, verdict=kind, reason=reason)
        )  # fmt: skip
    return tuple(out)


def judge(
    difference: Interval | None, p: float, floor: float, smallest: float, alpha: float = 0.05, *, has_noise: bool = True
) -> tuple[Kind, str]:
    """The verdict on a difference, and why. Below the noise floor no arm is called better or worse."""
    if difference is None:
        return "refused", "fewer than two paired seeds"
    if not has_noise:
        return "refused", "no noise floor: the anchor has no repeats, and fewer than two seeds"
    within = max(abs(difference.low), abs(difference.high)) < smallest
    if within and floor <= smallest:
        return "same", f"the whole interval lies within {smallest:g} of the anchor"
    if p >= alpha:
        return "undecided", f"corrected p is {p:.2g}"
    if abs(difference.value) < floor:
        return "refused", f"the difference is below {floor:.3g}, the least that so many seeds can show"
    small = "" if abs(difference.value) >= smallest else f", by less than the {smallest:g} that matters"
    return ("better" if difference.value > 0 else "worse"), f"corrected p is {p:.2g}{small}"


def coverage(
    interval: Callable[[Sequence[float]], Interval], draw: Callable[[np.random.Generator], Sequence[float]],
    truth: float, trials: int, seed: int = 0,
) -> float:  # fmt: skip
    """Share of simulated studies whose interval holds the truth."""
    rng = np.random.default_rng(seed)
    found = [interval(draw(rng)) for _ in range(trials)]
    return sum(one.low <= truth <= one.high for one in found) / trials


def _checked(values: Sequence[float], least: int) -> np.ndarray:
    if len(values) < least:
        raise ValueError(f"an interval of this kind needs {least} values, got {len(values)}")
    return np.asarray(values, float)
