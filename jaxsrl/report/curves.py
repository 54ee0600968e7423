"""Every metric over optimizer steps, one small panel per metric, one line per stage."""

from collections.abc import Sequence

from jaxsrl.report.html import Html, join, tag
from jaxsrl.report.lines import Series, line_chart
from jaxsrl.report.names import APART, FIRST, FORCED, MODES, last_part, meaning, number, order
from jaxsrl.report.read import Run, is_number

PLACE = ("stage", "step", "kind", "split")  # keys of a line that are no metrics
MOST_PANELS = 60
FIRST_EVALS = ("exact", "answer", "similarity")


def metric_names(rows: Sequence) -> list[str]:
    """Names with at least one finite number, without the bounds of intervals."""
    names = {name for line in rows for name, value in line.items() if name not in PLACE and is_number(value)}
    return sorted(n for n in names if not is_bound(n, names))


def is_bound(name: str, names) -> bool:
    """Whether a name is the lower or upper bound of another one."""
    return any(name.endswith(end) and name.removesuffix(end) in names for end in ("_low", "_high"))


def training_series(run: Run, name: str) -> list[Series]:
    out = []
    for i, stage in enumerate(run.stages):
        points = run.values(stage, name)
        if points:
            steps, values = zip(*points, strict=True)
            out.append(Series(name=stage, index=i, step=steps, value=values))
    return out


def evaluation_series(run: Run, name: str, split: str) -> list[Series]:
    """Stages with at least two evaluations; one alone is in the table of results."""
    out = []
    for i, stage in enumerate(run.stages):
        rows = [r for r in run.evals.get(stage, ()) if r.get("split") == split and is_number(r.get(name))]
        if len(rows) < 2:
            continue
        bounds = [[r.get(f"{name}_{end}") for r in rows] for end in ("low", "high")]
        whole = all(is_number(v) for column in bounds for v in column)
        low, high = (tuple(column) for column in bounds) if whole else (None, None)
        step, value = tuple(r["step"] for r in rows), tuple(r[name] for r in rows)
        out.append(Series(name=stage, index=i, step=step, value=value, low=low, high=high))
    return out


def panels(name: str, lines: Sequence[Series], title: str | None = None) -> list[Html]:
    """The panels of a metric: one with all stages, or one for each where stages share no scale.

    Args:
      title: of the one panel of lines that do share one.
    """
    if title is None and name in APART and len(lines) > 1:
        return [_panel(name, [line], f"{name} of {line.name}") for line in lines]
    return [_panel(name, lines, title or name)]


def _panel(name: str, lines: Sequence[Series], title: str) -> Html:
    about = meaning(name)
    caption = tag("figcaption", tag("b", title), tag("span", about) if about else None)
    return tag("figure", caption, line_chart(name, lines), class_="panel")


def training_curves(run: Run) -> Html:
    """Panels of training metrics; those that never move are told in one line."""
    names = sorted(metric_names([line for rows in run.train.values() for line in rows]), key=order)
    if not names:
        return tag("p", "No training step has been logged yet.", class_="empty")
    series = {name: training_series(run, name) for name in names}
    flat = [n for n in names if n not in FIRST and len({v for s in series[n] for v in s.value}) == 1]
    moving = [n for n in names if n not in flat]
    first = [n for n in moving if n in FIRST]
    rest = [n for n in moving if n not in FIRST]
    shown, left_out = rest[:MOST_PANELS], rest[MOST_PANELS:]
    same = ", ".join(f"{n} {number(series[n][0].value[0], n)}" for n in flat)
    return join(
        _grid([p for n in first for p in panels(n, series[n])]),
        _more(_count(len(shown), "training"), [p for n in shown for p in panels(n, series[n])]),
        tag("p", f"Without change: {same}.", class_="how") if flat else None,
        tag("p", f"Not drawn, beyond {MOST_PANELS} panels: {', '.join(left_out)}.", class_="how") if left_out else None,
        _last_values(run, names, series),
    )


def evaluation_curves(run: Run) -> Html | None:
    """Panels of held-out metrics on the validation split, where a stage was evaluated more than once."""
    rows = [r for lines in run.evals.values() for r in lines if r.get("split") == "validation"]
    series = {name: evaluation_series(run, name, "validation") for name in metric_names(rows)}
    names = sorted((n for n in series if series[n]), key=_evaluation_order)
    first = [n for n in names if last_part(n) in FIRST_EVALS and not n.startswith(FORCED)]
    rest = [n for n in names if n not in first][:MOST_PANELS]
    if not names:
        return None
    return join(
        _grid([p for n in first for p in panels(n, series[n])]),
        _more(_count(len(rest), "evaluation"), [p for n in rest for p in panels(n, series[n])]),
    )


def _evaluation_order(name: str) -> tuple[bool, int, str]:
    mode = name.removeprefix(FORCED).partition("/")[0]
    return name.startswith(FORCED), list(MODES).index(mode) if mode in MODES else len(MODES), name


def _count(more: int, kind: str) -> str:
    return f"{more} more {kind} metric{'s' * (more != 1)}"


def _grid(drawn: Sequence[Html]) -> Html | None:
    return tag("div", *drawn, class_="panels") if drawn else None


def _more(title: str, drawn: Sequence[Html]) -> Html | None:
    return tag("details", tag("summary", title), _grid(drawn)) if drawn else None


def _last_values(run: Run, names: Sequence[str], series) -> Html:
    """The numbers behind the panels, for readers who cannot see them."""
    head = tag("tr", tag("th", "metric", scope="col"), *(tag("th", s, scope="col", class_="n") for s in run.stages))
    body = []
    for name in names:
        by_stage = {line.name: line for line in series[name]}
        cells = []
        for stage in run.stages:
            line = by_stage.get(stage)
            shown = f"{number(line.value[0], name)} → {number(line.value[-1], name)}" if line else "–"
            cells.append(tag("td", shown, class_="n"))
        body.append(tag("tr", tag("th", name, scope="row"), *cells))
    table = tag("table", tag("thead", head), tag("tbody", *body))
    title = tag("summary", "First and last value of every training metric, as a table")
    return tag(
        "details",
        title,
        tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="First and last values"),
    )
