"""Cloud TPU VMs through queued resources: a script asks for them, starts every worker, and asks anew."""

import shlex

from jaxsrl.clusters.launch.job import Job, Rendered, exports, newest, require, train

RUNTIME = {"v5e": "v2-alpha-tpuv5-lite", "v5p": "v2-alpha-tpuv5", "v6e": "v2-alpha-tpuv6e"}
WORKER = """\
#!/usr/bin/env bash
# On every worker, by drive.sh: sets it up once, then trains. JAX finds the other workers in the TPU's metadata.
set -euo pipefail
if ! mountpoint -q {shared}; then
    sudo apt-get -q -y install nfs-common >/dev/null
    sudo mkdir -p {shared}
    sudo mount -t nfs -o rw,intr {nfs} {shared}
fi
code=$HOME/jaxsrl
if [ ! -e "$code/.ready" ] || ! cmp -s "$HOME/code.tar.gz" "$code/.ready"; then
    rm -rf "$code"
    mkdir -p "$code"
    tar -xzf "$HOME/code.tar.gz" -C "$code"
    # shellcheck source=/dev/null
    . "$code/launch/python.sh"
    if ! python=$(find_python 11); then # Ubuntu 22.04 of TPU VMs has 3.10
        sudo apt-get -q -y install python3.11 python3.11-venv >/dev/null
        python=python3.11
    fi
    "$python" -m venv "$code/.venv"
    "$code/.venv/bin/pip" install -q --require-hashes --only-binary :all: -r "$code/launch/requirements-tpu.txt"
    "$code/.venv/bin/pip" install -q --no-deps --no-build-isolation -e "$code"
    cp "$HOME/code.tar.gz" "$code/.ready"
fi
cd {shared}
{exports}
host=$(hostname)
attempt=1
while [ -e "{folder}/logs/attempt_$attempt/$host.txt" ]; do attempt=$((attempt + 1)); done
logs={folder}/logs/attempt_$attempt
mkdir -p "$logs"
env | grep -E '^(JAX|XLA|LIBTPU|TPU)_' | sort >"$logs/environment_$host.txt" || true
echo $$ >"$HOME/jaxsrl.pid"
exec "$code/.venv/bin/python" {train} >"$logs/$host.txt" 2>&1
"""
DRIVE = """\
#!/usr/bin/env bash
# {name} on {count} x {accelerator}: asks for the TPUs, waits, starts every worker, and asks anew where they are taken
# away. Give the same command at any time: it goes on with what is there.
# Ends with 0 done, 2 wrong config, 3 diverged, 75 told to stop and saved.
set -uo pipefail
zone=(--zone={zone} --project={project})
nodes=({node_names})
state() {{
    gcloud compute tpus queued-resources describe {name} "${{zone[@]}}" --format='value(state.state)' 2>/dev/null ||
        echo NONE
}}
create() {{
    gcloud compute tpus queued-resources create {name} "${{zone[@]}}" {nodes} --accelerator-type={accelerator} \\
        --runtime-version={runtime} --network={network}{spot}
}}
delete() {{ gcloud compute tpus queued-resources delete {name} "${{zone[@]}}" --force --quiet; }}
on() {{ # NODE COMMAND: on every worker of it
    gcloud compute tpus tpu-vm ssh "$1" "${{zone[@]}}" --worker=all --command="$2"
}}
wait_active() {{
    local now
    while :; do
        now=$(state)
        case $now in
            ACTIVE) return 0 ;;
            NONE) create || return 1 ;;
            FAILED | SUSPENDED) delete ;;
            *) echo "$(date +%T) {name}: $now" ;;
        esac
        sleep "${{POLL:-30}}"
    done
}}
one() {{ # NODE: its code is the file codes/NODE
    gcloud compute tpus tpu-vm scp {folder}/code.tar.gz {folder}/worker.sh "$1:" "${{zone[@]}}" --worker=all &&
        on "$1" 'bash worker.sh'
    echo $? >"{folder}/codes/$1"
}}

git archive --format=tar.gz --output={folder}/code.tar.gz HEAD || exit 1
mkdir -p {folder}/codes
for ((try = 0; try <= {restarts}; try++)); do
    wait_active || exit 1
    for node in "${{nodes[@]}}"; do one "$node" & done
    wait
    code=0
    for node in "${{nodes[@]}}"; do
        found=$(cat "{folder}/codes/$node")
        if [ "$found" != 0 ] && [ "$code" != 2 ] && [ "$code" != 3 ]; then code=$found; fi
    done
    if [ "$code" = 0 ]; then
        delete
        exit 0
    fi
    case $code in 2 | 3) exit "$code" ;; esac
    if [ "$code" = 75 ] && [ "$(state)" = ACTIVE ]; then exit 75; fi # told to stop by someone, not taken away
    echo "$(date +%T) {name}: ended with $code, the TPUs are $(state); going on"
    sleep "${{POLL:-30}}"
done
exit "$code"
"""


def nodes_of(job: Job) -> list[str]:
    """Names of the TPU VMs: one a slice."""
    return [job.name] if job.devices.groups == 1 else [f"{job.name}-{index}" for index in range(job.devices.groups)]


def render(job: Job) -> Rendered:
    """Scripts for here and for every worker. Raises: ValueError for GPUs, and for options that are missing."""
    require(job, "tpu-vm", "zone", "project", "nfs")
    devices, place = job.devices, job.place
    if devices.chip.platform != "tpu":
        raise ValueError(f"--target tpu-vm is for TPUs, {devices.name} are GPUs: take slurm, gke or skypilot")
    names, where = nodes_of(job), (f"--zone={place.zone}", f"--project={place.project}")
    nodes = f"--node-id={job.name}" if len(names) == 1 else f"--node-count={len(names)} --node-prefix={job.name}"
    folder = f"{place.shared}/launches/{job.name}"
    worker = WORKER.format(
        shared=shlex.quote(place.shared), nfs=shlex.quote(place.nfs), folder=folder, exports=exports(job.environment),
        train=train(job, "CONFIG", place.all_runs).replace("CONFIG", f'"$code"/{shlex.quote(job.config)}'),
    )  # fmt: skip
    drive = DRIVE.format(
        name=job.name, count=len(names), accelerator=devices.accelerator_type, zone=place.zone, project=place.project,
        nodes=nodes, runtime=RUNTIME[devices.chip.name], network=place.network, spot=" --spot" if place.spot else "",
        folder=shlex.quote(job.folder), restarts=job.restarts, node_names=" ".join(names),
    )  # fmt: skip
    ssh = lambda node, worker, command: (
        "gcloud", "compute", "tpus", "tpu-vm", "ssh", node, *where, f"--worker={worker}", f"--command={command}"
    )  # fmt: skip
    queued = ("gcloud", "compute", "tpus", "queued-resources")
    return Rendered(
        files={"worker.sh": worker, "drive.sh": drive},
        start=(("bash", f"{job.folder}/drive.sh"),),
        status=((*queued, "describe", job.name, *where, "--format=value(state.state)"),),
        logs=(ssh(names[0], "0", newest(folder, "$(hostname).txt")),),
        stop=(*(ssh(node, "all", 'kill -TERM "$(cat jaxsrl.pid)"; tail --pid="$(cat jaxsrl.pid)" -f /dev/null')
                for node in names),
              (*queued, "delete", job.name, *where, "--force", "--quiet")),
    )  # fmt: skip
