"""The page of a study: question, verdict, differences, curves, costs, and where every number comes from."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from jaxsrl.report.html import Html, join, tag
from jaxsrl.report.names import meaning, number
from jaxsrl.report.style import STYLE
from jaxsrl.report.summary import duration
from jaxsrl.studies.charts import Line, Row, forest, plot, signed
from jaxsrl.studies.effects import Comparison, Interval, t_interval
from jaxsrl.studies.identity import difference
from jaxsrl.studies.ledger import PHASES
from jaxsrl.studies.plan import against
from jaxsrl.studies.results import Measured, Results, results
from jaxsrl.studies.summary import alarms, noise_told

HOW_VERDICT = (
    "Every arm is compared with the anchor, or with the arm that it names, on the same seeds. Bars are 95 % intervals "
    "of the mean difference; dashed lines are the smallest effect of interest. Better and worse need a p below 0.05 "
    "after Holm’s correction for the number of arms, and a difference that so many seeds can show (80 % power, unless "
    "the study says otherwise) given the noise floor. “Same” needs the whole interval within the dashed lines. “Other "
    "problems too” is the interval of differences paired by seed and by problem, each problem weighing the same: it "
    "also holds for other problems."
)
HOW_CURVES = (
    "Mean over seeds of each evaluation of the arm’s stage. The band is the 95 % interval over seeds, where there are "
    "two or more. The same curves follow over what the stage had spent, so that arms are compared at equal tokens, "
    "FLOPs or seconds; the seconds of a run in a population are its share. The estimate of a run is the mean of its "
    "last evaluations, never its best."
)
HOW_COST = (
    "Means over seeds. Tokens are those that the arm’s stage executed: prefilled, sampled and learned from. FLOPs are "
    "the most that the whole run was expected to cost. Seconds are of the whole run, with what other stages it has; of "
    "one that was taken over, those of its last worker. The second table is what the arm’s stage did by phase, counted "
    "from what was laid out and sampled. Its FLOPs are those of products with parameters. A run that does not log "
    "every step has none."
)
CURVES, FITS = "curves.csv", "curves.fit.html"
AXES = {
    "steps": "optimizer steps of the stage", "tokens": "tokens executed by the stage",
    "FLOPs": "FLOPs of the stage’s steps", "seconds": "seconds of the stage’s steps",
}  # fmt: skip


def write_page(folder: Path, found: Results | None = None) -> Path:
    """Writes `report.html`, `points.csv` and `curves.csv` into a study's folder. Returns the page's path.

    Args:
      found: what the folder holds, where it was read already.
    Raises: RunError where the folder holds no study.
    """
    found = found or results(folder)
    write_whole(Path(folder) / "points.csv", points_csv(found))
    write_whole(Path(folder) / CURVES, curves_csv(found))
    return write_whole(Path(folder) / "report.html", render(found))


def write_whole(path: Path, text: str) -> Path:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(text.encode("utf-8"))
    os.replace(temporary, path)
    return path


def document(title: str, *sections: Html) -> str:
    """A page in the report's style that needs nothing else."""
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("title", title),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"), tag("style", Html(STYLE)),
    )  # fmt: skip
    return "<!doctype html>\n" + tag("html", head, tag("body", *sections), lang="en") + "\n"


def section(key: str, title: str, how: str, *content: Html | None) -> Html:
    return tag("section", tag("h2", title), tag("p", how, class_="how") if how else None, *content, id=key)


def figure(chart: Html) -> Html:
    """A chart at a size at which its letters are those of the text."""
    return tag("figure", chart, class_="panel", style="max-width: 46rem; margin: 1rem 0")


def table(names: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[str] = ()) -> Html:
    """A table whose first column names the row; columns in `numeric` are set to the right."""
    aligned = ["n" if name in numeric else None for name in names]
    head = tag("tr", *(tag("th", n, scope="col", class_=c) for n, c in zip(names, aligned, strict=True)))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(
            tag("td", v, class_=c) for v, c in zip(row[1:], aligned[1:], strict=True)))
        for row in rows
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll", tabindex=0, role="group",
               aria_label=f"Table of {names[0]}s")  # fmt: skip


def render(found: Results) -> str:
    """The page as text."""
    plan = found.plan
    sections = [
        _heading(found),
        tag("main",
            section("verdict", "Verdict", HOW_VERDICT, _verdict(found)),
            section("curves", "Learning curves", HOW_CURVES, _curves(found)),
            section("cost", "What it cost", HOW_COST, _costs(found)),
            section("runs", "Every run", "Each value leads to its run folder’s report.", _runs(found)),
            section("arms", "What the arms are", "Settings in which an arm differs from its anchor.", _arms(found))),
    ]  # fmt: skip
    return document(f"{plan['name']} – jaxsrl study", *sections)


