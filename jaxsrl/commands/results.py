"""Where the results of an evaluation go: a JSON file of numbers, and one of completions beside it."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxsrl.metrics import encode, scalar
from jaxsrl.runs import write_json

FOLDER = "evaluations"  # not `evals/`, whose lines belong to the run's own steps and are cut back on resume


def keep(folder: Path, name: str, result: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> Path:
    """Writes `name.json` and, beside it, the completions as `name.jsonl`. Earlier results stay: `name.2.json` follows.

    Returns: the path of the JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9._=-]+", "-", name).strip("-")
    number = 1
    while (path := folder / (name + (f".{number}" if number > 1 else "") + ".json")).exists():
        number += 1
    completions = path.with_suffix(".jsonl")
    with completions.open("w", encoding="utf-8") as file:
        file.writelines(encode(record) for record in records)
    write_json(path, plain(result) | {"completions": completions.name})
    return path


def plain(value: Any) -> Any:
    """JSON values; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else scalar(value)


def interval(metrics: Mapping[str, Any], name: str, *, percent: bool = False) -> str:
    """A metric with its 95 % bounds, as `4.0 [1.6, 9.8]`; a dash where there is none."""
    values = [metrics.get(one) for one in (name, f"{name}_low", f"{name}_high")]
    if values[0] is None:
        return "–"
    shown = [None if v is None else f"{100 * v:.1f}" if percent else f"{v:.3f}" for v in values]
    first = shown[0] if percent else f"{values[0]:.4g}"
    return first + (f" [{shown[1]}, {shown[2]}]" if None not in shown else "")
