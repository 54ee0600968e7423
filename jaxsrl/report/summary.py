"""What was run and how far it came: the stages, the numbers of the whole run, its warnings, its config."""

import json
from collections.abc import Mapping
from typing import Any

from jaxsrl.report.alarms import alarms, skipped, steps_done, steps_planned
from jaxsrl.report.headline import headline
from jaxsrl.report.html import Html, join, tag
from jaxsrl.report.names import number
from jaxsrl.report.read import Run, is_number
from jaxsrl.report.svg import shape, stage_class


def heading(run: Run) -> Html:
    """Title and the facts of the whole run."""
    return tag(
        "header", tag("p", "jaxsrl run", class_="kicker"), tag("h1", run.name), headline(run), _facts(run), class_="top"
    )


def _facts(run: Run) -> Html:
    done = sum(steps_done(run, s) for s in run.stages)
    planned = [steps_planned(run, s) for s in run.stages]
    of = f"of {sum(planned)} planned" if planned and None not in planned else "plan unknown"
    missed = sum(skipped(run, s) for s in run.stages)
    seconds = sum(sum(phases(run, s).values()) for s in run.stages)
    resumes = max(0, run.attempts - 1)
    cells = [
        ("optimizer steps", done, of),
        ("attempts", run.attempts or "–", f"{resumes} resume{'s' * (resumes != 1)}" if run.attempts else "no logs"),
        ("skipped updates", missed, "gradient not finite"),
        ("quarantined rows", run.quarantined, "bad rows of data set aside"),
        ("time in steps", duration(seconds) if seconds else "–", "all attempts, first compile included"),
    ]
    return tag("dl", *(
        tag("div", tag("dt", name), tag("dd", tag("b", value), tag("small", note))) for name, value, note in cells
    ), class_="facts-grid")  # fmt: skip


def phases(run: Run, stage: str) -> dict[str, float]:
    """Seconds of a stage by what they were spent on."""
    out: dict[str, float] = {}
    for line in run.timing.get(stage, ()):
        spent = line.get("seconds")
        for name, value in spent.items() if isinstance(spent, dict) else ():
            if is_number(value):
                out[name] = out.get(name, 0.0) + value
    return out


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def warnings(run: Run) -> Html:
    found = alarms(run)
    if not found:
        return tag("p", "Nothing to warn of.", class_="calm")
    return tag("ul", *(tag("li", text) for text in found), class_="alarms")


def stages(run: Run) -> Html:
    """A row per stage: objective, data, steps, learning rate, where it starts, time."""
    names = ("stage", "objective", "data", "steps", "learning rate", "starts from", "time", "tokens/s")
    head = tag(
        "tr",
        *(
            tag("th", n, scope="col", class_="n" if n in ("steps", "learning rate", "time", "tokens/s") else None)
            for n in names
        ),
    )
    body = [_stage(run, i, name) for i, name in enumerate(run.stages)]
    table = tag("table", tag("thead", head), tag("tbody", *body), class_="stages")
    if not body:
        return tag("p", "Neither the config nor the metrics name a stage.", class_="empty")
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Stages")


def _stage(run: Run, index: int, name: str) -> Html:
    settings = run.settings(name)
    planned, spent = steps_planned(run, name), phases(run, name)
    chip = tag("svg", shape(index, 6, 6, 4.4), viewBox="0 0 12 12", class_="chip", aria_hidden="true")
    total = sum(spent.values())
    shares = (
        ", ".join(f"{phase} {value / total:.0%}" for phase, value in spent.items() if value / total >= 0.005)
        if total
        else ""
    )
    return tag(
        "tr",
        tag("th", chip, name, scope="row", class_=f"stage {stage_class(index)}"),
        tag("td", _typed(settings.get("objective"))),
        tag("td", _typed(settings.get("data"))),
        tag("td", steps_done(run, name), tag("small", f"of {planned}") if planned is not None else None, class_="n"),
        tag("td", *_rate(settings.get("optimizer")), class_="n"),
        tag("td", settings.get("start_from") or ("random" if settings else "–")),
        tag("td", duration(total) if total else "–", tag("small", shares) if shares else None, class_="n"),
        tag("td", _speed(run, name), class_="n"),
    )


def _typed(value: Any) -> Html:
    """A settings object: its type, and below it its plain fields."""
    if not isinstance(value, dict):
        return join("–" if value is None else value)
    return join(tag("b", value.get("type", "settings")), tag("small", _settings(value, 4)))


def _settings(value: Mapping[str, Any], most: int) -> str:
    plain = [
        (k, v) for k, v in value.items() if k != "type" and v is not None and isinstance(v, bool | int | float | str)
    ]
    shown = [f"{k} {v}" for k, v in plain[:most]]
    return ", ".join(shown) + (", …" if len(plain) > most else "")


def _rate(optimizer: Any) -> list[Any]:
    if not isinstance(optimizer, dict) or not is_number(optimizer.get("lr")):
        return ["–"]
    schedule = optimizer.get("schedule")
    return [f"{optimizer['lr']:g}".replace("e-0", "e-"), tag("small", schedule) if schedule else None]


def _speed(run: Run, stage: str) -> Html:
    """Median over steps, so that the first step's compile does not count."""
    speeds = sorted(v for line in run.timing.get(stage, ()) if is_number(v := line.get("tokens_per_second")))
    if not speeds:
        return "–"
    phases = {phase: _median(run, stage, "tokens_per_second", phase) for phase in ("sample", "learn")}
    mfu = {phase: _median(run, stage, "mfu", phase) for phase in phases}
    said = [
        f"{phase} {number(v)}" + ("" if mfu[phase] is None else f", MFU {mfu[phase]:.1%}")
        for phase, v in phases.items() if v is not None
    ]  # fmt: skip
    return join(number(speeds[len(speeds) // 2]), tag("small", "; ".join(said)) if said else None)


def _median(run: Run, stage: str, name: str, phase: str) -> float | None:
    """Over steps, of a phase's tokens a second or MFU."""
    found = []
    for line in run.timing.get(stage, ()):
        phases = line.get("phases")
        of = phases.get(name) if isinstance(phases, dict) else None
        value = of.get(phase) if isinstance(of, dict) else None
        found += [value] if is_number(value) else []
    return sorted(found)[len(found) // 2] if found else None


def documents(run: Run) -> Html:
    """Config and environment in full."""
    parts = []
    for title, value in (("Full config", run.config), ("Environment", run.environment)):
        if value:
            shown = json.dumps(value, indent=2, ensure_ascii=False)
            parts.append(tag("details", tag("summary", title), tag("pre", shown, tabindex=0)))
    return join(*parts)
