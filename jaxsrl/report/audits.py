"""Audits that were kept: policies side by side, and the records behind their numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsrl.report.html import Html, join, tag
from jaxsrl.report.names import number
from jaxsrl.report.read import is_number, lines
from jaxsrl.report.svg import shape, stage_class

FOLDER = "audits"  # of a run
SHOWN = 4  # problems of a probe whose records are shown
LONGEST = 1500  # characters of a text
HOW = (
    "Each number is the mean of what its records say, with a 95 % interval over problems. Below it is by how much it "
    "lies above the first policy's, on the problems that both have a value for; where that interval leaves out 0 it is "
    "bold. Many numbers stand here: of twenty such differences one is bold by chance."
)


def read_audit(path: Path, complaints: list[str]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]] | None:
    """Numbers and records of a kept audit; None, with a complaint, for a file that holds none."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        fit = all(isinstance(result[name], list) for name in ("policies", "probes"))
    except (OSError, ValueError, KeyError, TypeError):
        fit = False
    if not fit:
        complaints.append(f"{path.name} holds no audit")
        return None
    return result, list(lines(path.with_suffix(".jsonl"), complaints))


def newest(paths: Sequence[Path], complaints: list[str]) -> Html | None:
    """The last audit of a run; None where there is none."""
    found = read_audit(paths[-1], complaints) if paths else None
    if found is None:
        return None
    before = [path.name for path in paths[:-1]]
    said = tag("p", f"Earlier ones are kept beside it: {', '.join(before)}.", class_="how") if before else None
    return join(said, audit(*found))


def audit(result: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Html:
    """A table a probe, its policies beside each other, and some of its records."""
    about = f"Asked of all: {result.get('questions')}. Texts were scored under {result.get('scorer')}."
    left = [tag("p", f"{one['name']} was left out: {one['why']}", class_="how") for one in result.get("left_out", ())]
    probes = [_probe(probe, result["policies"], records) for probe in result["probes"]]
    return join(tag("p", about, class_="how"), *probes, *left)


def _probe(probe: Mapping[str, Any], policies: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Html:
    mine = [record for record in records if record.get("mode") == probe["name"]]
    return tag(
        "section", tag("h3", probe["name"].replace("_", " ")), tag("p", probe.get("about", ""), class_="how"),
        _table(probe, policies), _records(probe["name"], policies, mine),
    )  # fmt: skip


def _table(probe: Mapping[str, Any], policies: Sequence[str]) -> Html:
    head = [tag("th", "measure", scope="col")]
    head += [
        tag("th", _chip(k), name, scope="col", class_=f"n {stage_class(k)}") for k, name in enumerate(policies)
    ]  # fmt: skip
    body = []
    for measure in probe["measures"]:
        values = [numbers.get(measure["name"]) for numbers in probe["results"]]
        if not any(is_number(value) for value in values):
            continue
        cells = [_cell(probe, k, measure["name"]) for k in range(len(policies))]
        about = join(measure["name"].replace("_", " "), tag("small", measure.get("meaning", "")))
        body.append(tag("tr", tag("th", about, scope="row"), *cells))
    table = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), class_="results")
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label=f"{probe['name']} of all policies")


def _chip(index: int) -> Html:
    return tag("svg", shape(index, 6, 6, 4.4), viewBox="0 0 12 12", class_="chip", aria_hidden="true")


def _cell(probe: Mapping[str, Any], index: int, name: str) -> Html:
    numbers = probe["results"][index]
    value = numbers.get(name)
    if not is_number(value):
        return tag("td", "–", class_="n")
    around = _bounds(numbers.get(f"{name}_low"), numbers.get(f"{name}_high"))
    apart = probe["differences"][index].get(name) or (None,)
    return tag("td", number(value), tag("small", around) if around else None, _apart(*apart), class_="n")


def _bounds(low: Any, high: Any, signed: bool = False) -> str:
    if not (is_number(low) and is_number(high)):
        return ""
    shown = [_signed(v) if signed else number(v) for v in (low, high)]
    return " to ".join(shown) if signed or low < 0 else "–".join(shown)


def _apart(value: Any, low: Any = None, high: Any = None) -> Html | None:
    if not is_number(value):
        return None
    bounds = _bounds(low, high, signed=True)
    text = f"{_signed(value)}" + (f" ({bounds})" if bounds else "")
    sure = bool(bounds) and (low > 0 or high < 0)
    return tag("small", tag("strong", text) if sure else text)


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def _records(name: str, policies: Sequence[str], records: Sequence[Mapping[str, Any]]) -> Html | None:
    """What stands behind the numbers, of the first few problems, all policies of a problem together."""
    problems = list(dict.fromkeys(str(record.get("problem")) for record in records))
    shown = []
    for problem in problems[:SHOWN]:
        rows = [record for record in records if str(record.get("problem")) == problem]
        parts = [_record(record, policies) for record in rows[: 2 * len(policies)]]
        shown.append(tag("details", tag("summary", f"problem {problem}"), *parts))
    if not shown:
        return None
    title = f"Records of {len(shown)} of {len(problems)} problems; all are in the file of completions"
    return tag("details", tag("summary", title), *shown)


def _record(record: Mapping[str, Any], policies: Sequence[str]) -> Html:
    policy = str(record.get("policy"))
    index = policies.index(policy) if policy in policies else 0
    hidden = ("policy", "mode", "problem", "values")
    parts = [join(tag("dt", name), tag("dd", _value(value))) for name, value in record.items() if name not in hidden]
    values = record.get("values") or {}
    told = ", ".join(f"{name} {number(value)}" for name, value in values.items() if is_number(value))
    parts.append(join(tag("dt", "values"), tag("dd", told)))
    return tag("div", tag("h4", _chip(index), policy, class_=stage_class(index)), tag("dl", *parts), class_="record")


def _value(value: Any) -> Html:
    """A record's field: text as it stands, lists as lists, the rest as JSON."""
    if isinstance(value, str):
        return tag("pre", value[:LONGEST] + ("…" if len(value) > LONGEST else ""))
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        return tag("ul", *(tag("li", "; ".join(f"{k}: {_short(v)}" for k, v in one.items())) for one in value))
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tag("ol", *(tag("li", _short(one)) for one in value))
    return tag("code", _short(json.dumps(value)))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST // 4 else text[: LONGEST // 4] + "…"
