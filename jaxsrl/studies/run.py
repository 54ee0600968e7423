"""`jaxsrl study run` and `status`: a worker that takes one cell after the other and trains it."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxsrl.config.run import Config
from jaxsrl.metrics import read
from jaxsrl.policy import Compiled
from jaxsrl.processes import Stopped
from jaxsrl.report.names import number
from jaxsrl.stages.begin import Prepared
from jaxsrl.studies.cost import Cost, Useful, device_flops
from jaxsrl.studies.members import fixed, unfit
from jaxsrl.studies.plan import Cell, plan, read_plan, write_plan
from jaxsrl.studies.population import train_population
from jaxsrl.studies.queue import Lease, Queue, State, work_groups
from jaxsrl.studies.study import StopBelow, Study
from jaxsrl.train import train

# Runs of a study in one program, unless it says: on a CPU none, as its cores are better used by workers of their own.
MEMBERS = {"cpu": 1, "gpu": 8, "tpu": 8}


def queue_of(folder: Path, lease_seconds: float = 300.0) -> Queue:
    return Queue(folder=Path(folder) / "cells", lease_seconds=lease_seconds)


def run(
    study: Study, useful: Useful, stop: Callable[[], bool], *, workers: int = 1, wait: bool = True,
    lease_seconds: float = 300.0, command: Sequence[str] = (), only_plan: bool = False,
    say: Callable[[str], None] = print, compiled: Compiled | None = None,
    prepared_by: Callable[[Config], Prepared] | None = None,
) -> int:  # fmt: skip
    """Checks and costs all cells, then trains those that are missing. Returns how many were finished here.

    Args:
      workers: processes on this machine; `command` starts the others.
      wait: until cells of other workers are done, as those may die.
      compiled: functions that other runs of this process have compiled; cells share theirs.
      prepared_by: see `plan`; populations take from it as well what they train on.
    Raises: ConfigError naming the arm that cannot be run: then none has started.
    """
    cells = plan(study, useful, prepared_by)
    folder = write_plan(study, cells)
    queue = queue_of(folder, lease_seconds)
    say(costs(cells, {cell.id: queue.state(cell.id) for cell in cells}))
    if only_plan:
        return 0
    others = [subprocess.Popen(list(command)) for _ in range(workers - 1)]
    by_id = {cell.id: cell for cell in cells}
    compiled = compiled or Compiled()
    groups = groups_of(study, cells)
    if told := [str(len(group)) for group in groups if len(group) > 1]:
        say(f"populations of {', '.join(told)} runs; {sum(len(group) == 1 for group in groups)} runs alone")

    def perform(leases: Sequence[Lease], stopped: Callable[[], bool]) -> list[dict[str, Any] | None]:
        own = [by_id[lease.cell.name] for lease in leases]
        if len(own) == 1:
            return [perform_cell(own[0], leases[0], study.stop, stopped, compiled)]
        return perform_population(own, leases, f"{study.name}-{own[0].id}", stopped, compiled, prepared_by)

    try:
        return work_groups(queue, groups, perform, stop, wait=wait, say=say)
    finally:
        for process in others:
            if stop():
                process.terminate()
            process.wait()


def groups_of(study: Study, cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """Ids of cells that one program may train, in the order of their first ones."""
    most = MEMBERS[jax.default_backend()] if study.population is None else study.population
    alike: dict[str, list[str]] = {}
    for cell in cells:
        config = cell.config
        alone = most == 1 or study.stop is not None or unfit(config) is not None
        base = config.seed if config.lora is not None and config.weights is None else None
        key = cell.id if alone else json.dumps([fixed(config), base], sort_keys=True)
        alike.setdefault(key, []).append(cell.id)
    return [tuple(group[i : i + most]) for group in alike.values() for i in range(0, len(group), most)]


def perform_population(
    cells: Sequence[Cell], leases: Sequence[Lease], name: str, stopped: Callable[[], bool], compiled: Compiled,
    prepared_by: Callable[[Config], Prepared] | None = None,
) -> list[dict[str, Any] | None]:  # fmt: skip
    """As `perform_cell`, of cells that are trained as one program. The seconds of each are its share."""
    start = time.monotonic()
    configs = [at_lease(cell, lease) for cell, lease in zip(cells, leases, strict=True)]
    try:
        train_population(configs, name, stopped, compiled, prepared_by=prepared_by)
    except Stopped:
        return [None] * len(cells)
    seconds = round((time.monotonic() - start) / len(cells), 3)
    population = {"name": name, "members": len(cells)}
    return [
        {"folder": f"{lease.token}/{config.name}", "seconds": seconds, "stopped": None, "population": population}
        for lease, config in zip(leases, configs, strict=True)
    ]


def at_lease(cell: Cell, lease: Lease) -> Config:
    """A cell's config in its holder's own folder, into which is copied what the last holder saved."""
    name = run_name(cell)
    if lease.before is not None and not (lease.folder / name).exists():
        take_over(lease.before / name, lease.folder / name)
    return replace(cell.config, runs=str(lease.folder), name=name)


def perform_cell(
    cell: Cell, lease: Lease, rule: StopBelow | None, stopped: Callable[[], bool], compiled: Compiled
) -> dict[str, Any] | None:
    """Trains a cell in its holder's own folder, from what the last holder saved. None where it was told to stop."""
    start, config = time.monotonic(), at_lease(cell, lease)
    folder = lease.folder / config.name
    ended = hopeless(folder, rule)
    try:
        train(config, lambda: stopped() or ended() is not None, compiled)
    except Stopped:
        if ended() is None or stopped():
            return None
    return {"folder": f"{lease.token}/{config.name}", "seconds": round(time.monotonic() - start, 3), "stopped": ended()}


