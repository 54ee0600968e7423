"""`jaxsrl study fit FILE.csv`: a scaling fit of points that are given as columns, as a page and a CSV beside them."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrl.report.html import Html, tag
from jaxsrl.report.names import number
from jaxsrl.studies import scaling, sigmoid
from jaxsrl.studies.charts import Line, plot
from jaxsrl.studies.page import document, figure, section, table, write_whole

HOW_LAW = (
    "Variable projection: for each pair of exponents the other three parameters follow from a linear problem, so that "
    "only two are searched. Huber loss on relative residuals. Intervals are percentiles of a residual bootstrap."
)
HOW_SPLIT = (
    "For a budget of C = 6 N D. The parabola through the losses of one budget is drawn beside: it is biased even "
    "without noise, as the curve it is fitted to is not symmetric."
)
HOW_SIGMOID = (
    "R(C) = R0 + (A − R0) / (1 + (C_mid / C)^B). A is where the recipe tends to. Where the data do not pass C_mid "
    "tenfold, A is mostly extrapolated, and its interval says so."
)
MISFIT = 0.1  # how far points lie beside a law, as a share of their loss, that does not describe them
LAW_COLUMNS, SIGMOID_COLUMNS = ("params", "tokens", "loss"), ("compute", "reward")


def fit_file(
    path: Path, *, out: Path | None = None, budgets: Sequence[float] = (), start: float | None = None,
    leave_out: float = 0.0, arm: str | None = None, draws: int = 400, title: str | None = None,
    notes: Sequence[str] = (),
) -> tuple[str, Path]:  # fmt: skip
    """Fits what the columns name, and writes `FILE.fit.html` and `FILE.fit.csv`. Returns the fit in words and the page.

    Args:
      path: columns params, tokens, loss, one model a line; or compute, reward, one evaluation a line. Of others, `runs`
        gives the folders that the points of a law lead to.
      out: folder of the page; None is that of the file.
      budgets: FLOPs at which the best split is told; none takes the largest measured one, ten and a hundred times it.
      start, leave_out: see `sigmoid.fit_sigmoid`. Values at compute 0, which the curve has none for, are left out, and
        their mean is `start` where none is given.
      arm: of a study's `curves.csv`, whose other lines are left out.
      draws: of the bootstrap.
      title: of the page; None is the file's name. notes: what else the reader has to know.
    Raises: ValueError naming file, line and column of what is no number, or what is missing.
    """
    columns = read_columns(path, arm)
    if all(name in columns for name in LAW_COLUMNS):
        points = scaling.Points(**{name: columns[name] for name in LAW_COLUMNS})
        rows, alarms, body = _law(points, draws, budgets, notes, () if out else run_links(path))
    else:
        compute, reward, start = after_start(columns["compute"], columns["reward"], start)
        settings = {"start": start, "leave_out": leave_out}
        found = sigmoid.fit_sigmoid(compute, reward, draws=draws, **settings)
        rows, alarms, body = _curve(compute, reward, found, settings, notes)
    folder = out or path.parent
    folder.mkdir(parents=True, exist_ok=True)
    title, name = title or path.name + (f", {arm}" if arm else ""), path.stem + (f".{arm}" if arm else "")
    heading = tag("header", tag("p", "jaxsrl study fit", class_="kicker"), tag("h1", title), class_="top")
    write_whole(folder / f"{name}.fit.csv", _csv(rows))
    page = write_whole(folder / f"{name}.fit.html", document(f"{title} – jaxsrl fit", heading, body))
    width = max(len(name) for name, *_ in rows)
    said = [f"{name:<{width}}  {_shown(value)}{_between(low, high)}" for name, value, low, high in rows]
    return "\n".join([*said, *(f"warning: {text}" for text in alarms)]), page


def read_columns(path: Path, arm: str | None = None) -> dict[str, np.ndarray]:
    """The columns that one of the fits needs, as numbers; of lines with this `arm` alone, where one is given."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        there = [name.strip() for name in reader.fieldnames or ()]
        wanted = next((w for w in (LAW_COLUMNS, SIGMOID_COLUMNS) if all(name in there for name in w)), None)
        if wanted is None:
            raise ValueError(
                f"{path} has the columns {', '.join(there) or '(none)'}; a scaling law needs {', '.join(LAW_COLUMNS)}, "
                f"a sigmoid {', '.join(SIGMOID_COLUMNS)}"
            )
        lines = [(i, {str(k).strip(): v for k, v in line.items()}) for i, line in enumerate(reader, 2)]
    if not lines:
        raise ValueError(f"{path} has no line below its columns")
    arms = list(dict.fromkeys(line["arm"] for _, line in lines)) if "arm" in there else []
    if (arm is not None and arm not in arms) or (arm is None and len(arms) > 1):
        raise ValueError(f"{path} has the arms {', '.join(arms) or '(none)'}; give one of them as --arm, got {arm}")
    lines = [(i, line) for i, line in lines if arm is None or line["arm"] == arm]
    read = lambda name: np.array([_number(path, i, name, line[name]) for i, line in lines])
    return {name: read(name) for name in wanted}


