"""Charts of a study as inline SVG, in the report's marks and colours: a forest of differences, curves, fits."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxsrl.report.html import Html, tag
from jaxsrl.report.names import is_share, number
from jaxsrl.report.scale import Axis, tick_labels, ticks, value_domain
from jaxsrl.report.svg import LETTER, at, shape, stage_class, svg

WIDTH, HEIGHT = 520, 300


@dataclass(frozen=True, kw_only=True)
class Row:
    """A difference with its interval, `note` beside it."""

    name: str
    index: int
    value: float
    low: float
    high: float
    note: str


def forest(metric: str, rows: Sequence[Row], smallest: float) -> Html:
    """Differences to the anchor, one row each; what lies between the dashed lines does not matter."""
    share = is_share(metric)
    seen = [v for r in rows for v in (r.value, r.low, r.high)] + [-smallest, smallest, 0.0]
    low, high = value_domain(seen, share=False)
    left = 30 + LETTER * max(len(_cut(r.name, 48)) for r in rows)
    width = int(left) + 420
    x, bottom = Axis(low, high, left, width - 170), 14 + 26 * len(rows)
    places = ticks(low, high, 4)
    marks = []
    for value, label in zip(places, tick_labels(places, percent=share), strict=True):
        marks.append(tag("path", d=f"M{at(x(value))} 8V{bottom}", class_="grid"))
        marks.append(tag("text", label + (" pp" if share else ""), x=at(x(value)), y=bottom + 15, text_anchor="middle"))
    marks.append(tag("path", d=f"M{at(x(0.0))} 8V{bottom}", class_="base"))
    marks += [tag("path", d=f"M{at(x(v))} 8V{bottom}", class_="baseline") for v in (-smallest, smallest)]
    for i, row in enumerate(rows):
        y = 21 + 26 * i
        marks.append(tag(
            "g", shape(row.index, 9, y), tag("text", _cut(row.name, 48), x=18, y=at(y + 3.5), class_="name"),
            tag("path", d=f"M{at(x(row.low))} {at(y)}H{at(x(row.high))}", class_="whisker"),
            shape(row.index, x(row.value), y, 4.4),
            tag("text", f"{signed(row.value, metric)}  {row.note}", x=width - 160, y=at(y + 3.5), class_="figure"),
            class_=stage_class(row.index),
        ))  # fmt: skip
    told = "; ".join(
        f"{r.name} {signed(r.value, metric)} ({signed(r.low, metric)} to {signed(r.high, metric)}), {r.note}"
        for r in rows
    )
    return svg((width, bottom + 22), f"Differences of {metric} to the anchor: {told}", *marks, class_="forest")


def signed(value: float, metric: str) -> str:
    """A difference with its sign; of shares in percentage points."""
    shown = f"{100 * value:+.1f} pp" if is_share(metric) else f"{value:+.3g}"
    return shown.replace("-", "\u2212")


@dataclass(frozen=True, kw_only=True)
class Line:
    """Points, and what is drawn through them: joined values, or a function of x."""

    name: str
    index: int
    x: Sequence[float]
    y: Sequence[float]
    through: Callable[[float], float] | None = None
    links: Sequence[str] = ()
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def plot(
    title: str, x_name: str, y_name: str, lines: Sequence[Line], *, log_x: bool = False, log_y: bool = False
) -> Html:
    """Several lines on one pair of axes. Points with links lead to their runs."""
    of_x = (lambda v: math.log10(v)) if log_x else float
    of_y = (lambda v: math.log10(v)) if log_y else float
    xs = [of_x(v) for line in lines for v in line.x]
    ys = [of_y(v) for line in lines for v in (*line.y, *(line.low or ()), *(line.high or ()))]
    margin = 0.04 * (max(xs) - min(xs)) or 0.5
    span = max(ys) - min(ys) or abs(max(ys)) or 1.0
    x = Axis(min(xs) - margin, max(xs) + margin, 62, WIDTH - 16)
    y = Axis(min(ys) - 0.06 * span, max(ys) + 0.06 * span, HEIGHT - 40, 26 + 15 * math.ceil(len(lines) / 3))
    body = [*_axis(x, log_x, lambda p, label: (
        tag("path", d=f"M{at(p)} {at(y.start)}V{at(y.stop)}", class_="grid"),
        tag("text", label, x=at(p), y=at(y.start + 14), text_anchor="middle"),
    ))]  # fmt: skip
    body += _axis(y, log_y, lambda p, label: (
        tag("path", d=f"M{at(x.start)} {at(p)}H{at(x.stop)}", class_="grid"),
        tag("text", label, x=at(x.start - 6), y=at(p + 3.5), text_anchor="end"),
    ))  # fmt: skip
    body.append(tag("text", x_name, x=at((x.start + x.stop) / 2), y=HEIGHT - 6, text_anchor="middle"))
    body.append(tag("text", y_name, x=4, y=13))
    for i, line in enumerate(lines):
        place = 62 + 152 * (i % 3), 28 + 15 * (i // 3)
        key = (shape(line.index, *place), tag("text", _cut(line.name), x=place[0] + 8, y=place[1] + 3.5, class_="name"))
        body.append(tag("g", *key, *_marks(line, x, y, of_x, of_y, log_x), class_=stage_class(line.index)))
    told = "; ".join(f"{r.name} from {number(r.y[0])} at {number(r.x[0])} to {number(r.y[-1])} at {number(r.x[-1])}"
                     for r in lines)  # fmt: skip
    return svg((WIDTH, HEIGHT), f"{title}: {told}", *body, class_="chart")


def _marks(line: Line, x: Axis, y: Axis, of_x, of_y, log_x: bool) -> list[Html]:
    marks = []
    if line.low is not None and line.high is not None:
        upper = [f"{at(x(of_x(a)))} {at(y(of_y(b)))}" for a, b in zip(line.x, line.high, strict=True)]
        lower = [f"{at(x(of_x(a)))} {at(y(of_y(b)))}" for a, b in zip(line.x, line.low, strict=True)]
        marks.append(tag("path", d="M" + "L".join([*upper, *reversed(lower)]) + "Z", class_="band"))
    if line.through is not None:
        steps = [x.low + (x.high - x.low) * i / 80 for i in range(81)]
        drawn = [(p, of_y(v)) for p in steps if (v := line.through(10**p if log_x else p)) > 0 or of_y is float]
        drawn = [(p, v) for p, v in drawn if y.holds(v)]
    else:
        drawn = [(of_x(a), of_y(b)) for a, b in zip(line.x, line.y, strict=True)]
    if drawn:
        marks.append(tag("path", d="M" + "L".join(f"{at(x(a))} {at(y(b))}" for a, b in drawn), class_="line"))
    for i, (a, b) in enumerate(zip(line.x, line.y, strict=True)):
        mark = shape(line.index, x(of_x(a)), y(of_y(b)), 3.2)
        marks.append(tag("a", mark, href=line.links[i]) if line.links else mark)
    return marks


def _axis(axis: Axis, log: bool, draw) -> list[Html]:
    if log and axis.high - axis.low >= 1.2:
        powers = range(math.floor(axis.low), math.floor(axis.high) + 1)
        step = max(1, len(powers) // 6)
        within = (1, 2, 5) if axis.high - axis.low < 2.5 else (1,)
        marks = [(p + math.log10(m), f"{m}e{p}") for p in powers if p % step == 0 for m in within]
        marks = [mark for mark in marks if axis.low <= mark[0] <= axis.high]
    elif log:
        low, high = 10**axis.low, 10**axis.high
        places = ticks(low, high, 4)
        marks = [(math.log10(v), label) for v, label in zip(places, tick_labels(places), strict=True) if v > 0]
    else:
        places = ticks(axis.low, axis.high, 5)
        marks = list(zip(places, tick_labels(places), strict=True))
    return [part for value, label in marks for part in draw(axis(value), label)]


def _cut(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
