"""Where the time of a run went, over all of its attempts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = ("step", "compile", "begin", "evaluate", "checkpoint", "other")


def goodput(folder: Path) -> str | None:
    """A line on a run's time: the share of it that was steps which count, and what the rest was; None without any.

    Steps that a later attempt took again are `lost`. An attempt that was killed counts up to its last save.
    """
    path = folder / "timing.jsonl"
    lines = list(_lines(path.read_bytes().splitlines())) if path.is_file() else []
    ledgers = {line["attempt"]: line for line in lines if "ledger" in line}
    wall = sum(line["wall"] for line in ledgers.values())
    if not wall:
        return None
    totals = {kind: sum(line["ledger"].get(kind, 0.0) for line in ledgers.values()) for kind in KINDS}
    last = {(line["stage"], line["step"]): line["attempt"] for line in lines if "stage" in line}
    lost = sum(
        _taking(line) for line in lines if "stage" in line and last[line["stage"], line["step"]] != line["attempt"]
    )
    lost = min(lost, totals["step"])
    shares = {"step": totals["step"] - lost, "lost": lost} | {k: v for k, v in totals.items() if k != "step"}
    rest = ", ".join(f"{name} {seconds / wall:.0%}" for name, seconds in shares.items() if name != "step" and seconds)
    return f"{shares['step'] / wall:.0%} of {wall:.0f} s in {len(ledgers)} attempts were steps that count ({rest})"


def _taking(line: Mapping[str, Any]) -> float:
    """Seconds of a step itself."""
    return sum(seconds for name, seconds in line["seconds"].items() if name not in ("evaluate", "checkpoint"))


def _lines(texts):
    for text in texts:
        try:
            yield json.loads(text)
        except ValueError:  # cut by a kill
            continue
