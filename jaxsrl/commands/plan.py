"""What `jaxsrl plan` prints: memory, collectives, roofline and hours of a run on devices that need not be there."""

import ast
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxsrl.clusters.compile import Effort, has_compiler
from jaxsrl.clusters.hardware import GIB, Hardware, hardware
from jaxsrl.clusters.plan import DoesNotFit, Plan, StagePlan, check, make_plan
from jaxsrl.clusters.search import search, weak_scaling
from jaxsrl.config.overrides import load, override
from jaxsrl.config.run import Config

BEST = 3  # layouts that a search compiles
SMALL = 2**20  # bytes of a collective below which it is not shown


def cache_folder() -> Path:
    """Where the compilers' answers are kept: `jaxsrl/plan` of the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxsrl" / "plan"


def accelerator_of(path: Path) -> str | None:
    """What a config file is written for: its line `ACCELERATOR = "v5p-16"`; None where it has none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "ACCELERATOR"
        ):
            return ast.literal_eval(node.value)
    return None


def devices_of(path: Path, named: str | None) -> Hardware:
    """Raises: ValueError where neither the command nor the file names an accelerator."""
    name = named or accelerator_of(path)
    if name is None:
        raise ValueError(f"{path} names no ACCELERATOR: give one, as --target v5p-16 or --target 8xh200")
    return hardware(name)


def plan_one(
    config: Config, devices: Hardware, *, estimate: bool, effort: Effort, cache: Path | None, share: float
) -> tuple[Plan, str]:
    """The plan and its text. Raises: DoesNotFit once the text is printed to stderr."""
    compiled = not estimate and has_compiler(devices)
    found = make_plan(config, devices, compiled=compiled, effort=effort, cache=cache, say=_say)
    text = described(found, share)
    if found.missing_bytes(share):
        print(text, file=sys.stderr)
    check(found, config, share)
    return found, text


def plan_all(folder: Path, *, estimate: bool, effort: Effort, cache: Path | None, share: float) -> str:
    """A line for every config of a folder that names its accelerator. Raises: DoesNotFit naming those that do not."""
    lines, bad = (
        [f"{'recipe':28} {'devices':10} {'needed of GiB':>16} {'step s':>9} {'hours':>7} {'chip-hours':>10}  by"],
        [],
    )
    for path in sorted(folder.glob("*.py")):
        if accelerator_of(path) is None:
            continue
        devices = devices_of(path, None)
        compiled = not estimate and has_compiler(devices)
        found = make_plan(load(path), devices, compiled=compiled, effort=effort, cache=cache, say=_say)
        step, hours = sum(x.speed.step_seconds for x in found.stages), found.seconds / 3600
        room = f"{found.needed_bytes / GIB:.2f} of {devices.chip.hbm_bytes / GIB:.2f}"
        lines.append(f"{path.stem:28} {devices.name:10} {room:>16} {step:9.2f} {hours:7.2f} "
                     f"{hours * devices.devices:10.1f}  {'compiler' if found.compiled else 'formula'}")  # fmt: skip
        if found.missing_bytes(share):
            bad.append(f"{path.stem}: {found.missing_bytes(share) / GIB:.2f} GiB missing")
    if bad:
        raise DoesNotFit("\n".join([*lines, "does not fit: " + "; ".join(bad)]))
    return "\n".join(lines)


def plan_search(
    config: Config, devices: Hardware, *, estimate: bool, effort: Effort, cache: Path | None, share: float
) -> tuple[list[dict], str]:
    """The fastest layouts by formula, and what the compiler says of the best three; as values and as text."""
    ranked, compiled = search(config, devices, share), not estimate and has_compiler(devices)
    lines, values = [f"{len(ranked)} layouts fit {devices.described()} by formula; the fastest at the roofline:"], []
    for one in ranked[:BEST]:
        lines.append(f"  {one.step_seconds:8.2f} s a step, {one.needed_bytes / GIB:6.2f} GiB by formula")
        value = {"assignments": one.assignments, "step_seconds": one.step_seconds, "needed_bytes": one.needed_bytes}
        if compiled:
            found = make_plan(override(config, one.assignments), devices, effort=effort, cache=cache, say=_say)
            fits = "fits" if not found.missing_bytes(share) else "DOES NOT FIT"
            step = sum(x.speed.step_seconds for x in found.stages)
            lines[-1] += f"; compiled {step:.2f} s, {found.needed_bytes / GIB:.2f} GiB: {fits}"
            value["compiled"] = found.to_json()
        lines.append("      --set " + " --set ".join(one.assignments))
        values.append(value)
    return values, "\n".join(lines)


