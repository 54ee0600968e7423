"""Several processes are one run: real processes on loopback, which are stopped, killed, and resumed by another number.

One run goes through it all: begun by one process of 8 devices, resumed by two of 4 on another mesh until one of them is
sent SIGTERM, resumed by two until one of them is killed, and compared with one that nothing happened to. Most of its
time is the start of processes and compilation.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jax._src.clusters import ClusterEnv

from jaxsrl.__main__ import main
from jaxsrl.checkpoint import Checkpoints, state_hash
from jaxsrl.clusters.start import Processes, from_environment, joined
from jaxsrl.commands.doctor import run_state
from jaxsrl.config.overrides import load, override
from jaxsrl.metrics import read
from jaxsrl.models.transformer import init_params
from jaxsrl.processes import Stopped, anywhere, fetch, from_first, gather
from jaxsrl.sharding import Layout, make_mesh, place_state
from jaxsrl.train import StageLoop, train
from jaxsrl.update import AdamW, init_state, optimizer

HERE = Path(__file__).parent
CONFIG = HERE / "process_config.py"
PATIENCE = 280  # seconds that a launch may take on a machine that does other things too
HEARTBEAT = 10


class Launch:
    """Two processes of four devices each, of one run."""

    def __init__(self, runs: Path, cache: Path, *arguments: str):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        settings = {
            "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4", "JAX_NUMPY_RANK_PROMOTION": "raise",
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2",
            "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", "PYTHONPATH": str(HERE.parent),
        }  # fmt: skip
        command = [sys.executable, "-m", "jaxsrl", "train", str(CONFIG), "--runs", str(runs), *arguments]
        self.metrics, self.end = runs / "many" / "metrics.jsonl", time.monotonic() + PATIENCE
        self.said = [runs / f"said_{port}_{index}" for index in range(2)]
        self.processes = []
        for index, path in enumerate(self.said):
            environment = os.environ | settings | {"JAX_PROCESS_ID": str(index)}
            with path.open("w") as out:
                self.processes.append(subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT))

    def wait_for(self, stage: str, step: int) -> None:
        """Returns when that step is in the metrics."""
        while not any((x["stage"], x["step"]) == (stage, step) for x in read(self.metrics)):
            assert self.processes[0].poll() is None, self.words(0)
            assert time.monotonic() < self.end, self.words(0)
            time.sleep(0.1)

    def codes(self) -> list[int]:
        return [p.wait(max(self.end - time.monotonic(), 1)) for p in self.processes]

    def words(self, index: int) -> str:
        """What a process has printed, without what libraries print in native code."""
        lines = self.said[index].read_text().splitlines()
        return "\n".join(x for x in lines if not re.match(r"\[Gloo\]|[WIE]\d{4} ", x))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture(scope="module")
def alone(shared_programs, tmp_path_factory):
    config = override(load(CONFIG), ["stages.rlvr.steps=0"])
    return train(replace(config, runs=str(tmp_path_factory.mktemp("alone")), mesh=Layout(fsdp=8)))


def lines(folder: Path) -> list[dict]:
    return [x for x in read(folder / "metrics.jsonl") if x["kind"] == "train"]


def test_a_run_of_many_processes(alone, tmp_path, tmp_path_factory):
    config, cache = replace(load(CONFIG), runs=str(tmp_path)), tmp_path_factory.mktemp("programs")
    folder = tmp_path / "many"
    with pytest.raises(Stopped, match="stopped at step 1"):
        train(replace(config, mesh=Layout(fsdp=8)), lambda: bool(lines(folder)))

    with Launch(tmp_path, cache) as two:
        two.wait_for("sft", 3)
        two.processes[1].send_signal(signal.SIGTERM)
        assert two.codes() == [75, 75], two.words(0) + two.words(1)
    step = int(re.search(r"stopped at step (\d+)", two.words(0))[1])
    assert "resuming" in two.words(0) and "stage sft, step 1" in two.words(0)
    assert two.words(1) == ""  # the first one alone prints
    assert 3 <= step < 6 and [x["step"] for x in lines(folder)] == list(range(1, step + 1))

    with Launch(tmp_path, cache, "--heartbeat", str(HEARTBEAT)) as two:
        two.wait_for("srl", 2)
        while "[srl] done" not in two.words(0):  # all is saved
            assert time.monotonic() < two.end, two.words(0)
            time.sleep(0.1)
        two.processes[1].kill()
        assert two.codes()[0] not in (0, 75)  # it ends
    assert f"stage sft, step {step}" in two.words(0)
    assert re.search("lost another one|heartbeat|unhealthy|stopped sending", two.said[0].read_text()), two.words(0)
    said = dict(line.split(": ", 1) for line in run_state(folder).splitlines())  # read by one process, to one device
    assert f"[srl] done: state {said['state']}" in two.words(0) and (said["stage"], said["step"]) == ("srl", "2")

    ours, theirs = lines(folder), lines(alone)
    until = next(i for i, x in enumerate(theirs) if (x["stage"], x["step"]) == ("srl", 2)) + 1
    assert [list(x) for x in ours[:until]] == [list(x) for x in theirs[:until]]
    for one, many in zip(theirs[:until], ours[:until], strict=True):
        for name, value in one.items():
            same = pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value
            assert many[name] == same, (one["stage"], one["step"], name)
    name = Path("rollouts") / "srl.jsonl"
    assert (folder / name).read_bytes() == (alone / name).read_bytes()  # tokens and rewards


def test_a_single_process_stops_with_the_same_code(shared_programs, tmp_path, monkeypatch, capsys):
    """And goes on after that step, to the file of a run that nothing happened to."""

    def show(self, line):
        if (line["stage"], line["step"]) == ("sft", 3) and not attempts[1:]:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, line)

    real, attempts = StageLoop.show, [1]
    monkeypatch.setattr(StageLoop, "show", show)
    settings = ("mesh.data=1", "mesh.fsdp=8", "stages.srl.steps=0", "stages.rlvr.steps=0")
    command = ["train", str(CONFIG), *(word for setting in settings for word in ("--set", setting))]
    before = signal.getsignal(signal.SIGTERM)
    assert main([*command, "--runs", str(tmp_path / "stopped")]) == 75
    assert "[sft] stopped at step 3" in capsys.readouterr().err
    attempts.append(2)
    for name in ("stopped", "whole"):
        assert main([*command, "--runs", str(tmp_path / name)]) == 0
    assert "at stage sft, step 3" in (tmp_path / "stopped" / "many" / "logs" / "attempt_2" / "log.txt").read_text()
    stopped, whole = ((tmp_path / name / "many" / "metrics.jsonl").read_bytes() for name in ("stopped", "whole"))
    assert stopped == whole
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_wrong_config_fails_before_anyone_is_waited_for(monkeypatch, capsys):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    assert main(["train", str(CONFIG), "--set", "mesh.fsbp=2"]) == 2
    assert "mesh.fsdp" in capsys.readouterr().err
    assert main(["train", str(CONFIG)]) == 2
    assert "JAX_PROCESS_ID are given together" in capsys.readouterr().err
    assert not jax.distributed.is_initialized()


def test_who_is_there_is_read_from_the_environment():
    given = {"JAX_COORDINATOR_ADDRESS": "one:8476", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert from_environment(9, given) == Processes(coordinator="one:8476", count=4, index=3, heartbeat=9)
    assert not from_environment(9, {}).alone  # JAX looks whether there is a cluster
    assert from_environment(9, {"JAX_NUM_PROCESSES": "1"}).alone
    assert from_environment(9, {"SLURM_NTASKS": "1"}).alone and not from_environment(9, {"SLURM_NTASKS": "2"}).alone
    with pytest.raises(ValueError, match="JAX_PROCESS_ID must be a number, got 'x'"):
        from_environment(9, given | {"JAX_PROCESS_ID": "x"})
    with pytest.raises(ValueError, match="JAX_PROCESS_ID must be in"):
        from_environment(9, given | {"JAX_PROCESS_ID": "4"})
    with pytest.raises(ValueError, match="heartbeat and patience must be >= 1 s"):
        from_environment(0, given)


def test_no_cluster_is_no_wait(monkeypatch):
    """JAX's own detection, on a machine that is none: over at once, and nothing is started."""
    for name in list(os.environ):
        if name.startswith(("JAX_COORDINATOR", "JAX_NUM_PROCESSES", "JAX_PROCESS", "SLURM_", "OMPI_", "KUBERNETES_")):
            monkeypatch.delenv(name)
    detect = ClusterEnv.auto_detect_unset_distributed_params
    assert detect(None, None, None, None, None, 300) == (None, None, None, None)
    started = time.monotonic()
    with joined(Processes(count=1)):
        assert time.monotonic() - started < 1 and not jax.distributed.is_initialized()


