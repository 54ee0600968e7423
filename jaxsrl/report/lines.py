"""Charts of values over optimizer steps, as inline SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxsrl.report.html import Html, join, tag
from jaxsrl.report.names import is_share, number, unit
from jaxsrl.report.scale import Axis, smooth, thin, tick_labels, ticks, value_domain
from jaxsrl.report.svg import LETTER, at, shape, short, stage_class, svg

WIDTH, HEIGHT = 360, 196
RAW_POINTS, LINE_POINTS = 160, 120  # most that a chart draws per line
SMOOTH_FROM = 30  # values from which on a line is smoothed


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line: values at optimizer steps. `low` and `high` bound an interval at each of them, where there is one."""

    name: str
    index: int  # the stage's place in the run: its colour and shape
    step: tuple[int, ...]
    value: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    @property
    def window(self) -> int:
        """Values a smoothed point is the mean of; 1 where the line joins the values themselves."""
        return 1 if self.low is not None or len(self.value) < SMOOTH_FROM else 2 * (len(self.value) // 40) + 3


def line_chart(metric: str, lines: Sequence[Series]) -> Html:
    """Values of one metric over optimizer steps, a line per stage, each named at its end."""
    share = is_share(metric)
    seen = [v for line in lines for v in (*line.value, *(line.low or ()), *(line.high or ()))]
    low, high = value_domain(seen, share=share)
    y_ticks = ticks(low, high, 4)
    labels = tick_labels(y_ticks, percent=share)
    left = 12 + LETTER * max((len(label) for label in labels), default=0)
    right = 14 + LETTER * max(len(short(line.name)) for line in lines)
    steps = [s for line in lines for s in line.step]
    first = 0 if min(steps) <= 0.1 * max(steps) else min(steps)
    x = Axis(first, max(max(steps), first + 1), left, WIDTH - right)
    y = Axis(low, high, HEIGHT - 34, 20)
    body = [_grid(x, y, y_ticks, labels), _axis_names(metric, x)]
    body += [_series(line, x, y) for line in lines]
    body.append(_end_labels(lines, x, y))
    beyond = sum(not y.holds(v) for line in lines for v in line.value)
    if beyond:
        body.append(tag("text", f"{beyond} beyond the axis", x=at(x.stop), y=11, class_="note", text_anchor="end"))
    return svg(
        (WIDTH, HEIGHT), describe(metric, lines), *body, class_="chart",
        data_x=_scale(x), data_y=_scale(y),
        data_percent="1" if share else None,
    )  # fmt: skip


def _scale(axis: Axis) -> str:
    """What a script needs to turn pixels back into values."""
    return f"{at(axis.start)},{at(axis.stop)},{axis.low:.9g},{axis.high:.9g}"


def describe(metric: str, lines: Sequence[Series]) -> str:
    """What a chart shows, in words."""
    told = [
        f"{line.name} from {number(line.value[0], metric)} at step {line.step[0]} "
        f"to {number(line.value[-1], metric)} at step {line.step[-1]}"
        for line in lines
    ]
    return f"{metric} over optimizer steps: " + "; ".join(told)


def _grid(x: Axis, y: Axis, y_ticks: Sequence[float], labels: Sequence[str]) -> Html:
    marks = []
    for value, label in zip(y_ticks, labels, strict=True):
        marks.append(tag("path", d=f"M{at(x.start)} {at(y(value))}H{at(x.stop)}", class_="grid"))
        marks.append(tag("text", label, x=at(x.start - 6), y=at(y(value) + 3.5), text_anchor="end"))
    marks.append(tag("path", d=f"M{at(x.start)} {at(y.start)}H{at(x.stop)}", class_="base"))
    x_ticks = ticks(x.low, x.high, 4, whole=True)
    for value, label in zip(x_ticks, tick_labels(x_ticks), strict=True):
        marks.append(tag("path", d=f"M{at(x(value))} {at(y.start)}v3", class_="base"))
        marks.append(tag("text", label, x=at(x(value)), y=at(y.start + 14), text_anchor="middle"))
    return join(*marks)


def _axis_names(metric: str, x: Axis) -> Html:
    middle = (x.start + x.stop) / 2
    return join(
        tag("text", unit(metric), x=2, y=11, class_="axis"),
        tag("text", "optimizer step", x=at(middle), y=HEIGHT - 4, class_="axis", text_anchor="middle"),
    )


def _series(line: Series, x: Axis, y: Axis) -> Html:
    points = list(zip(line.step, line.value, strict=True))
    parts = []
    if line.low is not None and line.high is not None:
        edge = list(zip(line.step, line.high, strict=True)) + list(zip(line.step, line.low, strict=True))[::-1]
        parts.append(tag("path", d=_path(edge, x, y) + "Z", class_="band"))
    if line.window > 1:
        dots = "".join(f"M{at(x(s))} {at(y(v))}h0" for s, v in thin(points, RAW_POINTS))
        parts.append(tag("path", d=dots, class_="raw"))
    drawn = _drawn(line, y)
    parts.append(tag("path", d=_path(drawn, x, y), class_="line", data_name=line.name))
    if line.window == 1 and len(points) <= 40:
        parts += [shape(line.index, x(s), y(v), 2.4) for s, v in points]
    parts.append(shape(line.index, x(drawn[-1][0]), y(drawn[-1][1])))
    return tag("g", *parts, class_=stage_class(line.index))


def _drawn(line: Series, y: Axis) -> list[tuple[float, float]]:
    """Points of the line: the values, or a fit to those on the axis where there are many."""
    points = list(zip(line.step, line.value, strict=True))
    if line.window == 1:
        return thin(points, LINE_POINTS)
    return smooth([p for p in points if y.holds(p[1])] or points, line.window, LINE_POINTS)


def _path(points: Sequence[tuple[float, float]], x: Axis, y: Axis) -> str:
    return "M" + "L".join(f"{at(x(s))} {at(y(v))}" for s, v in points)


def _end_labels(lines: Sequence[Series], x: Axis, y: Axis) -> Html:
    """Names beside the ends of their lines, pushed apart where they would lie on each other."""
    wanted = [y(_drawn(line, y)[-1][1]) + 3.5 for line in lines]
    placed: dict[int, float] = {}
    previous = -math.inf
    for i in sorted(range(len(lines)), key=lambda i: wanted[i]):
        placed[i] = previous = max(wanted[i], previous + 12)
    surplus = max(0.0, max(placed.values()) - (y.start + 3.5))
    above = math.inf
    for i in sorted(placed, key=lambda i: -placed[i]):  # shift up only as far as the axis makes necessary
        placed[i] = above = min(placed[i], (y.start + 3.5) if surplus else math.inf, above - 12)
    return join(*(
        tag("text", short(line.name), x=at(x(line.step[-1]) + 8), y=at(placed[i]),
            class_=f"name {stage_class(line.index)}")
        for i, line in enumerate(lines)
    ))  # fmt: skip
