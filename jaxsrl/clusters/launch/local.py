"""On this machine: a script that starts the processes, keeps their logs, and starts them again when they fail."""

import shlex

from jaxsrl.clusters.launch.job import WAIT, WORST, Job, Rendered, exports, newest, train

SCRIPT = """\
#!/usr/bin/env bash
# {name} on this machine, {processes} process(es). Start it again after any stop: the run goes on from its checkpoint.
# Ends with 0 done, 2 wrong config, 3 diverged, 75 told to stop and saved; anything else is started again, {restarts}
# times.
set -uo pipefail
logs={folder}/logs
mkdir -p "$logs"
{exports}
count={processes}
stopped=no
pids=()
trap 'stopped=yes; kill -TERM "${{pids[@]}}" 2>/dev/null' TERM INT
{worst}
{wait}
start() {{ # ATTEMPT
    local port=$((20000 + RANDOM % 12000)) i
    pids=()
    for ((i = 0; i < count; i++)); do
        if [ "$count" -gt 1 ]; then # a GPU each; nothing listens beyond this machine
            export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port JAX_LOCAL_DEVICE_IDS=$i
            export NCCL_SOCKET_IFNAME=${{NCCL_SOCKET_IFNAME-lo}}
        fi
        export JAX_NUM_PROCESSES=$count JAX_PROCESS_ID=$i
        {python} {train} >"$logs/attempt_$1/process_$i.txt" 2>&1 &
        pids+=($!)
    done
}}

echo $$ >{folder}/pid
for ((try = 0; try <= {restarts}; try++)); do
    attempt=1
    while [ -e "$logs/attempt_$attempt" ]; do attempt=$((attempt + 1)); done
    mkdir "$logs/attempt_$attempt"
    env | grep -E '^(JAX|XLA|LIBTPU|NCCL|TPU)_' | sort >"$logs/attempt_$attempt/environment.txt" || true
    echo "attempt $attempt: $logs/attempt_$attempt/process_0.txt"
    start "$attempt"
    codes=()
    for pid in "${{pids[@]}}"; do
        ended "$pid"
        codes+=("$code")
    done
    code=$(worst "${{codes[@]}}")
    echo "attempt $attempt ended with ${{codes[*]}}"
    case $code in 0 | 2 | 3 | 75) break ;; esac
    if [ "$stopped" = yes ]; then break; fi
    sleep $((try < 6 ? 1 << try : 60)) &
    pids=($!)
    wait "${{pids[0]}}"
done
rm -f {folder}/pid
exit "$code"
"""


def render(job: Job) -> Rendered:
    """One script; `stop` asks all processes to save and end."""
    folder = shlex.quote(job.folder)
    script = SCRIPT.format(
        name=job.name, processes=job.processes, restarts=job.restarts, folder=folder, exports=exports(job.environment),
        worst=WORST, wait=WAIT, python=shlex.quote(job.python), train=train(job, job.config, job.place.runs),
    )  # fmt: skip
    return Rendered(
        files={"run.sh": script},
        start=(("bash", f"{job.folder}/run.sh"),),
        status=(("bash", "-c", f'if [ -e {folder}/pid ]; then echo running; else echo "not running"; fi'),),
        logs=(("bash", "-c", newest(folder, "process_0.txt")),),
        stop=(("bash", "-c", f'kill -TERM "$(cat {folder}/pid)"'),),
    )
