"""Rendered scripts at work: processes that fail, are told to stop or find one another; engines are played."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jaxsrl.clusters.hardware import hardware
from jaxsrl.clusters.launch import local, slurm, tpu_vm
from jaxsrl.clusters.launch.job import Job, Place
from jaxsrl.metrics import read
from tests.listening import below, listening, on_loopback

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "launch" / "one_step.py"
PATIENCE = 900  # seconds that something may take on a machine that does other things too


def tool(folder: Path, name: str, body: str) -> Path:
    """An executable of that name."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def job(folder: Path, **changes) -> Job:
    made = Job(
        name="played", config="config.py", arguments=(), devices=None, folder=str(folder), environment={},
        python=str(folder / "python"), restarts=2,
    )  # fmt: skip
    return replace(made, **changes)


def begin(script: str, path: Path, **variables: str) -> subprocess.Popen:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    return subprocess.Popen(
        ["bash", str(path)], env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(process: subprocess.Popen) -> tuple[int, str]:
    said, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, said


# Each call takes the next code of a list; a process is told apart by its number.
PLAYED = 'n=$(cat {0}/n 2>/dev/null || echo 0); echo $((n + 1)) >{0}/n; codes=({1}); exit "${{codes[$n]}}"'


@pytest.mark.parametrize("codes, code, attempts", [
    ("0", 0, 1), ("2", 2, 1), ("3", 3, 1), ("75", 75, 1), ("1 0", 0, 2), ("134 137 0", 0, 3), ("1 1 1", 1, 3),
    ("1 2", 2, 2),
])  # fmt: skip
def test_a_process_that_fails_is_started_again(codes, code, attempts, tmp_path):
    tool(tmp_path, "python", PLAYED.format(tmp_path, codes))
    tool(tmp_path / "bin", "sleep", "exit 0")
    script = local.render(job(tmp_path)).files["run.sh"]
    found, said = ended(begin(script, tmp_path / "run.sh", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}"))
    assert (found, said.count("ended with")) == (code, attempts), said
    assert len(list((tmp_path / "logs").iterdir())) == attempts and not (tmp_path / "pid").exists()


def test_of_several_processes_the_worst_counts(tmp_path):
    tool(tmp_path, "python", 'case $JAX_PROCESS_ID in 0) exit 75 ;; 1) exit "$CODE" ;; esac; exit "$OTHER"')
    script = local.render(job(tmp_path, processes=3, restarts=0)).files["run.sh"]
    for code, other, expected in (
        ("75", "0", 75),
        ("2", "9", 2),
        ("2", "3", 2),
        ("3", "9", 3),
        ("9", "0", 9),
        ("0", "0", 75),
    ):
        assert ended(begin(script, tmp_path / "run.sh", CODE=code, OTHER=other))[0] == expected


def test_logs_wait_for_the_first_attempt(tmp_path):
    """A job that is queued has none yet; of two, the newest is followed."""
    logs = tmp_path / "logs"
    tool(
        tmp_path / "bin", "sleep", f"mkdir -p {logs}/attempt_1 {logs}/attempt_2; touch -d '1 day ago' {logs}/attempt_1"
    )
    tool(tmp_path / "bin", "tail", "printf '%s\\n' \"$*\"")
    ((*command, text),) = local.render(job(tmp_path)).logs
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        [*command, text], env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout.splitlines() == ["no attempt yet", f"-n 50 -F {logs}/attempt_2/process_0.txt"], done


def test_told_to_stop_it_waits_for_what_is_saved(tmp_path):
    """The script is told; its process takes a while, ends with 75, and is not started again."""
    tool(tmp_path, "python", f"trap 'sleep 1; exit 75' TERM; touch {tmp_path}/up; while :; do sleep 0.1; done")
    process = begin(local.render(job(tmp_path)).files["run.sh"], tmp_path / "run.sh")
    wait_for(lambda: (tmp_path / "up").exists())
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    code, said = ended(process)
    assert code == 75 and said.count("attempt 1 ended with 75") == 1


def wait_for(what) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


# A Slurm of one machine: `srun` starts two tasks with the variables that a task finds.
SRUN = """
out=; while [ "${1#-}" != "$1" ]; do case $1 in --output=*) out=${1#--output=} ;; esac; shift; done
pids=(); trap 'kill -TERM "${pids[@]}"' TERM
for i in 0 1; do
    SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2 SLURM_PROCID=$i SLURM_LOCALID=$i SLURM_STEP_NUM_NODES=1 \\
        "$@" >"${out//%t/$i}" 2>&1 & pids+=($!)
done
code=0; for pid in "${pids[@]}"; do wait "$pid"; one=$?
while [ $one -gt 128 ] && kill -0 "$pid" 2>/dev/null; do wait "$pid"; one=$?; done
[ $one = 0 ] || code=$one; done; exit $code
"""


def slurm_job(tmp_path: Path) -> Job:
    place = Place(shared=str(tmp_path), code=str(ROOT))
    return job(tmp_path, name="many", devices=hardware("2xh200"), place=place, config="tests/launch/one_step.py")


@pytest.mark.parametrize("code, asked", [("0", False), ("2", False), ("3", False), ("75", True), ("1", True)])
def test_slurm_queues_again_what_was_cut_off(code, asked, tmp_path):
    tool(tmp_path / "bin", "srun", f"exit {code}")
    tool(tmp_path / "bin", "scontrol", f'echo "$@" >{tmp_path}/asked')
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    script = slurm.render(slurm_job(tmp_path)).files["job.sbatch"]
    found, _ = ended(begin(script, tmp_path / "job.sbatch", PATH=path, SLURM_JOB_ID="7"))
    assert (tmp_path / "asked").exists() == asked and (asked or str(found) == code)
    assert not asked or (tmp_path / "asked").read_text() == "requeue 7\n"
    (tmp_path / "asked").unlink(missing_ok=True)
    (tmp_path / "launches" / "many" / "stop").touch()  # what `--verb stop` leaves
    assert ended(begin(script, tmp_path / "job.sbatch", PATH=path, SLURM_JOB_ID="7"))[0] == int(code)
    ended(begin(script, tmp_path / "job.sbatch", PATH=path, SLURM_JOB_ID="7", SLURM_RESTART_COUNT="2"))
    assert not (tmp_path / "asked").exists()


CPU = {
    "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Programs that the runs below compile once."""
    return {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("programs"))}


def test_real_processes_under_slurm_take_a_step(tmp_path, cache):
    """The batch script starts two tasks that find one another by Slurm's variables alone."""
    tool(tmp_path / "bin", "srun", SRUN)
    script = slurm.render(slurm_job(tmp_path)).files["job.sbatch"].replace(f"{ROOT}/.venv/bin/python", sys.executable)
    variables = CPU | cache | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SLURM_JOB_ID": str(free_port())}
    code, said = ended(begin(script, tmp_path / "job.sbatch", PYTHONPATH=str(ROOT), **variables))
    logs = tmp_path / "launches" / "many" / "logs" / "attempt_1"
    assert code == 0, said + "".join(path.read_text() for path in logs.glob("process_*.txt"))
    took_a_step(tmp_path / "runs")
    assert "JAX_NUM_CPU_DEVICES=1" in (logs / "environment.txt").read_text()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
@pytest.mark.parametrize("count, more", [(2, ()), (1, ("--trace", "1:1"))])
def test_real_processes_on_one_machine_take_a_step(count, more, tmp_path, cache):
    """`--target local --processes 2`, with the variables that a JobSet gives its pods; all listen on loopback alone.

    Of two the first waits for the other, and both for each other's numbers. One listens nowhere, profiled or not.
    """
    devices = {"JAX_NUM_CPU_DEVICES": str(2 // count)}
    made = job(tmp_path, config=str(CONFIG), processes=count, python=sys.executable, restarts=0,
               environment=CPU | devices | cache, arguments=("--runs", str(tmp_path / "runs"), *more))  # fmt: skip
    script = begin(local.render(made).files["run.sh"], tmp_path / "run.sh", PYTHONPATH=str(ROOT))
    seen = set()
    while script.poll() is None:
        seen |= listening(below(script.pid))
        time.sleep(0.1)
    code, said = ended(script)
    words = [path.read_text() for path in sorted((tmp_path / "logs" / "attempt_1").glob("process_*.txt"))]
    assert code == 0, said + "".join(words)
    took_a_step(tmp_path / "runs", count)
    assert all(on_loopback(address) for address, _ in seen) and len(seen) == (3 if count == 2 else 0), seen
    ports = [port for _, port in seen if f"listening for the other processes on 127.0.0.1:{port}\n" in words[0]]
    assert len(ports) == count - 1 and "listening" not in "".join(words[1:])


def test_real_processes_under_a_tpu_s_variables_take_a_step(tmp_path, cache):
    """Two workers as GKE tells them who the others are. JAX looks for the TPU itself too, which is played here."""
    tool(tmp_path, "seen.py", "")
    (tmp_path / "seen.py").write_text(
        "import sys\nfrom jax._src.clusters import cloud_tpu_cluster\n"
        "cloud_tpu_cluster.running_in_cloud_tpu_vm = True\n"
        f"cloud_tpu_cluster.coordinator_port = '{free_port()}'\n"
        "from jaxsrl.__main__ import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["train", str(CONFIG), "--runs", str(tmp_path / "runs")]
    processes = []
    for index in range(2):
        given = {"TPU_WORKER_ID": str(index), "TPU_WORKER_HOSTNAMES": "localhost,localhost", "TPU_SKIP_MDS_QUERY": "1"}
        given |= {"MEGASCALE_NUM_SLICES": "1", "MEGASCALE_SLICE_ID": "0", "MEGASCALE_COORDINATOR_ADDRESS": "localhost"}
        command = [sys.executable, str(tmp_path / "seen.py"), *arguments]
        environment = os.environ | CPU | cache | given | {"PYTHONPATH": str(ROOT)}
        processes.append(subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ))  # fmt: skip
    found = [ended(process) for process in processes]
    assert [code for code, _ in found] == [0, 0], found
    took_a_step(tmp_path / "runs")


def took_a_step(runs: Path, processes: int = 2) -> None:
    lines = [x for x in read(runs / "many" / "metrics.jsonl") if x["kind"] == "train"]
    assert [(x["stage"], x["step"]) for x in lines] == [("sft", 1)]
    assert f'"processes": {processes}' in (runs / "many" / "environment.json").read_text()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


# A Google Cloud of files: `describe` takes a line of `states`, an empty one is nothing there; `ssh` plays a worker.
GCLOUD = """
echo "$*" >>{0}/asked
case "$*" in
    *describe*) state=$(head -n 1 {0}/states); sed -i 1d {0}/states; [ -n "$state" ] && echo "$state" ;;
    *ssh*) n=$(cat {0}/n 2>/dev/null || echo 0); echo $((n + 1)) >{0}/n; codes=({1}); exit "${{codes[$n]}}" ;;
esac
"""


def test_tpus_that_are_taken_away_are_asked_for_again(tmp_path):
    """Not there, waiting, active; the workers are cut off and the TPUs suspended; deleted, made anew, done."""
    states = ["", "WAITING_FOR_RESOURCES", "ACTIVE", "SUSPENDED", "SUSPENDED", "", "ACTIVE"]
    (tmp_path / "states").write_text("\n".join(states) + "\n")
    tool(tmp_path / "bin", "gcloud", GCLOUD.format(tmp_path, "255 0"))
    tool(tmp_path / "bin", "git", "exit 0")
    place = Place(zone="z", project="p", nfs="h:/s", spot=True)
    made = job(tmp_path, devices=hardware("v5e-16"), place=place)
    code, said = ended(begin(
        tpu_vm.render(made).files["drive.sh"], tmp_path / "drive.sh", POLL="0",
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    ))  # fmt: skip
    asked = (tmp_path / "asked").read_text()
    assert code == 0, said + asked
    assert asked.count("queued-resources create") == 2 and asked.count("--spot") == 2
    assert asked.count("bash worker.sh") == 2 and asked.count("queued-resources delete") == 2
