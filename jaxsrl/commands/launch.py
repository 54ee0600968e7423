"""What `jaxsrl launch` does: renders a target's files, says what it would run, and runs it."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxsrl.clusters.hardware import GIB, Hardware, hardware
from jaxsrl.clusters.launch import gke, local, skypilot, slurm, tpu_vm
from jaxsrl.clusters.launch.flags import EVERYWHERE, environment, flags_of
from jaxsrl.clusters.launch.job import Command, Job, Place, Rendered
from jaxsrl.clusters.plan import SHARE, check, check_mesh, make_plan
from jaxsrl.commands.plan import accelerator_of
from jaxsrl.config.overrides import load, override
from jaxsrl.config.run import Config
from jaxsrl.stores.objects import is_stored

TARGETS: Mapping[str, Callable[[Job], Rendered]] = {
    "local": local.render, "slurm": slurm.render, "tpu-vm": tpu_vm.render, "gke": gke.render,
    "skypilot": skypilot.render,
}  # fmt: skip
FOLDER = "launches"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A job as a target renders it, and what was found out about it."""

    job: Job
    rendered: Rendered
    notes: tuple[str, ...]


def prepare(
    config: Path, *, target: str, settings: Sequence[str] = (), accelerator: str | None = None,
    arguments: Sequence[str] = (), place: Place | None = None, given: Mapping[str, str] | None = None,
    processes: int = 1, restarts: int = 20, python: str = sys.executable,
) -> Launch:  # fmt: skip
    """Checks a config against its devices, and renders it. Nothing is written.

    Args:
      config: below the current folder. settings: as `--set` takes them. arguments: more of `jaxsrl train`.
      given: variables that replace those of the platform.
    Raises: ValueError for what no machine should be asked for: an unknown target or accelerator, a mesh that does not
      take the devices, a run that does not fit them (`DoesNotFit`), options that are missing.
    """
    if target not in TARGETS:
        raise ValueError(f"no target {target!r}; there are: {', '.join(TARGETS)}")
    made = override(load(config), settings)
    name = accelerator or (accelerator_of(config) if target != "local" else None)
    devices = hardware(name) if name else None
    notes = [] if devices is None else _checked(made, devices)
    words = [word for setting in settings for word in ("--set", setting)]
    if target == "local" and processes < 1 or restarts < 0:
        raise ValueError(f"--processes must be >= 1 and --restarts >= 0, got {processes=} {restarts=}")
    place = place or Place()
    known = {} if target == "local" else {"JAXSRL_DATA": f"{place.shared}/data"}
    if target != "local" and is_stored(place.runs):  # where the machines write a run together before it is stored
        known |= {"JAXSRL_CACHE": f"{place.shared}/cache"}
    job = Job(
        name=_engine_name(made.name), config=_below(config, target), arguments=(*words, *arguments), devices=devices,
        folder=f"{FOLDER}/{made.name}/{target}", environment=environment(devices, known | dict(given or {})),
        place=place,
        processes=processes, restarts=restarts, python=python,
    )  # fmt: skip
    return Launch(job=job, rendered=TARGETS[target](job), notes=tuple(notes))


def variables(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` of `--env`. Raises: ValueError for what is none."""
    out = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--env {pair!r}: write NAME=VALUE")
        out[name] = value
    return out


def _checked(config: Config, devices: Hardware) -> list[str]:
    """What the formula says of memory. Raises: as `prepare`."""
    check_mesh(config, devices)
    try:
        found = make_plan(config, devices, compiled=False)
    except ValueError as error:  # sizes that only the data say
        return [f"not planned: {error}"]
    check(found, config)
    room = SHARE * devices.chip.hbm_bytes
    return [
        f"{devices.described()}; about {found.needed_bytes / GIB:.1f} of {room / GIB:.1f} GiB (jaxsrl plan says more)"
    ]


def _engine_name(name: str) -> str:
    """As Kubernetes and Google Cloud take names: small letters, digits and dashes."""
    made = "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")[:40].strip("-")
    return made if made[:1].isalpha() else f"run-{made}"


def _below(config: Path, target: str) -> str:
    """The config as other machines find it. Raises: ValueError where it lies outside of the project."""
    if target == "local":
        return str(config)
    try:
        return config.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        raise ValueError(
            f"{config} lies outside of {Path.cwd()}, whose files are sent to the machines: copy it to configs/, and "
            "give the command in the project's folder"
        ) from None


def described(launch: Launch, *, files: bool) -> str:
    """Environment with reasons, commands, and with `files` what would be written."""
    job, rendered = launch.job, launch.rendered
    lines = [*launch.notes, "environment of every process:"]
    lines += [f"  {name}={value}" for name, value in sorted(job.environment.items())]
    for flag in EVERYWHERE if job.devices is None else flags_of(job.devices):
        if flag.value in job.environment.get(flag.variable, ""):
            lines.append(f"    {flag.value}: {flag.reason} ({flag.source}, {flag.date})")
    if files:
        for name, text in rendered.files.items():
            lines += [f"--- {job.folder}/{name}", text.rstrip("\n")]
        lines.append("---")
    for verb, commands in (("start", rendered.start), ("status", rendered.status), ("logs", rendered.logs),
                           ("stop", rendered.stop)):  # fmt: skip
        lines += [f"{verb}: {shown(command)}" for command in commands]
    return "\n".join(lines)


def shown(command: Command) -> str:
    """As a person would type it."""
    return shlex.join(command)


def write(launch: Launch) -> None:
    """The rendered files, into the job's folder below the current one."""
    folder = Path(launch.job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in launch.rendered.files.items():
        (folder / name).write_text(text, encoding="utf-8")


def run(launch: Launch, verb: str) -> int:
    """Runs the commands of a verb one after another; the code of the first that fails.

    Raises: ValueError where the target has no such verb; FileNotFoundError where its tool is not installed.
    """
    commands = {"start": launch.rendered.start, "status": launch.rendered.status, "logs": launch.rendered.logs,
                "stop": launch.rendered.stop}[verb]  # fmt: skip
    if not commands:
        raise ValueError(f"this target has no {verb}")
    for command in commands:
        try:
            code = subprocess.run(command).returncode
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{command[0]} is not installed, and `{shown(command)}` needs it") from error
        except KeyboardInterrupt:
            return 130
        if code:
            return code
    return 0