def read_column(path: Path, name: str) -> list[str]:
    """One column as it stands, one value a line; none where the file has no such column, or is not there."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        return [line[name] for line in reader] if name in (reader.fieldnames or ()) else []


def after_start(
    compute: np.ndarray, reward: np.ndarray, start: float | None
) -> tuple[np.ndarray, np.ndarray, float | None]:  # fmt: skip
    """What was evaluated before any compute says where the curve starts, and is no point of it."""
    before = compute == 0
    if start is None and before.any():
        start = float(reward[before].mean())
    return compute[~before], reward[~before], start


def run_links(path: Path) -> tuple[str, ...]:
    """The report of every line's first run, relative to the file; none where it has no column `runs`."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    return tuple(f"{line['runs'].split()[0]}/report.html" for line in lines) if "runs" in lines[0] else ()


def _number(path: Path, line: int, name: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}, line {line}: {name}={text!r} is no number")
    return value


Rows = list[tuple[str, float, float | None, float | None]]


def _law(
    points: scaling.Points, draws: int, budgets: Sequence[float], notes: Sequence[str], links: Sequence[str]
) -> tuple[Rows, list[str], Html]:
    found = scaling.fit_law(points, draws=draws)
    largest = float(points.flops.max())
    budgets = tuple(budgets) or (largest, 10 * largest, 100 * largest)
    rows = _with_intervals(found, found.law, {
        "E": lambda law: law.E, "A": lambda law: law.A, "B": lambda law: law.B, "alpha": lambda law: law.alpha,
        "beta": lambda law: law.beta, "a (N* ~ C^a)": lambda law: law.exponent,
    })  # fmt: skip
    best = _with_intervals(found, found.law, {
        name: value for c in budgets for name, value in (
            (f"N* at {c:.2e} FLOPs", lambda law, c=c: law.best(c)[0]),
            (f"D* at {c:.2e} FLOPs", lambda law, c=c: law.best(c)[1]),
            (f"loss at {c:.2e} FLOPs", lambda law, c=c: law.loss(*law.best(c))),
        )
    })  # fmt: skip
    low, high = (float(found.law.best(c)[0]) for c in (points.flops.min(), largest))
    alarms = _true(
        (found.noise > MISFIT, f"A point lies {found.noise:.0%} beside the law: it does not describe these losses."),
        (low < points.params.min() or high > points.params.max(),
         f"The best sizes of the measured budgets, {number(low)} to {number(high)} parameters, are not all within "
         f"those trained, {number(points.params.min())} to {number(points.params.max())}: the split is extrapolated."),
        (found.law.E <= 0, "E is not above 0: the points do not reach far enough to determine it."),
        (any(abs(x - b) < 1e-6 for x in (found.law.alpha, found.law.beta) for b in scaling.EXPONENTS),
         "An exponent is at the end of what is searched: the points do not determine it."),
        (len(found.draws) < draws, f"{draws - len(found.draws)} of {draws} draws show no law and are left out."),
    )  # fmt: skip
    score = scaling.extrapolation(points)
    judged = _extrapolation(score, "the lower half of the budgets", "carrying on their best loss", share=True)
    return [*rows, *best], alarms, tag(
        "main",
        section("fit", "L(N, D) = E + A / N^α + B / D^β", HOW_LAW, alarms_list([*alarms, *notes]), _values(rows),
                _noise(found.noise), judged),
        section("loss", "Loss against compute", "", figure(_losses(points, found, links))),
        section("split", "How to split a budget", HOW_SPLIT, _values(best),
                figure(_split(points, found))),
    )  # fmt: skip