def test_what_slurm_says_is_found(monkeypatch):
    for name, value in (
        ("JOB_ID", "7"), ("STEP_NODELIST", "node[3-5]"), ("NTASKS", "3"), ("PROCID", "2"), ("LOCALID", "0"),
        ("STEP_NUM_NODES", "3"),
    ):  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert not from_environment(60).alone
    address, count, index, _ = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, 300)
    assert address.startswith("node3:") and (count, index) == (3, 2)


def test_one_process_talks_to_itself():
    value = {"a": [1, None, "\ud800"]}
    assert gather(value) == [value] and from_first(lambda: value) is value
    assert anywhere(True) and not anywhere(False)
    np.testing.assert_array_equal(fetch([np.arange(3)])[0], [0, 1, 2])


def test_a_state_is_the_same_on_every_topology(tmp_path):
    """Saved on 8x1 and restored on 2x4, saved there and restored on one device: one hash, each where it belongs."""
    model = replace(load(CONFIG).model, heads=2, kv_heads=2, head_width=8)
    params = init_params(model, jax.random.key(0))
    state = init_state(params, optimizer(AdamW(), 9), jax.random.key(1))
    layouts = (Layout(fsdp=8), Layout(data=2, fsdp=4), Layout())
    placed = [place_state(make_mesh(layout), state) for layout in layouts]
    kept = Checkpoints(tmp_path)
    for count, (old, new) in enumerate(zip(placed, placed[1:], strict=False), start=1):
        kept.save(count, old, {})
        kept.wait()
        empty = jax.tree.map(lambda x: x if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x * 0, new)
        found = kept.restore(count, empty)
        assert state_hash(found) == state_hash(state) != state_hash(empty)
        assert found.params["embedding"].sharding.is_equivalent_to(new.params["embedding"].sharding, 2)
    kept.close()