def plan_scaling(config: Config, chip: str, counts: Sequence[int]) -> str:
    """Weak scaling as a table: parameters over all chips, work in proportion."""
    found = weak_scaling(config, chip, counts)
    columns = ("chips", "tokens/s a chip, overlapped", "of the first", "nothing overlapped", "of the first",
               "links, s a step")  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for one in found:
        lines.append(
            f"| {one.chips} | {one.overlapped:,.0f} | {one.overlapped / found[0].overlapped:.1%} | {one.apart:,.0f} | "
            f"{one.apart / found[0].apart:.1%} | {one.link_seconds:.2f} |"
        )
    return "\n".join(lines)


def write_json(value, path: Path) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def described(plan: Plan, share: float) -> str:
    """The plan as a page of text."""
    chip = plan.devices.chip
    lines = [plan.devices.described(), plan.source]
    for stage in plan.stages:
        lines += ["", *_memory(stage), "", *_roofline(stage)]
        if plan.compiled:
            lines += ["", *_collectives(stage)]
    hours = plan.seconds / 3600
    lines += [
        "",
        f"needed: {plan.needed_bytes / GIB:.2f} GiB a device, in {plan.worst.phase} of {plan.worst.stage}; "
        f"{share:.0%} of {chip.hbm_bytes / GIB:.2f} may be filled: "
        + ("it fits" if not plan.missing_bytes(share) else f"{plan.missing_bytes(share) / GIB:.2f} GiB are missing"),
        f"run: {hours:.2f} h, {hours * plan.devices.devices:.1f} chip-hours at the roofline. That is a bound: every "
        "completion as long as its cap, transfers behind products, and nothing of what the host does.",
    ]
    return "\n".join(lines)


def _memory(stage: StagePlan) -> list[str]:
    lines = [
        f"[{stage.stage}] memory of a device, GiB",
        f"  {'program':11}{'peak':>8}{'beside':>8}{'needed':>8}  of the peak",
    ]
    for one in stage.programs:
        parts = sorted(one.parts.items(), key=lambda item: -item[1])
        what = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts if size >= GIB / 200)
        what += f"{', ' * bool(what)}other {one.other_bytes / GIB:.2f}" + (" (refused)" if one.refused else "")
        beside = sum(one.beside.values())
        lines.append(
            f"  {one.phase:11}{one.peak_bytes / GIB:8.2f}{beside / GIB:8.2f}{one.needed_bytes / GIB:8.2f}  {what}"
        )
    return lines + [f"  sample holds {freed}: released before the gradient" for freed in _freed(stage)]


FREED = ("prompt cache", "slots' cache", "sampler's copy")


def _freed(stage: StagePlan) -> list[str]:
    """What the sampler holds and the gradient does not find any more; nothing where the stage samples nothing."""
    if all(one.phase != "sample" for one in stage.programs):
        return []
    parts = {
        name: size for one in stage.programs if one.phase in ("reshard", "sample") for name, size in one.parts.items()
    }
    return [", ".join(f"{name} {parts[name] / GIB:.2f}" for name in FREED if name in parts)]


def _roofline(stage: StagePlan) -> list[str]:
    lines = [f"[{stage.stage}] roofline of a device, seconds of one run",
             f"  {'phase':11}{'times':>7}{'TFLOP':>9}{'compute':>10}{'memory':>10}{'links':>10}  bound by"]  # fmt: skip
    for one in stage.speed.phases:
        links = sum(v for k, v in one.seconds.items() if k not in ("compute", "memory"))
        lines.append(
            f"  {one.phase:11}{one.times:7.0f}{one.flops / 1e12:9.2f}{one.seconds['compute']:10.4f}"
            f"{one.seconds['memory']:10.4f}{links:10.4f}  {one.bound}"
        )
    speed = stage.speed
    lines.append(f"  step {speed.step_seconds:.2f} s, {speed.tokens_per_second:,.0f} tokens/s, MFU {speed.mfu:.1%}; "
                 "a reward on the device is part of sample, on the host it is not counted")  # fmt: skip
    return lines


def _collectives(stage: StagePlan) -> list[str]:
    phases = {one.phase: one for one in stage.speed.phases}
    lines = [f"[{stage.stage}] collectives: MiB that a device receives in one run"]
    for program in stage.programs:
        for one in program.collectives:
            if one.bytes >= SMALL:
                axes = "+".join(one.axes) or "-"
                lines.append(
                    f"  {program.phase:11}{one.kind:20}{one.dtype:6}{axes:12}{one.count:7}x{one.bytes / 2**20:12,.1f}"
                )
        sent = phases[program.phase].sent
        if sent and any(one.bytes >= SMALL for one in program.collectives):
            lines.append(
                f"  {'':11}by link: " + ", ".join(f"{link} {size / 2**20:,.0f}" for link, size in sent.items())
            )
    return lines if len(lines) > 1 else [f"{lines[0]}: none"]


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