def _heading(found: Results) -> Html:
    plan, estimator = found.plan, found.plan["estimator"]
    said = f"Fixed before the first run: {plan['fixed']}"
    last = f"the last {estimator['last']} evaluations" if estimator["last"] > 1 else "the last evaluation"
    about = f"{estimator['metric']} ({meaning(estimator['metric'])}), mean of {last} on the {estimator['split']} split"
    parts = [tag("p", "jaxsrl study", class_="kicker"), tag("h1", plan["question"]),
             tag("p", said, class_="lead"), tag("p", f"Estimator: {about}.", class_="lead")]  # fmt: skip
    if told := alarms(found):
        parts.append(tag("ul", *(tag("li", text) for text in told), class_="alarms"))
    return tag("header", *parts, class_="top")


def _index(found: Results, arm: str) -> int:
    """Colour and shape: the anchor's is that of a start."""
    names = [name for name in found.plan["arms"] if name != found.plan["anchor"]]
    return names.index(arm) if arm in names else -1


def _verdict(found: Results) -> Html:
    plan, metric = found.plan, found.plan["estimator"]["metric"]
    shown = [c for c in found.comparisons if c.difference is not None]
    several = len({c.against for c in shown}) > 1
    name = lambda c: f"{c.arm} – {c.against}" if several else c.arm
    rows = [Row(name=name(c), index=_index(found, c.arm), value=c.difference.value, low=c.difference.low,
                high=c.difference.high, note=c.verdict) for c in shown]  # fmt: skip
    columns = (
        "arm", "against", "difference", "95 % interval", "other problems too", "p, corrected", "seeds",
        "least they show", "seeds needed", "verdict",
    )  # fmt: skip
    chart = figure(forest(metric, rows, plan["smallest_effect"])) if rows else None
    body = [_comparison(c, metric, found.over_problems.get(c.arm)) for c in found.comparisons]
    return join(tag("p", noise_told(found), class_="lead"), chart, table(columns, body, columns[2:9]),
                tag("p", f"Seeds needed are those that find {signed(plan['smallest_effect'], metric)[1:]} with "
                         f"{plan['power']:.0%} power.", class_="how"))  # fmt: skip


def _comparison(c: Comparison, metric: str, crossed: Interval | None) -> tuple[Any, ...]:
    verdict = join(tag("b", c.verdict), tag("small", c.reason))
    least = signed(c.floor, metric)[1:] if c.floor < float("inf") else "–"
    if c.difference is None:
        return c.arm, c.against, "–", "–", "–", "–", len(c.seeds), least, "–", verdict
    wider = f"{signed(crossed.low, metric)} to {signed(crossed.high, metric)}" if crossed else "–"
    interval = f"{signed(c.difference.low, metric)} to {signed(c.difference.high, metric)}"
    needed = c.seeds_needed if c.seeds_needed is not None else "over 1000"
    return (c.arm, c.against, signed(c.difference.value, metric), interval, wider, f"{c.corrected:.2g}", len(c.seeds),
            least, needed, verdict)  # fmt: skip


def _curves(found: Results) -> Html:
    metric, shown = found.plan["estimator"]["metric"], []
    for axis, name in AXES.items():
        lines = [line for arm in found.plan["arms"] if (line := _curve(found, arm, axis)) is not None]
        if lines:
            shown.append(tag("figure", plot(metric, name, metric, lines), class_="panel"))
    if not shown:
        return tag("p", "No run has two evaluations yet.", class_="empty")
    return join(tag("div", *shown, class_="panels wide"), tag("p", *_fits(found), class_="how"))


def _fits(found: Results) -> tuple[Html | str, ...]:
    """Where a sigmoid of each arm is, or how to get it."""
    if (found.folder / FITS).exists():
        return tag("a", "Fits of these curves", href=FITS), ", as `jaxsrl study fit` wrote them last."
    return (f"`jaxsrl study fit {CURVES}`, in this page’s folder, fits a sigmoid to each arm.",)


def _curve(found: Results, arm: str, axis: str = "steps") -> Line | None:
    """Means over the seeds at the steps that all of them have, and of what they had spent at these; None where a run
    does not say how much that was."""
    own = [one for one in found.runs if one.arm == arm]
    steps = sorted(set.intersection(*(set(one.steps) for one in own))) if own else []
    if axis != "steps":
        steps = [step for step in steps if all(axis in one.spent.at.get(step, {}) for one in own)]
    if len(steps) < 2:
        return None
    at = [[one.curve[one.steps.index(step)] for one in own] for step in steps]
    bands = [t_interval(values) for values in at] if len(own) > 1 else None
    return Line(
        name=arm, index=_index(found, arm), y=[mean(values) for values in at],
        x=steps if axis == "steps" else [mean(one.spent.at[step][axis] for one in own) for step in steps],
        low=[b.low for b in bands] if bands else None, high=[b.high for b in bands] if bands else None,
    )  # fmt: skip


