"""SkyPilot: a managed job, which is started again elsewhere when a spot machine is taken away."""

import json
import shlex

from jaxsrl.clusters.launch.job import PORT, Job, Rendered, require, train
from jaxsrl.clusters.launch.tpu_vm import RUNTIME

TASK = """\
# {name} on {devices}: sky jobs launch FILE. The same file goes on after any stop.
name: {name}
num_nodes: {nodes}
workdir: .
resources:
  accelerators: {accelerators}
  use_spot: {spot}
{more}  job_recovery:
    strategy: EAGER_NEXT_REGION
    max_restarts_on_errors: {restarts}
volumes:
  {shared}: {volume}
envs:
{environment}
setup: |
  set -e
  python3 -m venv .venv
  .venv/bin/pip install -q --require-hashes --only-binary :all: -r launch/requirements-{extra}.txt
  .venv/bin/pip install -q --no-deps --no-build-isolation -e .
run: |
  code=$PWD
  cd {shared}
{processes}  logs={shared}/launches/{name}/logs
  mkdir -p "$logs"
  log=$logs/$(date +%Y%m%d_%H%M%S)_$SKYPILOT_NODE_RANK.txt
  env | grep -E '^(JAX|XLA|LIBTPU|NCCL|TPU)_' | sort > "$log.environment" || true
  set -o pipefail
  "$code"/.venv/bin/python {train} 2>&1 | tee "$log"
"""
# Nodes of GPUs; workers of a TPU find one another by its metadata.
PROCESSES = f"""\
  export JAX_COORDINATOR_ADDRESS=$(echo "$SKYPILOT_NODE_IPS" | head -n 1):{PORT}
  export JAX_NUM_PROCESSES=$SKYPILOT_NUM_NODES JAX_PROCESS_ID=$SKYPILOT_NODE_RANK
"""


def render(job: Job) -> Rendered:
    """Raises: ValueError for several slices of TPUs, and for options that are missing."""
    require(job, "skypilot", "volume")
    devices, place = job.devices, job.place
    tpu = devices.chip.platform == "tpu"
    if tpu and devices.groups > 1:
        raise ValueError(
            f"SkyPilot starts one slice at a time, {devices.name} are {devices.groups}: take tpu-vm or gke"
        )
    more = f"  accelerator_args:\n    runtime_version: {RUNTIME[devices.chip.name]}\n" if tpu else ""
    if place.zone:
        more += f"  zone: {place.zone}\n"
    accelerators = f"tpu-{devices.accelerator_type}" if tpu else devices.accelerator_type.upper()
    text = TASK.format(
        name=job.name, devices=devices.name, nodes=1 if tpu else devices.groups, accelerators=accelerators,
        spot=str(place.spot).lower(), more=more, restarts=job.restarts, shared=place.shared, volume=place.volume,
        environment="\n".join(f"  {name}: {json.dumps(value)}" for name, value in sorted(job.environment.items())),
        extra=devices.chip.platform, processes="" if tpu else PROCESSES,
        train=train(job, "CONFIG", place.all_runs).replace("CONFIG", f'"$code"/{shlex.quote(job.config)}'),
    )  # fmt: skip
    return Rendered(
        files={"task.yaml": text},
        start=(("sky", "jobs", "launch", "--yes", "--name", job.name, f"{job.folder}/task.yaml"),),
        status=(("sky", "jobs", "queue"),),
        logs=(("sky", "jobs", "logs", "--name", job.name),),
        stop=(("sky", "jobs", "cancel", "--yes", "--name", job.name),),
    )
