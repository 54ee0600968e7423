"""From values to places on an axis: domains, ticks, smoothing, thinning."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


@dataclass(frozen=True)
class Axis:
    """A linear axis: values `low`..`high` lie at pixels `start`..`stop`."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


def ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """About `count` round values (1, 2 or 5 times a power of ten) within low..high."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= raw * 0.75)
    if whole:
        step = max(1.0, step)
    first = math.ceil(low / step - 1e-9)
    return [0.0 if i == 0 else i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_labels(values: Sequence[float], *, percent: bool = False) -> list[str]:
    """Labels with as many digits as neighbours need to differ."""
    values = [100 * v for v in values] if percent else list(values)
    step = min((b - a for a, b in zip(values, values[1:], strict=False)), default=abs(values[0]) if values else 1) or 1
    largest = max((abs(v) for v in values), default=0)
    if largest >= 1e5 or largest < 1e-3:
        return [_exponent(v, step) for v in values]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{v:.{digits}f}".replace("-", "\u2212") for v in values]


def _exponent(value: float, step: float) -> str:
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)) + 1e-9)
    digits = max(0, power - math.floor(math.log10(step) + 1e-9))
    sign = "\u2212" if value < 0 else ""
    return f"{sign}{abs(value) / 10.0**power:.{digits}f}e{power}"


def value_domain(values: Sequence[float], *, share: bool) -> tuple[float, float]:
    """Where a value axis begins and ends.

    All of the data, with a margin, unless a few outliers would flatten the rest: then the 2nd to 98th percentile,
    and the chart says how many points lie beyond.
    """
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    inner = ordered[int(0.02 * (len(ordered) - 1))], ordered[math.ceil(0.98 * (len(ordered) - 1))]
    if len(ordered) >= 20 and high - low > 6 * (inner[1] - inner[0]) > 0:
        low, high = inner
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # constant: a line in the middle
        margin = abs(high) * 0.5 or (0.5 if share else 1.0)
    else:
        margin = 0.06 * (high - low)
    bottom, top = low - margin, high + margin
    if low >= 0:
        bottom = max(bottom, 0.0)
    return (bottom, min(top, 1.0)) if share and high <= 1 else (bottom, top)


def smooth(points: Sequence[tuple[float, float]], window: int, most: int) -> list[tuple[float, float]]:
    """At up to `most` of the points a straight line fitted to the `window` points around, read off at the point.

    In the middle of evenly spaced steps that is their mean. At the ends, where neighbours are on one side only, a mean
    would lag behind a trend and the value itself would be noise; the line does neither.
    """
    half, out = window // 2, []
    x, y = np.array(points, float).T
    for i in evenly(range(len(points)), most):
        part = slice(max(0, i - half), i + half + 1)
        away = x[part] - x[part].mean()
        spread = float((away**2).sum())
        slope = float((away * (y[part] - y[part].mean())).sum()) / spread if spread else 0.0
        out.append((float(x[i]), float(y[part].mean()) + slope * float(x[i] - x[part].mean())))
    return out


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most `most` points, by keeping the lowest and the highest of every bin, so that spikes stay."""
    if len(points) <= most:
        return list(points)
    bins = max(1, most // 2)
    kept: list[tuple[float, float]] = []
    for k in range(bins):
        part = range(k * len(points) // bins, (k + 1) * len(points) // bins)
        ends = {min(part, key=lambda i: points[i][1]), max(part, key=lambda i: points[i][1])}
        kept += [points[i] for i in sorted(ends)]
    return kept


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spread, first and last included."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(most - 1, 1))] for i in range(most)]
