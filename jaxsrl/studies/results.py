"""What the runs of a study say: an estimate an arm and seed, what it cost, and the verdicts that follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxsrl.metrics import read
from jaxsrl.studies.effects import (
    Comparison,
    Interval,
    Noise,
    bootstrap_interval,
    compare_arms,
    crossed_interval,
    noise_floor,
    t_interval,
)
from jaxsrl.studies.ledger import Spent, spent
from jaxsrl.studies.plan import against, read_plan
from jaxsrl.studies.queue import State
from jaxsrl.studies.run import queue_of


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of an arm, in the arm's stage.

    Args:
      value: by the study's estimator.
      steps, curve: optimizer steps and values of the evaluations that it averages the last of.
      tokens: executed by the stage.
      seconds: of the whole run, start-up included.
      stopped: the evaluation by which a rule ended it early.
      spent: tokens and FLOPs by phase, and how far the stage was at every evaluation.
      population: of how many runs it was one in its program; 1 of a run trained by itself.
      problems: problem -> share of its completions that are right, over the evaluations that `value` averages. Empty
        for metrics that do not say whether a completion is right.
    """

    arm: str
    seed: int
    folder: Path
    value: float
    steps: tuple[int, ...]
    curve: tuple[float, ...]
    tokens: int
    seconds: float
    stopped: Mapping[str, Any] | None
    spent: Spent = field(default_factory=Spent)
    population: int = 1
    problems: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that is known of a study.

    Args:
      plan: `study.json`.
      missing: what has no value, and why: one line for all arms and seeds of which the same is true.
      over_problems: arm -> its difference to its anchor, every problem weighing the same, with an interval that holds
        for other problems too.
    """

    folder: Path
    plan: Mapping[str, Any]
    runs: tuple[Measured, ...]
    missing: tuple[str, ...]
    noise: Noise | None
    comparisons: tuple[Comparison, ...]
    over_problems: Mapping[str, Interval] = field(default_factory=dict)


def results(folder: Path) -> Results:
    """Reads a study's folder; runs that are not done are named, and the rest is compared.

    Raises: RunError where the folder holds no study.
    """
    plan, queue = read_plan(folder), queue_of(folder)
    runs, missing = [], {}
    for name, arm in plan["arms"].items():
        for seed, cell in arm["cells"].items():
            state = queue.state(cell)
            found = measure(plan, name, int(seed), queue.folder / cell, state)
            if isinstance(found, str):
                missing.setdefault(found, {}).setdefault(name, []).append(seed)
            else:
                runs.append(found)
    values: dict[str, dict[int, float]] = {name: {} for name in plan["arms"]}
    for one in runs:
        values[one.arm][one.seed] = one.value
    noise, comparisons = judged(plan, values)
    return Results(
        folder=Path(folder), plan=plan, runs=tuple(runs), missing=_told(missing), noise=noise, comparisons=comparisons,
        over_problems=over_problems(runs, against(plan)),
    )  # fmt: skip


def _told(missing: Mapping[str, Mapping[str, Sequence[str]]]) -> tuple[str, ...]:
    """Why -> arm -> seeds, as lines; arms without the same seeds are one."""
    said = []
    for why, by_arm in missing.items():
        arms: dict[tuple[str, ...], list[str]] = {}
        for name, seeds in by_arm.items():
            arms.setdefault(tuple(seeds), []).append(name)
        for seeds, names in arms.items():
            said.append(f"{', '.join(names)}, seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: {why}")
    return tuple(said)


def judged(
    plan: Mapping[str, Any], values: Mapping[str, Mapping[int, float]]
) -> tuple[Noise | None, tuple[Comparison, ...]]:
    """The noise floor, and each arm that is no repeat against its anchor."""
    noise = noise_floor(values[plan["anchor"]], [values[name] for name in plan["repeats"]])
    bootstrap = lambda own: bootstrap_interval(own) if len(own) >= 6 else t_interval(own)  # while runs are missing
    interval = bootstrap if plan["interval"] == "bootstrap" else t_interval
    return noise, compare_arms(
        values, against(plan), noise, smallest=plan["smallest_effect"], interval=interval, wanted=plan["power"]
    )  # fmt: skip


def measure(plan: Mapping[str, Any], name: str, seed: int, cell: Path, state: State) -> Measured | str:
    """A run's estimate, or why there is none."""
    if state.kind != "done":
        return (
            "not run"
            if state.kind == "missing"
            else state.kind + (f", {state.result}" if state.kind == "failed" else "")
        )
    folder, stage, estimator = cell / state.result["folder"], plan["arms"][name]["stage"], plan["estimator"]
    lines = [line for line in read(folder / "metrics.jsonl") if line["stage"] == stage]
    every = {
        line["step"]: line.get(estimator["metric"]) for line in lines
        if line["kind"] == "eval" and line["split"] == estimator["split"]
    }  # fmt: skip
    stopped, averaged = state.result["stopped"], estimator["last"]
    if len(every) < (1 if stopped else averaged):
        return (
            f"{len(every)} of the {averaged} evaluations that the estimator averages; lower validate.every of stage "
            f"{stage}"
        )
    counted = sorted(every)[-averaged:]
    if without := [step for step in counted if every[step] is None]:
        return (
            f"{estimator['metric']} has no value at {len(without)} of the last {len(counted)} evaluations of stage "
            f"{stage}: nothing there was well formed"
        )
    steps, curve = zip(*sorted((step, value) for step, value in every.items() if value is not None), strict=True)
    last = curve[-averaged:]
    trained = [line["tokens/executed"] for line in lines if line["kind"] == "train"]
    return Measured(
        arm=name, seed=seed, folder=folder, value=sum(last) / len(last), steps=steps, curve=curve,
        tokens=trained[-1] if trained else 0, seconds=state.result["seconds"], stopped=stopped,
        spent=spent(folder, stage, lines), population=(state.result.get("population") or {"members": 1})["members"],
        problems=by_problem(folder, stage, estimator, counted),
    )  # fmt: skip


def by_problem(folder: Path, stage: str, estimator: Mapping[str, Any], steps: Sequence[int]) -> dict[str, float]:
    """Problem -> share of right greedy completions in these evaluations, of a metric that counts them."""
    mode, _, what = estimator["metric"].partition("/")
    if what not in ("exact", "answer"):
        return {}
    found: dict[str, list[bool]] = {}
    for path in sorted((folder / "evals").glob(f"{stage}*.jsonl")):
        for line in read(path) if path.name.split(".")[0] == stage else ():
            own = line["split"] == estimator["split"] and line["mode"] == mode and line["decoding"] == "greedy"
            if own and line["step"] in steps and line["correct"] is not None:
                found.setdefault(line["problem"], []).append(line["correct"])
    return {problem: sum(right) / len(right) for problem, right in found.items()}


def over_problems(runs: Sequence[Measured], against: Mapping[str, str]) -> dict[str, Interval]:
    """Differences paired by seed and by problem, where two seeds and two problems have both."""
    by_place = {(one.arm, one.seed): one.problems for one in runs}
    found = {}
    for arm, anchor in against.items():
        seeds = sorted(seed for name, seed in by_place if name == arm and (anchor, seed) in by_place)
        both = [(by_place[arm, seed], by_place[anchor, seed]) for seed in seeds]
        common = sorted(set.intersection(*(own.keys() & base.keys() for own, base in both))) if both else []
        if len(seeds) > 1 and len(common) > 1:
            found[arm] = crossed_interval(np.array([[own[p] - base[p] for p in common] for own, base in both]))
    return found
