"""Several runs on one page: the table of what they reached, and their curves laid over each other."""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxsrl.report.curves import FIRST_EVALS, metric_names, panels
from jaxsrl.report.headline import headline
from jaxsrl.report.html import Html, join, tag
from jaxsrl.report.lines import Series
from jaxsrl.report.names import FIRST, FORCED, last_part, order
from jaxsrl.report.page import document
from jaxsrl.report.read import Run, is_number, read_run
from jaxsrl.report.svg import shape, stage_class

MOST_RUNS = 12  # drawn; more lines than that cannot be told apart
HOW = (
    "One panel per metric and stage, one line per run, over the optimizer steps of that stage. Faint dots are logged "
    "values, the line is a local fit to them. On panels of evaluations the band is the interval over problems."
)


def write_comparison(
    path: Path, folders: Sequence[Path], columns: Sequence[str], rows: Sequence[Sequence[str]], note: str
) -> Path:
    """Writes the page of several runs; the same files give the same bytes.

    Args:
      columns, rows: the table; a row begins with its stage.
    Raises: ReportError where a folder is no run; OSError where the page cannot be written.
    """
    runs = [read_run(folder) for folder in folders]
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(
        comparison([_label(folders, k) for k in range(len(runs))], runs, columns, rows, note).encode()
    )
    os.replace(temporary, path)
    return path


def _label(folders: Sequence[Path], index: int) -> str:
    """A run's folder, with as much of the path as tells it from the others."""
    parts = [Path(folder).resolve().parts for folder in folders]
    own = parts[index]
    for depth in range(1, len(own) + 1):
        if sum(other[-depth:] == own[-depth:] for other in parts) == 1:
            return "/".join(own[-depth:])
    return f"{own[-1]} ({index + 1})"


def comparison(
    names: Sequence[str], runs: Sequence[Run], columns: Sequence[str], rows: Sequence[Sequence[str]], note: str
) -> str:
    """The page as text."""
    drawn = list(zip(names, runs, strict=True))[:MOST_RUNS]
    left_out = len(runs) - len(drawn)
    stages = list(dict.fromkeys(stage for _, run in drawn for stage in run.stages))
    head = tag("header", tag("p", "jaxsrl compare", class_="kicker"), tag("h1", f"{len(runs)} runs"), class_="top")
    said = tag("p", f"{left_out} more runs are in the table and not drawn.", class_="how") if left_out else None
    sections = [
        tag("section", tag("h2", "Runs"), _runs(drawn), id="runs"),
        tag("section", tag("h2", "Results"), tag("p", note, class_="how"), _table(columns, rows), id="results"),
        tag("section", tag("h2", "Curves"), tag("p", HOW, class_="how"), said,
            *(_stage(stage, drawn) for stage in stages), id="curves"),
    ]  # fmt: skip
    links = [("runs", "Runs"), ("results", "Results"), ("curves", "Curves")]
    return document(f"{len(runs)} runs – jaxsrl compare", head, links, sections)


def _runs(drawn: Sequence[tuple[str, Run]]) -> Html:
    """Which line is which run."""
    rows = []
    for k, (name, run) in enumerate(drawn):
        chip = tag("svg", shape(k, 6, 6, 4.4), viewBox="0 0 12 12", class_="chip", aria_hidden="true")
        cells = tag("th", chip, name, scope="row", class_=f"stage {stage_class(k)}"), tag("td", headline(run))
        rows.append(tag("tr", *cells))
    return tag("div", tag("table", tag("tbody", *rows), class_="runs"), class_="scroll", tabindex=0, role="group",
               aria_label="Runs")  # fmt: skip


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """Stages beside each other, as there are fewer of them than of metrics."""
    names = ("metric", *(row[0] for row in rows))
    head = tag("tr", *(tag("th", name, scope="col", class_="n" if k else None) for k, name in enumerate(names)))
    body = [
        tag("tr", tag("th", column, scope="row", class_="stage"), *(tag("td", row[1 + k], class_="n") for row in rows))
        for k, column in enumerate(columns)
    ]
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="results")
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Results of all runs")


def _stage(stage: str, drawn: Sequence[tuple[str, Run]]) -> Html:
    """Panels of a stage: evaluations first, then what is looked at first in training; the rest is folded away."""
    splits = {str(line.get("split")) for _, run in drawn for line in run.evals.get(stage, ())}
    shown: list[Html] = []
    for split in sorted(splits, key=lambda s: (s != "validation", s)):
        lines = [line for _, run in drawn for line in run.evals.get(stage, ()) if str(line.get("split")) == split]
        for name in metric_names(lines):
            if last_part(name) in FIRST_EVALS and not name.startswith(FORCED):
                shown += _panel(
                    name, f"{name}, {split}", [_evaluated(run, stage, name, split) for _, run in drawn], drawn
                )
    names = metric_names([line for _, run in drawn for line in run.train.get(stage, ())])
    more: list[Html] = []
    for name in sorted(names, key=order):
        panel = _panel(name, name, [run.values(stage, name) for _, run in drawn], drawn)
        (shown if name in FIRST else more).extend(panel)
    folded = tag("summary", f"{len(more)} more training metric{'s' * (len(more) != 1)} of {stage}")
    return join(
        tag("h3", stage),
        tag("div", *shown, class_="panels") if shown else tag("p", "Nothing has been logged yet.", class_="empty"),
        tag("details", folded, tag("div", *more, class_="panels")) if more else None,
    )


def _evaluated(run: Run, stage: str, name: str, split: str) -> list[tuple[int, float]]:
    rows = [r for r in run.evals.get(stage, ()) if str(r.get("split")) == split and is_number(r.get(name))]
    return [(row["step"], row[name]) for row in rows] if len(rows) > 1 else []


def _panel(name: str, title: str, values, drawn: Sequence[tuple[str, Run]]) -> list[Html]:
    lines = [
        Series(name=label, index=k, step=tuple(s for s, _ in points), value=tuple(v for _, v in points))
        for k, ((label, _), points) in enumerate(zip(drawn, values, strict=True))
        if points
    ]
    return panels(name, lines, title) if lines else []
