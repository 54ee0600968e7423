"""Slurm: a batch script with one task a GPU; JAX finds the others in Slurm's variables."""

import shlex

from jaxsrl.clusters.launch.job import WAIT, Job, Rendered, exports, newest, require, train

SIGNAL = 180  # seconds before the time limit, in which a step ends and is saved
SCRIPT = """\
#!/bin/bash
# {name} on {devices}. A task that is preempted or reaches its time limit saves, ends with 75, and the job is queued
# again; after any failure but a wrong config (2) or a divergence (3) too, {restarts} times.
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={tasks}
#SBATCH --gpus-per-node={gpus}
#SBATCH --exclusive
#SBATCH --time={hours}:00:00
#SBATCH --signal=B:TERM@{signal}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={folder}/logs/job_%j.txt
{more}set -uo pipefail
cd {shared} || exit 1
{exports}
attempt=$((1 + ${{SLURM_RESTART_COUNT:-0}}))
logs={folder}/logs/attempt_$attempt
mkdir -p "$logs"
env | grep -E '^(JAX|XLA|LIBTPU|NCCL)_' | sort >"$logs/environment.txt" || true
stopped=no
{wait}
srun --kill-on-bad-exit=0 --output="$logs/process_%t.txt" {container}{python} {train} &
step=$!
trap 'stopped=yes; kill -TERM "$step"' TERM
ended "$step"
echo "attempt $attempt ended with $code: $logs"
case $code in 0 | 2 | 3) exit "$code" ;; esac
if [ -e {folder}/stop ] || [ "$attempt" -gt {restarts} ]; then exit "$code"; fi
scontrol requeue "$SLURM_JOB_ID"
"""


def render(job: Job) -> Rendered:
    """The batch script, and Slurm's own commands. Raises: ValueError for TPUs, and for options that are missing."""
    require(job, "slurm", "code")
    if job.devices.chip.platform != "gpu":
        raise ValueError(f"--target slurm is for GPUs, {job.devices.name} are TPUs: take tpu-vm, gke or skypilot")
    place, more = job.place, ""
    for name, value in (("partition", place.partition), ("account", place.account)):
        more += f"#SBATCH --{name}={value}\n" if value else ""
    container = ""
    if place.container:
        container = (
            f"--container-image={shlex.quote(place.container)} --container-mounts={place.shared}:{place.shared} "
        )
    gpus, folder = job.devices.group_devices, f"{place.shared}/launches/{job.name}"
    script = SCRIPT.format(
        name=job.name, devices=job.devices.name, nodes=job.devices.groups, tasks=gpus, gpus=gpus, hours=place.hours,
        signal=SIGNAL, folder=folder, more=more, shared=place.shared, exports=exports(job.environment), wait=WAIT,
        container=container, restarts=job.restarts,
        python="python3" if place.container else shlex.quote(f"{place.code}/.venv/bin/python"),
        train=train(job, f"{place.code}/{job.config}", place.all_runs),
    )  # fmt: skip
    return Rendered(
        files={"job.sbatch": script},
        start=(
            ("mkdir", "-p", f"{folder}/logs"),
            ("rm", "-f", f"{folder}/stop"),
            ("sbatch", f"{job.folder}/job.sbatch"),
        ),
        status=(("squeue", "--me", f"--name={job.name}"),),
        logs=(("bash", "-c", newest(folder, "process_0.txt")),),
        # A job that is cancelled is told to stop like one that is preempted: the file says that it is not to come back.
        stop=(("touch", f"{folder}/stop"), ("scancel", "--me", f"--name={job.name}")),
    )