def run_name(cell: Cell) -> str:
    """A folder's name that a person can read: first arm and seed."""
    return re.sub(r"[^\w.-]+", "_", cell.arms[0]).strip("._")[:48] + f"-seed{cell.config.seed}"


def take_over(before: Path, folder: Path) -> None:
    """Copies what an earlier holder saved: it may only be paused, and go on to write where it is.

    Checkpoints first: those that are complete know of no line that is not in the files copied after them.
    """
    if not (before / "checkpoints").is_dir():
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(before / "checkpoints", partial / "checkpoints")
    shutil.copytree(before, partial, dirs_exist_ok=True, ignore=lambda at, names: _left_out(before, at, names))
    partial.rename(folder)


def _left_out(before: Path, at: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(at) == before and name in ("checkpoints", ".lock")]


def hopeless(folder: Path, rule: StopBelow | None) -> Callable[[], dict[str, Any] | None]:
    """What says whether a rule has ended the run, and by which evaluation. The file is read again when it has grown."""
    path, seen = folder / "metrics.jsonl", {"size": -1, "found": None}

    def ended() -> dict[str, Any] | None:
        size = path.stat().st_size if rule is not None and path.exists() else -1
        if size != seen["size"]:
            seen.update(size=size, found=fired(rule, read(path)))
        return seen["found"]

    return ended


def fired(rule: StopBelow | None, lines: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The first validation that a rule ends a run at."""
    for line in lines if rule is not None else ():
        judged = line["kind"] == "eval" and line.get("split") == "validation" and line["stage"] == rule.stage
        if judged and line["step"] >= rule.after and (line.get(rule.metric) or 0.0) < rule.below:
            return {"stage": rule.stage, "step": line["step"], "metric": rule.metric, "value": line.get(rule.metric)}
    return None


def costs(cells: Sequence[Cell], states: dict[str, State]) -> str:
    """What is to be run and at most costs, before it is."""
    missing = [cell for cell in cells if states[cell.id].kind != "done"]
    total = sum((cell.cost for cell in missing), Cost())
    done = [cell for cell in cells if states[cell.id].kind == "done"]
    said = f"{len(cells)} runs, {len(done)} done, {len(missing)} to do: at most {number(total.tokens)} tokens and "
    said += f"{number(total.flops)} FLOPs"
    if not missing:
        return f"{len(cells)} runs, all done"
    spent = sum(states[cell.id].result["seconds"] for cell in done)
    if spent:
        speed = sum(cell.cost.flops for cell in done) / spent
        return said + f", about {number(total.flops / speed)} s one after the other, at the speed of those done"
    return said + f". Plain products of so many FLOPs take {number(total.flops / device_flops())} s on this device"


def status(folder: Path, lease_seconds: float = 300.0) -> str:
    """A line per run: where it stands, who has it, what it cost.

    Raises: RunError where the folder holds no study.
    """
    told, queue = read_plan(folder), queue_of(folder, lease_seconds)
    lines, counts = [], {}
    cells: dict[str, list[str]] = {}
    for name, arm in told["arms"].items():
        for seed, cell in arm["cells"].items():
            cells.setdefault(cell, []).append(f"{name} seed {seed}")
    for cell, names in cells.items():
        state = queue.state(cell)
        counts[state.kind] = counts.get(state.kind, 0) + 1
        lines.append(f"{cell}  {state.kind:<8} {', '.join(names)}{_told(state)}")
    head = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return "\n".join([f"{told['name']}: {len(cells)} runs: {head}", *lines])


def _told(state: State) -> str:
    if state.kind == "done":
        early = state.result["stopped"]
        ended = f", ended early by {early['metric']} {early['value']} at step {early['step']}" if early else ""
        population = state.result.get("population")  # none of a run that was trained by itself
        within = f", its share of the {population['members']} of {population['name']}" if population else ""
        return f"  {state.result['seconds']:.0f} s{within}{ended}"
    if state.kind == "failed":
        return f"  {state.result}"
    return f"  {state.worker}, heard of {state.age:.0f} s ago" if state.kind in ("running", "expired") else ""


def worker_command(arguments: Sequence[str]) -> list[str]:
    """What starts another worker with the arguments of this one."""
    return [sys.executable, "-m", "jaxsrl", "study", "run", *arguments, "--workers", "1"]
