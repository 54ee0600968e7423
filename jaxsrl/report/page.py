"""The report: one HTML page made from a run folder, with everything it needs inside it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jaxsrl.report.audits import HOW as HOW_AUDIT
from jaxsrl.report.audits import newest
from jaxsrl.report.curves import evaluation_curves, training_curves
from jaxsrl.report.html import Html, join, tag
from jaxsrl.report.read import Run, read_run
from jaxsrl.report.results import results
from jaxsrl.report.rollouts import rollouts
from jaxsrl.report.script import SCRIPT
from jaxsrl.report.style import STYLE
from jaxsrl.report.summary import documents, heading, stages, warnings

HOW_STAGES = (
    "Stages run one after the other. Steps are optimizer steps; the learning rate is the peak of its schedule. "
    "Tokens per second are the tokens of a step's trees over the time to sample and to update, median over steps."
)
HOW_RESULTS = (
    "Each row is a stage's last evaluation on problems it was not trained on. Bars and small figures are 95 % "
    "intervals over problems. “actions” asks for one action after the expert's own; “chained” lets the policy solve "
    "the problem action by action on what it wrote; “direct” takes one completion. A similarity is worth what it "
    "has above the baselines beside it, which take no reasoning. Bold is the highest of a column, not a test of "
    "significance."
)
HOW_CURVES = (
    "One panel per metric, one line per stage, over the optimizer steps of that stage. Faint dots are logged values, "
    "of many neighbours the lowest and the highest; the line is a local fit to them. Value axes fit the data and need "
    "not begin at 0; a panel says how many values lie beyond. On validation panels the band is the interval of each "
    "evaluation, and nothing is smoothed."
)
HOW_ROLLOUTS = (
    "Of training: groups of up to eight steps of a stage, the first that was kept and the first that was dropped "
    "among them, the others evenly spread. Within a group the highest reward comes first, and up to eight rollouts are "
    "shown, spread over the ranks. Of evaluations: the same few problems at up to three steps, decoded greedily; a "
    "stage that samples nothing, such as SFT, is seen there. Thoughts are grey. In the action, marked text was matched "
    "with the expert's (difflib, in training in the reward's own setting), underlined text was not. The advantage is "
    "the reward above its group, in the objective's units; a dropped group carries no weight."
)


def write_report(run_folder: Path) -> Path:
    """Writes `report.html` into a run folder and returns its path. The same files give the same bytes.

    Raises: ReportError naming what is missing where the folder is no run; OSError where it cannot be written.
    """
    path = Path(run_folder) / "report.html"
    page = render(read_run(Path(run_folder)))
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(page.encode("utf-8"))
    os.replace(temporary, path)
    return path


def render(run: Run) -> str:
    """The page as text."""
    complaints = list(run.complaints)
    examples = rollouts(run, complaints)  # before the warnings, which name what could not be read
    audited = newest(run.audits, complaints)
    run = replace(run, complaints=tuple(complaints))
    curves = evaluation_curves(run)
    sections = [
        _section("state", "State", "", warnings(run)),
        _section("stages", "What was run", HOW_STAGES, join(stages(run), documents(run))),
        _section("results", "Held-out results", HOW_RESULTS, results(run)),
        _section("curves", "Curves", HOW_CURVES, join(
            join(tag("h3", "Validation"), curves, tag("h3", "Training")) if curves else None, training_curves(run))),
        _section("rollouts", "Completions", HOW_ROLLOUTS, examples),
        *([] if audited is None else [_section("audit", "Audit", HOW_AUDIT, audited)]),
    ]  # fmt: skip
    links = [
        ("state", "State"),
        ("stages", "What was run"),
        ("results", "Results"),
        ("curves", "Curves"),
        ("rollouts", "Completions"),
        *([] if audited is None else [("audit", "Audit")]),
    ]
    return document(f"{run.name} – jaxsrl run", heading(run), links, sections)


def document(title: str, top: Html, links: Sequence[tuple[str, str]], sections: Sequence[Html]) -> str:
    """A whole page with its style and script inside.

    Args:
      links: (id, name) of the sections.
    """
    nav = tag("nav", *(tag("a", name, href=f"#{key}") for key, name in links), aria_label="Sections")
    body = tag("body", top, nav, tag("main", *sections), tag("script", Html(SCRIPT)))
    head = tag(
        "head", tag("meta", charset="utf-8"), tag("title", title),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"), tag("style", Html(STYLE)),
    )  # fmt: skip
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _section(key: str, title: str, how: str, content: Html) -> Html:
    return tag("section", tag("h2", title), tag("p", how, class_="how") if how else None, content, id=key)
