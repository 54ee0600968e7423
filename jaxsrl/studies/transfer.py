"""Does the best learning rate of a small model serve a larger one? Sweeps of rates as one value, and what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from jaxsrl.config.run import Config
from jaxsrl.models.config import ModelConfig
from jaxsrl.objectives.sft import SFT
from jaxsrl.studies.effects import Interval, bootstrap_interval, t_interval
from jaxsrl.studies.study import Arm, Estimator, Study

Axis = Literal["width", "layers"]
LEAST_SIZES, LEAST_RATES, LEAST_SEEDS = 3, 5, 2
QUESTION = "Does the best learning rate of a small model serve a larger one?"


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What `transfer()` of a file returns: every size at every learning rate, all on the same batches.

    Args:
      base: one stage of SFT, of the steps that every run takes; the loss is over its last ones. `optimizer.lr` is
        replaced by `rates`.
      widths: three or more sizes that differ in width, at one number of layers; none leaves the question out.
      depths: the same of sizes that differ in layers, at one width. A size may stand in both.
      rates: learning rates, the same for all sizes.
      seeds: of every size and rate.
      last: share of the steps, the last ones, over which the loss is averaged.
      near: a parabola is laid through the rates within this factor of the best one.
      tolerance: the rate transfers where its optimum surely moves by less than this factor a doubling of size.
      population: see `Study`.
    """

    name: str
    base: Config
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    widths: tuple[ModelConfig, ...] = ()
    depths: tuple[ModelConfig, ...] = ()
    last: float = 0.1
    near: float = 4.0
    tolerance: float = 1.25
    population: int | None = None

    def __post_init__(self):
        if len(self.base.stages) != 1 or not isinstance(self.base.stages[0].objective, SFT):
            raise ValueError("a sweep of learning rates has one stage, of SFT: its loss is what is compared")
        if len(set(self.rates)) < LEAST_RATES or min(self.rates) <= 0:
            raise ValueError(f"rates must be {LEAST_RATES} or more, and above 0, got {self.rates}")
        if len(set(self.seeds)) < LEAST_SEEDS:
            raise ValueError(f"seeds must be {LEAST_SEEDS} or more: they give the intervals, got {self.seeds}")
        if not self.widths and not self.depths:
            raise ValueError("give widths, depths, or both: between them it is asked whether a rate transfers")
        for axis, same in (("width", "layers"), ("layers", "width")):
            sizes = self.sizes(axis)
            if sizes and len({vars(size)[axis] for size in sizes}) < max(LEAST_SIZES, len(sizes)):
                raise ValueError(f"sizes that differ in {axis} must be {LEAST_SIZES} or more, all different")
            if len({vars(size)[same] for size in sizes}) > 1:
                raise ValueError(f"sizes that differ in {axis} must have equal {same}: one cause at a time")
        if not 0 < self.last <= 1 or min(self.near, self.tolerance) <= 1:
            raise ValueError(
                f"last must be in 0..1, near and tolerance factors above 1: {self.last=} {self.near=} {self.tolerance=}"
            )

    def sizes(self, axis: Axis) -> tuple[ModelConfig, ...]:
        """Those that differ along one axis, smallest first."""
        return tuple(sorted(self.widths if axis == "width" else self.depths, key=lambda size: vars(size)[axis]))


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best learning rate of a size.

    Args:
      rate: geometric mean over seeds of each seed's own optimum, with its 95 % interval.
      by_seed: natural logarithm of each seed's optimum; NaN where that seed's parabola has no minimum within.
      why: the reason why there is none, where there is none.
    """

    rate: Interval | None
    by_seed: Float[np.ndarray, "S"]
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How the optimum moves along one axis.

    Args:
      sizes: widths or numbers of layers that have an optimum, rising; `left_out` says why others have none.
      factor: by which it moves when the size doubles, with its 95 % interval over seeds.
      exponent: a of lr ~ size^-a, likewise.
      loss: nats a token that the largest size loses at the smallest one's optimum, likewise.
      tolerance: see `Transfer`.
    """

    axis: Axis
    sizes: tuple[int, ...]
    left_out: str
    factor: Interval | None = None
    exponent: Interval | None = None
    loss: Interval | None = None
    tolerance: float = 1.25

    @property
    def kind(self) -> Literal["transfers", "moves", "undecided"]:
        """Whether the rate transfers; undecided where the interval holds both answers, or too few sizes an optimum."""
        if self.factor is None:
            return "undecided"
        if 1 / self.tolerance < self.factor.low and self.factor.high < self.tolerance:
            return "transfers"
        return "moves" if self.factor.high < 1 or self.factor.low > 1 else "undecided"

    @property
    def words(self) -> str:
        """The verdict in sentences."""
        if self.factor is None:
            return f"Undecided: fewer than {LEAST_SIZES} sizes have an optimum within the rates ({self.left_out})."
        verdict = {
            "transfers": f"It transfers: by less than {self.tolerance:g} a doubling.",
            "moves": f"It does not transfer: take lr ~ {self.axis}^{-self.exponent.value:.2f}.",
            "undecided": f"Undecided: the interval holds both no move and one by {self.tolerance:g}.",
        }[self.kind]
        what = "width" if self.axis == "width" else "the number of layers"
        rest = f" Left out: {self.left_out}." if self.left_out else ""
        return (
            f"From {self.axis} {self.sizes[0]} to {self.sizes[-1]} the optimum moves by a factor of "
            f"{_between(self.factor, 2)} per doubling of {what}: lr ~ {self.axis}^-a with a = "
            f"{_between(self.exponent, 2)}. {verdict} At the smallest size's optimum the largest loses "
            f"{_between(self.loss, 3)} nats a token.{rest}"
        )