def _losses(points: scaling.Points, found: scaling.LawFit, links: Sequence[str]) -> Html:
    sizes = sorted(set(points.params.tolist()))
    shown = sizes if len(sizes) <= 9 else [sizes[round(i * (len(sizes) - 1) / 8)] for i in range(9)]
    lines = []
    for i, size in enumerate(shown):
        rows = np.flatnonzero(points.params == size)
        rows = rows[np.argsort(points.flops[rows])]
        through = lambda c, size=size: float(found.law.loss(size, c / scaling.FLOPS / size))
        lines.append(Line(name=f"{number(size)} params", index=i, x=points.flops[rows].tolist(),
                          y=points.loss[rows].tolist(), through=through,
                          links=[links[row] for row in rows] if links else ()))  # fmt: skip
    return plot("Loss", "FLOPs (6 N D)", "loss, nats per token", lines, log_x=True, log_y=True)


def _split(points: scaling.Points, found: scaling.LawFit) -> Html:
    budgets = np.geomspace(points.flops.min(), points.flops.max() * 10, 12)
    sizes = [[law.best(c)[0] for law in found.draws] for c in budgets]
    low, high = np.quantile(sizes, (0.025, 0.975), axis=1)
    lines = [Line(name="law, with 95 % band", index=0, x=budgets.tolist(), y=[found.law.best(c)[0] for c in budgets],
                  low=low.tolist(), high=high.tolist())]  # fmt: skip
    if least := scaling.parabolas(points):
        lines.append(Line(name="parabolas", index=1, x=[c for c, _ in least], y=[n for _, n in least]))
    return plot("Best size", "FLOPs", "parameters", lines, log_x=True, log_y=True)


def _curve(
    compute: np.ndarray, reward: np.ndarray, found: sigmoid.SigmoidFit, settings: dict[str, Any], notes: Sequence[str]
) -> tuple[Rows, list[str], Html]:
    rows = _with_intervals(found, found.curve, {
        "R0": lambda c: c.R0, "A": lambda c: c.A, "C_mid": lambda c: c.C_mid, "B": lambda c: c.B,
    })  # fmt: skip
    order = np.argsort(compute)
    line = Line(name="held-out reward", index=0, x=compute[order].tolist(), y=reward[order].tolist(),
                through=lambda c: float(found.curve.reward(c)))  # fmt: skip
    past = found.past_middle
    alarms = _true((past < 10, f"The data reach {past:.1f} times C_mid: below ten, A is mostly extrapolated."))
    judged = _extrapolation(
        sigmoid.extrapolation(compute, reward, **settings), "the first half", "carrying on the last of it", share=False
    )
    chart = figure(plot("Reward", "compute", "reward", [line], log_x=True))
    return rows, alarms, tag("main", section(
        "fit", "Reward against compute", HOW_SIGMOID, alarms_list([*alarms, *notes]), _values(rows),
        _noise(found.noise, share=False), chart, judged,
    ))  # fmt: skip


def _with_intervals(found: Any, point: Any, of: Mapping[str, Callable[[Any], float]]) -> Rows:
    return [(name, float(value(point)), *found.interval(value)) for name, value in of.items()]


def _values(rows: Rows) -> Html:
    return table(("number", "value", "95 % interval"), [(n, _shown(v), _between(a, b).strip()) for n, v, a, b in rows],
                 ("value", "95 % interval"))  # fmt: skip


def _noise(noise: float, share: bool = True) -> Html:
    shown = f"{noise:.2%} of the value" if share else f"{noise:.3g}"
    return tag("p", f"A point lies {shown} beside the fit (standard deviation).", class_="how")


def _true(*said: tuple[bool, str]) -> list[str]:
    return [text for true, text in said if true]


def alarms_list(told: Sequence[str]) -> Html | None:
    return tag("ul", *(tag("li", text) for text in told), class_="alarms") if told else None


def _extrapolation(score: tuple[float, float] | None, half: str, flat: str, *, share: bool) -> Html:
    if score is None:
        return tag("p", f"Extrapolation: {half} has too few points to be fitted alone.", class_="how")
    own, other = (f"{s:.2%}" if share else f"{s:.3g}" for s in score)
    said = (
        f"Extrapolation: fitted to {half}, judged on the rest, it is off by {own} (root mean square); {flat}, {other}."
    )
    return tag("p", said, class_="how")


def _shown(value: float) -> str:
    return f"{value:.4g}"


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"  ({low:.4g} to {high:.4g})"


def _csv(rows: Rows) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("number", "value", "low", "high"))
    writer.writerows(rows)
    return out.getvalue()
