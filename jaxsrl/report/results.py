"""Held-out evaluation: the last line of every stage, as interval charts and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxsrl.report.curves import metric_names
from jaxsrl.report.html import Html, join, tag
from jaxsrl.report.intervals import Estimate, interval_chart
from jaxsrl.report.names import AT_K, FORCED, MODES, is_share, last_part, meaning, number
from jaxsrl.report.read import Run, is_number
from jaxsrl.report.svg import shape, stage_class

HEADLINES = ("actions/exact", "actions/similarity", "chained/answer", "direct/answer")
# Columns of the table within a mode, by the last part of a name; what is not here is in the list of all metrics.
COLUMNS = ("exact", "answer", "similarity", "malformed", "thinks")
HIGHER_IS_BETTER = ("exact", "answer", "similarity")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A stage's evaluation on a split."""

    name: str
    index: int
    line: Mapping[str, Any]


def result_rows(run: Run, split: str) -> list[Row]:
    """The last evaluation of each stage; before them the first stage's at step 0, which is the model it began with."""
    rows: list[Row] = []
    for i, stage in enumerate(run.stages):
        lines = [line for line in run.evals.get(stage, ()) if line.get("split") == split]
        if not lines:
            continue
        if i == 0 and lines[0]["step"] == 0 and len(lines) > 1:
            rows.append(Row(name=f"before {stage}", index=-1, line=lines[0]))
        rows.append(Row(name=stage, index=i, line=lines[-1]))
    return rows


def splits(run: Run) -> list[str]:
    """Splits that were evaluated, test first."""
    seen = {str(line.get("split")) for lines in run.evals.values() for line in lines}
    return sorted(seen, key=lambda s: (s != "test", s))


def results(run: Run) -> Html:
    found = splits(run)
    if not found:
        return tag(
            "p", "No evaluation yet. A stage is evaluated before its first and after its last step.", class_="empty"
        )
    return join(*(_split(split, result_rows(run, split), drawn=split == found[0]) for split in found))


def _split(split: str, rows: Sequence[Row], *, drawn: bool) -> Html:
    names = metric_names([row.line for row in rows])
    charts = [_headline(name, rows, names) for name in HEADLINES if name in names and drawn]
    plain = [n for n in names if not n.startswith(FORCED)]
    forced = [n for n in names if n.startswith(FORCED)]
    return tag(
        "section",
        tag("h3", f"{split} split"),
        tag("div", *charts, class_="panels four") if charts else None,
        _table(rows, plain, f"{split} split") if plain else None,
        tag("h4", "The same with <think> written for the model") if forced else None,
        _table(rows, forced, f"{split} split, think block opened for the model") if forced else None,
        _everything(rows, names),
    )


def baselines(name: str, names: Sequence[str]) -> list[str]:
    """Metrics that a metric is read against: `actions/similarity_X` beside `actions/similarity`."""
    return [n for n in names if n.startswith(name + "_") and not n.endswith(("_share", "_rate", "_mean"))]


def _headline(name: str, rows: Sequence[Row], names: Sequence[str]) -> Html:
    estimates = []
    for row in rows:
        low, high = (row.line.get(f"{name}_{end}") for end in ("low", "high"))
        if is_number(row.line.get(name)):
            low, high = (low, high) if is_number(low) and is_number(high) else (None, None)
            estimates.append(Estimate(name=row.name, index=row.index, value=row.line[name], low=low, high=high))
    beside = [
        (_of_baseline(n, name), rows[-1].line[n]) for n in baselines(name, names) if is_number(rows[-1].line.get(n))
    ]
    about = meaning(name)
    told = ", ".join(f"{n} {number(v, name)}" for n, v in beside)
    dashed = f"; dashed, for {rows[-1].name}: {told}" if beside else ""
    caption = tag("figcaption", tag("b", name), tag("span", about + dashed))
    return tag("figure", caption, interval_chart(name, estimates, beside), class_="panel")