def _between(one: Interval, digits: int) -> str:
    return f"{one.value:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]"


def as_study(sweep: Transfer) -> Study:
    """The study whose arms are the sizes at their rates; nothing is compared in it."""
    (stage,) = sweep.base.stages
    arms = []
    for size in dict.fromkeys((*sweep.widths, *sweep.depths)):
        for rate in sweep.rates:
            own = replace(stage, optimizer=replace(stage.optimizer, lr=rate))
            arms.append(Arm(name=arm_name(size, rate), config=replace(sweep.base, model=size, stages=(own,))))
    return Study(
        name=sweep.name, question=QUESTION,
        fixed=f"{stage.steps} steps on the same batches, learning rates {sweep.rates}, {len(sweep.seeds)} seeds",
        base=sweep.base, arms=tuple(arms), anchor=arms[0].name, seeds=sweep.seeds, population=sweep.population,
        estimator=Estimator(metric=stage.validate.metric, last=1), smallest_effect=1.0,
    )  # fmt: skip


def arm_name(size: ModelConfig, rate: float) -> str:
    return f"width={size.width},layers={size.layers},lr={rate:g}"


def over_seeds(values: Sequence[float]) -> Interval:
    """Student's t, or the studentised bootstrap from six seeds on: a plain one of few seeds is too narrow (README)."""
    return bootstrap_interval(values) if len(values) >= 6 else t_interval(values)


def optimum(rates: Float[np.ndarray, "R"], losses: Float[np.ndarray, "S R"], near: float = 4.0) -> Optimum:
    """The minimum of a parabola in log lr through the losses around the best rate, of each seed.

    All seeds use the rates around the best one of their mean loss, so that no seed chooses points of its own.

    Args:
      rates: rising.
      losses: of each seed; infinite where a run diverged.
      near: factor of the best rate within which a rate counts.
    """
    x, middle = np.log(rates), losses.mean(axis=0)
    none = np.full(len(losses), np.nan)
    if not np.isfinite(middle).any():
        return Optimum(rate=None, by_seed=none, why="every rate diverged")
    best = int(np.argmin(middle))
    if best in (0, len(rates) - 1):
        return Optimum(rate=None, by_seed=none, why=f"the best rate, {rates[best]:g}, is the edge of those tried")
    rows = _around(x, middle, best, near)
    if not rows[best + 1]:
        return Optimum(rate=None, by_seed=none, why=f"all rates above the best, {rates[best]:g}, diverged")
    if rows.sum() < 3:
        return Optimum(rate=None, by_seed=none, why=f"fewer than three rates within a factor of {near:g} of the best")
    found = np.array([_lowest(x[rows], own[rows]) for own in losses])
    if np.isnan(found).any():
        told = f"the parabola of {np.isnan(found).sum()} of {len(found)} seeds has no minimum within the rates"
        return Optimum(rate=None, by_seed=found, why=told)
    return Optimum(rate=_exp(over_seeds(found)), by_seed=found)


def _around(x: np.ndarray, middle: np.ndarray, best: int, near: float) -> Bool[np.ndarray, "R"]:
    return np.isfinite(middle) & (np.abs(x - x[best]) <= np.log(near) + 1e-9)


def _lowest(x: np.ndarray, y: np.ndarray) -> float:
    """Where the parabola through these points is least; NaN where it is not within them."""
    middle = x.mean()
    bend, slope, _ = np.polyfit(x - middle, y, 2)
    if bend <= 0:
        return np.nan
    least = middle - slope / (2 * bend)
    return float(least) if x.min() <= least <= x.max() else np.nan


def moved(
    axis: Axis, sizes: Sequence[int], rates: Float[np.ndarray, "R"], losses: Mapping[int, Float[np.ndarray, "S R"]],
    *, near: float = 4.0, tolerance: float = 1.25,
) -> Moved:  # fmt: skip
    """How the optimum moves from size to size: a power of the size, fitted for each seed.

    A seed has its data order and its start at every size, so that its own slope is free of what the seed adds to all.

    Args:
      sizes: widths or numbers of layers, rising.
      losses: of each size.
      near: see `optimum`; tolerance: see `Transfer`.
    """
    best = {size: optimum(rates, losses[size], near) for size in sizes}
    known = tuple(size for size in sizes if best[size].rate is not None)
    left_out = "; ".join(f"{axis} {size}: {best[size].why}" for size in sizes if size not in known)
    if len(known) < LEAST_SIZES:
        return Moved(axis=axis, sizes=known, left_out=left_out, tolerance=tolerance)
    optima = np.stack([best[size].by_seed for size in known])
    slope = over_seeds(np.polyfit(np.log(known), optima, 1)[0])  # one a seed
    return Moved(
        axis=axis, sizes=known, left_out=left_out, tolerance=tolerance,
        factor=_exp(_times(slope, float(np.log(2)))), exponent=_times(slope, -1.0),
        loss=over_seeds(_lost(np.log(rates), losses[known[-1]], optima[0], optima[-1])),
    )  # fmt: skip


def _lost(x: np.ndarray, losses: np.ndarray, smallest: np.ndarray, own: np.ndarray) -> list[float]:
    """Loss of the largest size at the smallest one's optimum above that at its own, straight lines between rates."""
    return [float(np.interp(a, x, y) - np.interp(b, x, y)) for a, b, y in zip(smallest, own, losses, strict=True)]


def _times(one: Interval, factor: float) -> Interval:
    low, high = sorted((factor * one.low, factor * one.high))
    return Interval(value=factor * one.value, low=low, high=high, p=one.p)


def _exp(log: Interval) -> Interval:
    return Interval(value=float(np.exp(log.value)), low=float(np.exp(log.low)), high=float(np.exp(log.high)), p=log.p)
