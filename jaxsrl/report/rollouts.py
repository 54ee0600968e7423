"""A few groups of rollouts from the first, middle and last step of each stage."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from jaxsrl.report.html import Html, join, tag
from jaxsrl.report.names import number
from jaxsrl.report.read import Run, is_number, raw_lines, step_of
from jaxsrl.report.scale import evenly
from jaxsrl.report.svg import stage_class
from jaxsrl.report.transcript import clip, completion

MOST_ROWS = 60  # rollouts on the page
MOST_OF_GROUP = 4


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rollouts of one branch point; `rows` are the ones shown, highest reward first, of `size` that were sampled."""

    stage: str
    index: int
    step: int
    rows: tuple[Mapping[str, Any], ...]
    size: int


def choose(run: Run, complaints: list[str]) -> list[Group]:
    """Groups to show: at each chosen step the first one that was kept and the first one that was not, as they came.

    Not the best, so that what is shown is typical. At most MOST_ROWS rollouts.
    """
    steps = {stage: evenly(_steps(run, stage), 3) for stage in run.stages}
    places = sum(len(chosen) for chosen in steps.values())
    if not places:
        return []
    budget, out = max(1, MOST_ROWS // places), []
    for index, stage in enumerate(run.stages):
        rows = _rows_of(run, stage, set(steps[stage]), complaints)
        for step in steps[stage]:
            out += _groups_of(stage, index, step, [r for r in rows if r.get("step") == step], budget)
    return out


def _steps(run: Run, stage: str) -> list[int]:
    if stage not in run.rollouts:
        return []
    return sorted({step for data in _lines_of(run, stage) if (step := step_of(data)) is not None})


def _lines_of(run: Run, stage: str) -> Iterator[bytes]:
    return chain.from_iterable(map(raw_lines, run.rollouts[stage]))


def _rows_of(run: Run, stage: str, steps: set[int], complaints: list[str]) -> list[dict[str, Any]]:
    """Rows of the given steps; a file may be large, so only those are parsed."""
    rows, bad = [], 0
    if stage not in run.rollouts or not steps:
        return rows
    for data in _lines_of(run, stage):
        if step_of(data) not in steps:
            bad += bool(data.strip()) and step_of(data) is None
            continue
        try:
            row = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and isinstance(row.get("completion"), str):
            rows.append(row)
        else:
            bad += 1
    if bad:
        complaints.append(f"{bad} line{'s' * (bad > 1)} of rollouts/{stage}.jsonl could not be read and were left out")
    place = lambda row: tuple(n if is_number(n := row.get(name)) else 0 for name in ("step", "group", "sample"))
    return sorted(rows, key=place)  # whichever process wrote them


def _groups_of(stage: str, index: int, step: int, rows: Sequence[Mapping[str, Any]], budget: int) -> list[Group]:
    together: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        together.setdefault(json.dumps(row.get("group")), []).append(row)
    kept = [g for g in together.values() if any(r.get("kept") for r in g)]
    dropped = [g for g in together.values() if not any(r.get("kept") for r in g)]
    out, left = [], budget
    for group in kept[:1] + dropped[:1]:
        ranked = sorted(group, key=lambda r: (-_rank(r.get("reward")), str(r.get("sample"))))
        shown = evenly(ranked, min(MOST_OF_GROUP, left))
        left -= len(shown)
        if shown:
            out.append(Group(stage=stage, index=index, step=step, rows=tuple(shown), size=len(group)))
    return out


def _rank(reward: Any) -> float:
    return float(reward) if is_number(reward) else float("-inf")


def rollouts(run: Run, complaints: list[str]) -> Html:
    groups = choose(run, complaints)
    if not groups:
        return tag("p", "No rollouts: no stage has sampled any yet, or its objective samples none.", class_="empty")
    stages = list(dict.fromkeys((g.index, g.stage) for g in groups))
    cards = [_group(g) for g in groups]
    if len(stages) == 1:
        return tag("div", *cards, class_="groups")
    choices = [(None, "all stages"), *stages]
    buttons = []
    for index, name in choices:
        key = "stage-all" if index is None else f"stage-{index}"
        buttons.append(tag("input", type="radio", name="stage", id=key, checked=index is None, class_="pick"))
        buttons.append(tag("label", name, for_=key, class_=stage_class(index) if index is not None else None))
    # Radio buttons and a rule per stage: the filter needs no script.
    rules = "".join(f'#stage-{i}:checked~.groups>:not([data-stage="{i}"]){{display:none}}' for i, _ in stages)
    title = tag("legend", "Show the rollouts of", class_="aside")
    return tag(
        "fieldset", title, tag("style", Html(rules)), *buttons, tag("div", *cards, class_="groups"), class_="filter"
    )


def _group(group: Group) -> Html:
    first = group.rows[0]
    whole = first.get("form") == "solve" or first.get("direct_or_chained") == "direct"  # the name it had
    given = first.get("branch")
    place = f"after {given} expert action{'s' * (given != 1)}" if given else "at the problem"
    shown = f"{len(group.rows)} of {group.size} rollouts" if len(group.rows) < group.size else f"{group.size} rollouts"
    kept = any(r.get("kept") for r in group.rows)
    facts = join(
        tag("span", group.stage, class_="stage-name"), tag("span", f"step {group.step}"),
        tag("span", f"problem {first.get('problem')}"),
        tag("span", place + (", whole solution" if whole else "")), tag("span", shown),
        tag("span", "kept" if kept else "dropped", class_="kept" if kept else "dropped"),
    )  # fmt: skip
    box = _expert(first)
    head = tag("tr", *(tag("th", name, scope="col", class_=class_) for name, class_ in
                       (("reward", "n"), ("advantage", "n"), ("tokens", "n"), ("completion", "wide"))))  # fmt: skip
    table = tag("table", tag("thead", head), tag("tbody", *(_row(r) for r in group.rows)))
    return tag(
        "article",
        tag("header", facts, class_="facts"),
        box,
        table,
        class_=f"group {stage_class(group.index)}",
        data_stage=group.index,
    )


def _expert(row: Mapping[str, Any]) -> Html | None:
    """What the completions were compared with."""
    expert, settings = row.get("expert_action"), row.get("reward_settings")
    if not isinstance(expert, str):
        return None
    kind = "expert" if isinstance(settings, dict) and "autojunk" in settings else "answer key"
    return tag("p", tag("span", kind, class_="aside"), tag("span", clip(expert), class_="text"), class_="expert")


def _row(row: Mapping[str, Any]) -> Html:
    action, expert, settings = row.get("action"), row.get("expert_action"), row.get("reward_settings")
    action, expert = (value if isinstance(value, str) else None for value in (action, expert))
    shown = completion(row["completion"], action, expert, settings if isinstance(settings, dict) else {})
    flags = [name for name, there in (("malformed", action is None), ("cut at the cap", row.get("truncated"))) if there]
    badges = [tag("span", flag, class_="badge") for flag in flags]
    cells = [tag("td", _signed(row.get(name), name), class_="n", data_label=name) for name in ("reward", "advantage")]
    tokens = row.get("tokens")
    cells.append(tag("td", tokens if is_number(tokens) else "–", class_="n", data_label="tokens"))
    return tag("tr", *cells, tag("td", *badges, tag("div", shown, class_="text", dir="auto"), class_="wide"))


def _signed(value: Any, name: str) -> str:
    if not is_number(value):
        return "–"
    shown = number(round(value, 3))
    return "+" + shown if name == "advantage" and round(value, 3) > 0 else shown