def _columns(names: Sequence[str]) -> dict[str, list[str]]:
    """Mode -> its columns: the main metrics, each followed by its baselines, and lengths in tokens."""
    out: dict[str, list[str]] = {}
    modes = dict.fromkeys(n.rpartition("/")[0] for n in names)
    known = [m for k in MODES for m in modes if m.removeprefix(FORCED) == k]
    for mode in known:
        mine = [n for n in names if n.rpartition("/")[0] == mode]
        columns = []
        for part in COLUMNS:
            for name in (f"{mode}/{part}", f"{mode}/{part}_share"):
                if name in mine and name not in columns:
                    columns += [name, *baselines(name, mine)]
        at_k = [n for n in mine if last_part(n).startswith(AT_K)]
        columns[1:1] = at_k  # beside the share that greedy decoding gets
        columns += [n for n in mine if last_part(n) in ("tokens", "tokens_mean", "actions", "actions_mean", "length")]
        if columns:
            out[mode] = list(dict.fromkeys(columns))
    return out


def _table(rows: Sequence[Row], names: Sequence[str], label: str) -> Html:
    """A table per mode, so that each fits a window; beside one another they would not."""
    return join(*(_of_mode(rows, names, mode, columns, label) for mode, columns in _columns(names).items()))


def _of_mode(rows: Sequence[Row], names: Sequence[str], mode: str, columns: Sequence[str], label: str) -> Html:
    title = tag("caption", MODES[mode.removeprefix(FORCED)], tag("small", mode))
    head = [tag("th", "stage", scope="col")]
    head += [tag("th", _column_name(name, names), scope="col", class_="n", title=name) for name in columns]
    body = [
        tag("tr", _stage_cell(row),
            *(_cell(row, name, "n", best=_is_best(row, name, rows), bare=True) for name in columns))
        for row in rows
    ]  # fmt: skip
    table = tag("table", title, tag("thead", tag("tr", *head)), tag("tbody", *body), class_="results")
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label=f"{mode} on the {label}")


def _column_name(name: str, names: Sequence[str]) -> Html:
    """A metric's last part in words; a baseline is named as one, under the metric it belongs to."""
    part = last_part(name)
    of = [n for n in names if name in baselines(n, names) and last_part(n) in HIGHER_IS_BETTER]
    if of:
        return join("baseline", tag("small", _of_baseline(name, of[0])))
    words = part.removesuffix("_mean").removesuffix("_share").replace("_", " ")
    return join(words, tag("small", "%") if is_share(name) else None)


def _of_baseline(name: str, of: str) -> str:
    return name.removeprefix(of + "_").replace("_", " ")


def _stage_cell(row: Row) -> Html:
    chip = tag("svg", shape(row.index, 6, 6, 4.4), viewBox="0 0 12 12", class_="chip", aria_hidden="true")
    where = tag("small", f"step {row.line['step']}")
    return tag("th", chip, row.name, where, scope="row", class_=stage_class(row.index) + " stage")


def _is_best(row: Row, name: str, rows: Sequence[Row]) -> bool:
    values = [r.line.get(name) for r in rows if is_number(r.line.get(name))]
    better = last_part(name) in HIGHER_IS_BETTER and len(values) > 1 and max(values) > min(values)
    return better and row.line.get(name) == max(values)


def _cell(row: Row, name: str, class_: str, *, best: bool = False, bare: bool = False) -> Html:
    """A value with its interval below it; `bare` where the column says the unit."""
    value = row.line.get(name)
    if not is_number(value):
        return tag("td", "–", class_=class_)
    low, high = (row.line.get(f"{name}_{end}") for end in ("low", "high"))
    around = tag("small", interval(low, high, name)) if is_number(low) and is_number(high) else None
    shown = number(value, name).removesuffix(" %" if bare else "")
    return tag("td", tag("strong", shown, title="highest of the column") if best else shown, around, class_=class_)


def interval(low: float, high: float, name: str) -> str:
    """Bounds beside a value; their unit is the value's."""
    shown = [number(v, name).removesuffix(" %") if is_share(name) else number(v, name) for v in (low, high)]
    return " to ".join(shown) if low < 0 else "–".join(shown)


def _everything(rows: Sequence[Row], names: Sequence[str]) -> Html:
    head = tag("tr", tag("th", "metric", scope="col"), *(tag("th", r.name, scope="col", class_="n") for r in rows))
    body = [tag("tr", tag("th", n, scope="row"), *(_cell(r, n, "n") for r in rows)) for n in names]
    table = tag("table", tag("thead", head), tag("tbody", *body))
    box = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="All evaluation metrics")
    return tag("details", tag("summary", f"All {len(names)} metrics of this split"), box)
