"""What a run has spent, read from its folder: tokens and FLOPs by phase, and how far it was at every evaluation."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxsrl.config.saved import model_from
from jaxsrl.metrics import read
from jaxsrl.models.config import parameter_count
from jaxsrl.runs import read_json
from jaxsrl.speed import FORWARD, TRAIN, TRAIN_ADAPTERS

PHASES = ("prefill", "sample", "learn")


@dataclass(frozen=True, kw_only=True)
class Spent:
    """By a stage of a run.

    Args:
      tokens, flops: by phase, counted from the layouts; FLOPs are those of the products of parameters. Empty of a run
        that has not logged every step.
      at: optimizer step -> {"tokens": …, "FLOPs": …, "seconds": …} up to it; seconds are those of steps, evaluations
        and checkpoints left out. What is not known is not there.
    """

    tokens: Mapping[str, int] = field(default_factory=dict)
    flops: Mapping[str, float] = field(default_factory=dict)
    at: Mapping[int, Mapping[str, float]] = field(default_factory=dict)


def spent(folder: Path, stage: str, lines: Sequence[Mapping[str, Any]] | None = None) -> Spent:
    """Of one stage of a run folder.

    Args:
      lines: of `metrics.jsonl`, where they were read already.
    """
    every = read(folder / "metrics.jsonl") if lines is None else lines
    trained = [x for x in every if x["stage"] == stage and x["kind"] == "train"]
    seconds = _seconds(folder, stage)
    at: dict[int, dict[str, float]] = {0: {"tokens": 0.0, "FLOPs": 0.0, "seconds": 0.0}}
    whole = [x["step"] for x in trained] == list(range(1, len(trained) + 1)) and (folder / "model.json").exists()
    flops_of = _flops(folder) if whole else None
    tokens, flops, before = dict.fromkeys(PHASES, 0), dict.fromkeys(PHASES, 0.0), 0
    for line in trained:
        here: dict[str, float] = {"tokens": float(line["tokens/executed"])}
        if flops_of is not None:
            one = _step(line, before)
            before = line["tokens/executed"]
            for phase, value in one.items():
                tokens[phase] += value
                flops[phase] += flops_of(phase, value)
            here["FLOPs"] = sum(flops.values())
        if line["step"] in seconds:
            here["seconds"] = seconds[line["step"]]
        at[line["step"]] = here
    known = flops_of is not None
    return Spent(tokens=tokens if known else {}, flops=flops if known else {}, at=at)


def _step(line: Mapping[str, Any], before: int) -> dict[str, int]:
    """Tokens of an optimizer step by phase: what was executed and not sampled was learned from."""
    prefilled, sampled = (line.get(f"collect/{name}_tokens") or 0 for name in ("prefilled", "sampled"))
    return {
        "prefill": prefilled, "sample": sampled, "learn": line["tokens/executed"] - before - prefilled - sampled,
    }  # fmt: skip


def _flops(folder: Path) -> Callable[[str, int], float]:
    """(phase, tokens) -> FLOPs, by the run's model and whether it trains adapters."""
    adapters = read_json(folder / "config.json").get("lora") is not None
    count = parameter_count(model_from(read_json(folder / "model.json")))
    a_token = {"prefill": FORWARD, "sample": FORWARD, "learn": TRAIN_ADAPTERS if adapters else TRAIN}
    return lambda phase, tokens: float(a_token[phase] * count * tokens)


def _seconds(folder: Path, stage: str) -> dict[int, float]:
    """Optimizer step -> seconds of steps up to it; of a step that was taken again after a crash, the last one's."""
    path = folder / "timing.jsonl"
    found: dict[int, float] = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        line = json.loads(text)
        if line.get("stage") == stage and "seconds" in line:
            parts = line["seconds"]
            found = {step: value for step, value in found.items() if step < line["step"]}
            found[line["step"]] = sum(parts.get(name, 0.0) for name in ("steps", "collect", "update"))
    total, out = 0.0, {}
    for step, value in sorted(found.items()):
        total += value
        out[step] = total
    return out
