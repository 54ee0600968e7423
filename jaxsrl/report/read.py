"""A run folder as plain records. Whatever is missing or broken is named, not raised, as long as it is a run at all."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxsrl.old_names import new_metric

HUGE = 1e150
Line = Mapping[str, Any]


class ReportError(ValueError):
    """The folder is no run."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the files of a run say.

    `train` and `evals` hold the lines of a stage in order of steps; a line of evaluation has a `split`. `rollouts`,
    `evaluated` and `problems` name the files of a stage's completions and of the texts they refer to, `audits` those of
    what was asked of its policies later, oldest first. `model`, `weights` and `text` are `model.json`,
    `weights_config.json` and `text.json`: what was trained, whatever the config says. `complaints` name what could not
    be read.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[str, ...] = ()
    train: Mapping[str, tuple[Line, ...]] = field(default_factory=dict)
    evals: Mapping[str, tuple[Line, ...]] = field(default_factory=dict)
    timing: Mapping[str, tuple[Line, ...]] = field(default_factory=dict)
    rollouts: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    evaluated: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    problems: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    audits: tuple[Path, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0
    quarantined: int = 0
    complaints: tuple[str, ...] = ()

    def settings(self, stage: str) -> Mapping[str, Any]:
        """The stage's part of the config, empty if there is none."""
        stages = self.config.get("stages")
        known = [s for s in stages if isinstance(s, dict)] if isinstance(stages, list) else []
        return next((s for s in known if s.get("name") == stage), {})

    def values(self, stage: str, name: str) -> list[tuple[int, float]]:
        """(step, value) of a training metric where it is a finite number."""
        return [(line["step"], line[name]) for line in self.train.get(stage, ()) if is_number(line.get(name))]


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number that can be drawn: finite, and its square is too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -HUGE < value < HUGE


def read_run(folder: Path) -> Run:
    """Reads a run folder.

    Raises: ReportError naming what is missing where the folder holds neither a config nor metrics.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ReportError(f"{folder} is no run folder: there is no such folder")
    if not any((folder / name).is_file() for name in ("config.json", "metrics.jsonl")):
        raise ReportError(f"{folder} is no run folder: it has neither config.json nor metrics.jsonl")
    complaints: list[str] = []
    config = _object(folder / "config.json", complaints)
    logged = [line for line in lines(folder / "metrics.jsonl", complaints) if _has_place(line)]
    metrics = _by_step([{new_metric(name): value for name, value in line.items()} for line in logged])
    timing = [line for line in lines(folder / "timing.jsonl", complaints) if _has_place(line)]
    rollouts = _files(folder / "rollouts")
    return Run(
        name=str(config.get("name") or folder.resolve().name),
        config=config,
        environment=_object(folder / "environment.json", complaints),
        stages=_stage_names(config, metrics, rollouts),
        train=_per_stage([line for line in metrics if line.get("kind") != "eval"]),
        evals=_per_stage([line for line in metrics if line.get("kind") == "eval"]),
        timing=_per_stage(timing),
        rollouts=rollouts,
        evaluated=_files(folder / "evals"),
        problems=_files(folder / "problems"),
        audits=tuple(sorted((folder / "audits").glob("*.json"), key=_age)),
        model=_object(folder / "model.json", []),  # of a run that has not begun yet there is none
        weights=_object(folder / "weights_config.json", []),
        text=_object(folder / "text.json", []),
        attempts=sum(path.is_dir() for path in (folder / "logs").glob("attempt_*")),
        quarantined=_distinct_lines(sorted((folder / "quarantine").glob("*"))),
        complaints=tuple(complaints),
    )


def _age(path: Path) -> tuple[int, str]:
    """NAME.json, NAME.2.json, NAME.3.json …: a later one has a higher number."""
    last = re.search(r"\.(\d+)$", path.stem)
    return int(last[1]) if last else 1, path.name


def _files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Files of a stage; each of several processes wrote one: STAGE.jsonl, STAGE.1.jsonl …"""
    out: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        stage = path.name.split(".")[0]
        out[stage] = (*out.get(stage, ()), path)
    return out


def lines(path: Path, complaints: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file. A last line cut by a kill is left out silently; other bad lines are counted."""
    bad = 0
    for data in raw_lines(path):
        try:
            row = json.loads(data.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield row
        elif data.strip():
            bad += 1
    if bad:
        complaints.append(f"{bad} line{'s' * (bad > 1)} of {path.name} could not be read and were left out")


def raw_lines(path: Path) -> Iterator[bytes]:
    """Complete lines of a file, in bytes; none if there is no file."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        yield from (data for data in file if data.endswith(b"\n"))


def _object(path: Path, complaints: list[str]) -> dict[str, Any]:
    if not path.is_file():
        complaints.append(f"there is no {path.name}")
        return {}
    try:
        value = json.loads(path.read_bytes().decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        complaints.append(f"{path.name} is not JSON: {error}")
        return {}
    if not isinstance(value, dict):
        complaints.append(f"{path.name} holds no JSON object")
        return {}
    return value


def _has_place(line: Line) -> bool:
    step = line.get("step")
    return isinstance(line.get("stage"), str) and isinstance(step, int) and 0 <= step < 10**12


def _by_step(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows in order of steps within a stage; of rows written twice for one place, the last."""
    latest = {(line["stage"], str(line.get("kind")), str(line.get("split")), line["step"]): line for line in rows}
    return sorted(latest.values(), key=lambda line: line["step"])


def _per_stage(rows: list[dict[str, Any]]) -> dict[str, tuple[Line, ...]]:
    stages = dict.fromkeys(line["stage"] for line in rows)
    return {stage: tuple(line for line in rows if line["stage"] == stage) for stage in stages}


def _stage_names(
    config: Line, metrics: list[dict[str, Any]], rollouts: Mapping[str, tuple[Path, ...]]
) -> tuple[str, ...]:
    planned = config.get("stages")
    planned = [s.get("name") for s in planned if isinstance(s, dict)] if isinstance(planned, list) else []
    seen = [str(name) for name in planned if name] + [line["stage"] for line in metrics] + list(rollouts)
    return tuple(dict.fromkeys(seen))


def _distinct_lines(paths: list[Path]) -> int:
    """Rows set aside; stages that share their data name the same ones."""
    return len({row for path in paths if path.is_file() for row in path.read_bytes().splitlines() if row.strip()})


STEP = re.compile(rb'"step": ?(-?\d+)')


def step_of(data: bytes) -> int | None:
    """The step of a line of rollouts, unparsed. A quote inside a JSON string is escaped, so it cannot match."""
    found = STEP.search(data)
    return int(found.group(1)) if found else None
