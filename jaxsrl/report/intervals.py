"""Charts of estimates with their intervals, as inline SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxsrl.report.html import Html, tag
from jaxsrl.report.names import is_share, number
from jaxsrl.report.scale import Axis, tick_labels, ticks, value_domain
from jaxsrl.report.svg import LETTER, at, shape, short, stage_class, svg

WIDTH = 280


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its interval, one row of an interval chart."""

    name: str
    index: int
    value: float
    low: float | None = None
    high: float | None = None


def interval_chart(metric: str, rows: Sequence[Estimate], baselines: Sequence[tuple[str, float]] = ()) -> Html:
    """One row per stage: its value, the interval around it, and the value in figures. Baselines are dashed lines."""
    share = is_share(metric)
    seen = [v for r in rows for v in (r.value, r.low, r.high) if v is not None] + [v for _, v in baselines]
    low, high = value_domain([0.0, *seen], share=share)
    if min(seen) >= 0:
        low = 0.0
    left = 34 + LETTER * max(len(short(r.name)) for r in rows)
    x = Axis(low, high, left, WIDTH - 58)
    bottom = 12 + 24 * len(rows)
    marks = []
    for value, label in ticks_apart(x, share=share):
        marks.append(tag("path", d=f"M{at(x(value))} 6V{bottom}", class_="grid"))
        marks.append(tag("text", label, x=at(x(value)), y=bottom + 14, text_anchor="middle"))
    marks += [tag("path", d=f"M{at(x(v))} 6V{bottom}", class_="baseline") for _, v in baselines]
    marks += [_estimate(row, 18 + 24 * i, x, metric) for i, row in enumerate(rows)]
    told = "; ".join(f"{r.name} {_with_interval(r, metric)}" for r in rows)
    told += "".join(f"; baseline {name} {number(v, metric)}" for name, v in baselines)
    return svg((WIDTH, bottom + 20), f"{metric}: {told}", *marks, class_="intervals")


def ticks_apart(x: Axis, *, share: bool) -> list[tuple[float, str]]:
    """Round values on the axis with their labels, as many of up to five as leave a letter's width between labels."""
    for count in (4, 3, 2, 1):
        places = ticks(x.low, x.high, count)
        labels = [label + (" %" if share else "") for label in tick_labels(places, percent=share)]
        apart = (x(b) - x(a) for a, b in zip(places, places[1:], strict=False))
        widest = LETTER * max((len(label) for label in labels), default=0)
        if all(gap >= widest + LETTER for gap in apart):
            return list(zip(places, labels, strict=True))
    return [(places[0], labels[0]), (places[-1], labels[-1])] if len(places) > 1 else []


def _estimate(row: Estimate, y: float, x: Axis, metric: str) -> Html:
    parts = [
        shape(row.index, 9, y),
        tag("text", short(row.name), x=18, y=at(y + 3.5), class_="name"),
        tag("text", number(row.value, metric), x=WIDTH - 2, y=at(y + 3.5), class_="figure", text_anchor="end"),
    ]
    if row.low is not None and row.high is not None:
        parts.append(tag("path", d=f"M{at(x(row.low))} {at(y)}H{at(x(row.high))}", class_="whisker"))
    parts.append(shape(row.index, x(row.value), y, 4.4))
    return tag("g", *parts, class_=stage_class(row.index))


def _with_interval(row: Estimate, metric: str) -> str:
    around = (
        "" if row.low is None or row.high is None else f" ({number(row.low, metric)} to {number(row.high, metric)})"
    )
    return number(row.value, metric) + around
