"""What is launched, and what a target makes of it: files and commands, as a pure function."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxsrl.clusters.hardware import Hardware

Command = tuple[str, ...]
EXAMPLES = {  # of what a target may ask for
    "code": "/shared/jaxsrl", "zone": "us-east5-b", "project": "PROJECT", "nfs": "10.0.0.2:/share",
    "image": "REGISTRY/jaxsrl:tpu", "claim": "shared", "volume": "shared",
}  # fmt: skip
PORT = 8476  # of the first process, where the others find it


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a target finds its machines. What a target needs and is None, it asks for.

    Args:
      shared: folder that all machines see; `weights/`, `data/` and `runs/` lie in it.
      runs: folder or `gs://` address of all runs, where it is not `runs/` in `shared`.
      zone: of Google Cloud, for tpu-vm; of others for skypilot.
      project: of Google Cloud.
      network: of Google Cloud's, that TPUs and share are in.
      nfs: HOST:/PATH of a file share, which tpu-vm mounts at `shared`.
      partition: of Slurm.
      account: of Slurm.
      hours: that Slurm gives a job before it is queued again.
      container: an image for Slurm's Pyxis; without one the tasks take the .venv in `code`.
      code: folder of the project as the machines of Slurm see it.
      image: container of gke, built from launch/docker.
      cluster: of gke, where XPK made it.
      namespace: of Kubernetes.
      claim: of Kubernetes, a volume that gke mounts at `shared`.
      volume: of SkyPilot, mounted at `shared`.
      spot: machines that may be taken away, for less money.
    """

    shared: str = "/shared"
    runs: str | None = None
    zone: str | None = None
    project: str | None = None
    network: str = "default"
    nfs: str | None = None
    partition: str | None = None
    account: str | None = None
    hours: int = 24
    container: str | None = None
    code: str | None = None
    image: str | None = None
    cluster: str | None = None
    namespace: str = "default"
    claim: str | None = None
    volume: str | None = None
    spot: bool = False

    @property
    def all_runs(self) -> str:
        return self.runs or f"{self.shared}/runs"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to be started.

    Args:
      name: of the run, and of what engines know it by.
      config: path below the project. arguments: of `jaxsrl train` behind it.
      devices: None on this machine, whatever it has.
      folder: where the rendered files are, below the current folder.
      environment: variables of every process.
      processes: on this machine. restarts: after a failure that is no wrong config.
      python: of this machine, for the target local.
    """

    name: str
    config: str
    arguments: tuple[str, ...]
    devices: Hardware | None
    folder: str
    environment: Mapping[str, str]
    place: Place = field(default_factory=Place)
    processes: int = 1
    restarts: int = 20
    python: str = "python3"


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What a target makes of a job.

    Args:
      files: name -> text, to be written into the job's folder.
      start, status, logs, stop: commands in their order; none where the engine has no such thing.
    """

    files: Mapping[str, str]
    start: tuple[Command, ...]
    status: tuple[Command, ...] = ()
    logs: tuple[Command, ...] = ()
    stop: tuple[Command, ...] = ()


def require(job: Job, target: str, *names: str) -> None:
    """Raises: ValueError naming the options that the target needs and that are not given."""
    missing = [name for name in names if getattr(job.place, name) is None]
    if missing:
        shown = ", ".join(f"--place.{name} {EXAMPLES[name]}" for name in missing)
        raise ValueError(f"--target {target} needs to know where: {shown} (launch/README.md)")
    if job.devices is None:
        raise ValueError(f"--target {target} needs --accelerator, as v5p-16 or 8xh200, or a config that names one")


def exports(environment: Mapping[str, str]) -> str:
    """Lines of a shell script; a variable that is set already stays as it is."""
    return "\n".join(f"export {name}=${{{name}-{_inner(value)}}}" for name, value in sorted(environment.items()))


def _inner(value: str) -> str:
    return f'"{value}"' if value.replace("_", "").replace("-", "").replace("=", "").replace(" ", "").replace(
        ".", "").replace("/", "").replace(":", "").isalnum() else shlex.quote(value)  # fmt: skip


def train(job: Job, config: str, runs: str | None) -> str:
    """Arguments of Python: the command that is the same at the first start and at every other."""
    words = ["-m", "jaxsrl", "train", config, *job.arguments, *(["--runs", runs] if runs else [])]
    return shlex.join(words)


def newest(folder: str, file: str) -> str:
    """Follows a file of the newest attempt, once there is one: a job may be queued for long."""
    return (
        f"until ls -d {folder}/logs/attempt_* >/dev/null 2>&1; do echo 'no attempt yet'; sleep 10; done; "
        f'tail -n 50 -F "$(ls -td {folder}/logs/attempt_* | head -n 1)/{file}"'
    )


# Codes of `jaxsrl train`, for every script: 0 done, 2 wrong config, 3 diverged, 75 told to stop and saved. `worst` is
# the one of several processes that says what to do: what would end alike again first, then any failure, then a stop.
WORST = """\
worst() { # of the codes given
    local code=0 one
    for one in "$@"; do
        case $one in
            0) ;;
            2) code=2 ;;
            3) if [ "$code" != 2 ]; then code=3; fi ;;
            75) if [ "$code" = 0 ]; then code=75; fi ;;
            *) if [ "$code" != 2 ] && [ "$code" != 3 ]; then code=$one; fi ;;
        esac
    done
    echo "$code"
}
"""
WAIT = """\
ended() { # PID: waits for it, however often a signal interrupts that; its code is $code
    wait "$1"
    code=$?
    while [ "$code" -gt 128 ] && kill -0 "$1" 2>/dev/null; do
        wait "$1"
        code=$?
    done
    if [ "$code" -gt 128 ] && [ "$stopped" = yes ]; then # interrupted as it ended: its own code is kept for us
        wait "$1"
        local own=$?
        if [ "$own" != 127 ]; then code=$own; fi
    fi
}
"""