def _costs(found: Results) -> Html:
    rows = []
    for name, arm in found.plan["arms"].items():
        own = [one for one in found.runs if one.arm == name]
        flops = mean(found.plan["costs"][cell]["flops"] for cell in arm["cells"].values())
        tokens = number(mean(one.tokens for one in own)) if own else "–"
        seconds = duration(mean(one.seconds for one in own)) if own else "–"
        rows.append((name, arm["stage"], len(own), tokens, number(flops), seconds))
    names = ("arm", "stage", "runs", "tokens", "FLOPs at most", "time")
    cells = {one.folder: one.seconds for one in found.runs}
    total = f"All runs together: {duration(sum(cells.values()))}." if cells else ""
    return join(table(names, rows, names[2:]), tag("p", total, class_="how"), _phases(found))


def _phases(found: Results) -> Html | None:
    """Tokens and FLOPs by phase, means over an arm's seeds."""
    rows = []
    for name in found.plan["arms"]:
        own = [one for one in found.runs if one.arm == name and one.spent.tokens]
        if own:
            tokens = [number(mean(one.spent.tokens[phase] for one in own)) for phase in PHASES]
            flops = [number(mean(one.spent.flops[phase] for one in own)) for phase in PHASES]
            together = max(one.population for one in own)
            rows.append((name, *tokens, *flops, "alone" if together == 1 else f"population of {together}"))
    names = ("arm", *(f"{phase}, {what}" for what in ("tokens", "FLOPs") for phase in PHASES), "trained")
    return table(names, rows, names[1:7]) if rows else None


def _runs(found: Results) -> Html:
    metric = found.plan["estimator"]["metric"]
    seeds = sorted({one.seed for one in found.runs})
    by_place = {(one.arm, one.seed): one for one in found.runs}
    link = lambda one: tag("a", number(one.value, metric), href=_place(found, one)) if one else "–"
    rows = [[name, *(link(by_place.get((name, seed))) for seed in seeds)] for name in found.plan["arms"]]
    names = ["arm", *(f"seed {seed}" for seed in seeds)]
    return table(names, rows, names[1:])


def _place(found: Results, one: Measured) -> str:
    return f"{one.folder.relative_to(found.folder).as_posix()}/report.html"


def _arms(found: Results) -> Html:
    arms, of = found.plan["arms"], against(found.plan)
    rows = []
    for name, arm in arms.items():
        anchor = arms[of.get(name, found.plan["anchor"])]
        changes = difference(anchor["config"], arm["config"])
        told = [f"{key}: {before} → {after}" for key, before, after in changes]
        told += [f"read at stage {arm['stage']}, its anchor at {anchor['stage']}"] if arm["stage"] != anchor[
            "stage"] else []  # fmt: skip
        told += _stage_change(anchor, arm)
        what = join(*(tag("span", text, tag("br")) for text in told)) if told else "nothing"
        rows.append((name, "the anchor" if name == found.plan["anchor"] else what))
    return table(("arm", "differs by"), rows)


def _stage_change(anchor: dict[str, Any], arm: dict[str, Any]) -> list[str]:
    """Between the stage of the anchor and that of an arm which reads another one of the same config."""
    if arm["stage"] == anchor["stage"]:
        return []
    own, other = (
        next(stage for stage in part["config"]["stages"] if stage["name"] == part["stage"]) for part in (anchor, arm)
    )
    return [f"{key}: {a} → {b}" for key, a, b in difference(own, other) if key != "name"]


def points_csv(found: Results) -> str:
    """One line a run and arm: what the page is made of."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    phases = [f"{phase}_{what}" for what in ("tokens", "flops") for phase in PHASES]
    writer.writerow(("arm", "seed", "value", "tokens", "seconds", "stopped", "folder", "population", *phases))
    for one in found.runs:
        place = one.folder.relative_to(found.folder).as_posix()
        spent = [part.get(phase, "") for part in (one.spent.tokens, one.spent.flops) for phase in PHASES]
        told = (one.arm, one.seed, one.value, one.tokens, one.seconds, bool(one.stopped), place, one.population)
        writer.writerow((*told, *spent))
    return out.getvalue()


def curves_csv(found: Results) -> str:
    """One line an evaluation: what `study fit` takes of one arm. Compute is the FLOPs of the stage up to there."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("arm", "seed", "step", "tokens", "compute", "seconds", "reward"))
    for one in found.runs:
        for step, value in zip(one.steps, one.curve, strict=True):
            at = one.spent.at.get(step, {})
            writer.writerow(
                (one.arm, one.seed, step, *(at.get(name, "") for name in ("tokens", "FLOPs", "seconds")), value)
            )
    return out.getvalue()
