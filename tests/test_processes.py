"""Several processes are one run: real processes on loopback, which are stopped, killed, and resumed by another number.

One run goes through it all: begun by one process of 8 devices, resumed by two of 4 on another mesh until one of them is
sent SIGTERM, resumed by two until one of them is killed, ended by one alone, and compared with one that nothing
happened to. Most of its time is the start of processes and compilation.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from jax._src.clusters import ClusterEnv

from jaxsrl.__main__ import main
from jaxsrl.checkpoint import Checkpoints, state_hash
from jaxsrl.clusters import start
from jaxsrl.clusters.collectives import collectives
from jaxsrl.clusters.start import Processes, from_environment, joined
from jaxsrl.collect.collect import whole_step
from jaxsrl.commands.doctor import run_state
from jaxsrl.config import Survive
from jaxsrl.config.overrides import load, override
from jaxsrl.exit_codes import FAILED, HUNG
from jaxsrl.metrics import read, read_rollouts, rollout_files
from jaxsrl.models.transformer import init_params
from jaxsrl.policy import Compiled, sampling_params
from jaxsrl.processes import Stopped, any_process, broadcast_from_first, fetch, gather
from jaxsrl.runs import open_run
from jaxsrl.sharding import MeshShape, make_mesh, place_state, rows_sharding, whole_sharding
from jaxsrl.stages.begin import prepare
from jaxsrl.stages.parts import make_parts
from jaxsrl.train import limits as watch_limits
from jaxsrl.update import AdamW, init_state, optimizer
from jaxsrl.watchdog import latest
from tests.sharing import train

HERE = Path(__file__).parent
CONFIG = HERE / "process_config.py"
PATIENCE = 280  # seconds that a launch may take on a machine that does other things too
HEARTBEAT = 10


class Launch:
    """Two processes of four devices each, of one run."""

    def __init__(self, runs: Path, cache: Path, *arguments: str, config: Path = CONFIG):
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        settings = {
            "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "4", "JAX_NUMPY_RANK_PROMOTION": "raise",
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2",
            "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", "PYTHONPATH": str(HERE.parent),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        }  # fmt: skip
        train = ["train", str(config), "--runs", str(runs), *arguments]
        self.metrics, self.end = runs / "many" / "metrics.jsonl", time.monotonic() + PATIENCE
        self.said = [runs / f"said_{port}_{index}" for index in range(2)]
        self.heard = [runs / f"heard_{port}_{index}" for index in range(2)]
        self.processes = []
        for index, path in enumerate(self.said):
            command = [sys.executable, "-m", "tests.heard", str(self.heard[index]), *train]
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
        """What Python has printed in a process, without the log of libraries, which start each line with a mark.

        What their native code prints, when they connect late, is in `said` and no promise of ours.
        """
        path = self.heard[index].with_name(f"{self.heard[index].name}.said")
        lines = path.read_text().splitlines() if path.exists() else []
        return "\n".join(x for x in lines if not re.match(r"[WIE]\d{4} ", x))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train(
        replace(
            override(load(CONFIG), ["stages.rlvr.steps=0"]),
            runs=str(tmp_path_factory.mktemp("alone")),
            mesh=MeshShape(fsdp=8),
        )
    )


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Where processes find what others have compiled."""
    return tmp_path_factory.mktemp("programs")


def lines(folder: Path) -> list[dict]:
    return [x for x in read(folder / "metrics.jsonl") if x["kind"] == "train"]


def evaluated(folder: Path, stage: str) -> dict:
    lines = [x for x in read(folder / "metrics.jsonl") if x["kind"] == "eval" and x["split"] == "test"]
    (line,) = (x for x in lines if x["stage"] == stage)
    return {name: value for name, value in line.items() if isinstance(value, float | int)}


def of_test(folder: Path, name: str) -> list[dict]:
    return [x for x in read(folder / "evals" / name) if x["split"] == "test"]


def alike(records: list[dict]) -> list[str]:
    return sorted(json.dumps({k: v for k, v in x.items() if k not in ("nats", "values")}) for x in records)


def nats(records: list[dict]) -> dict[str, list[float]]:
    """Of a probe that scores: its numbers are those of another order of sums."""
    return {x["problem"]: x["nats"] for x in records if "nats" in x}


def check_messages(heard: list[dict]) -> None:
    """From the first step on text crosses where a stage begins, of shapes and policies, and nowhere else.

    Rewards and means cross as numbers, 8 bytes each in words of 4; flags say whether to stop.
    """
    first = next(i for i, x in enumerate(heard) if "optimizer_step" in x["from"])
    assert any(x["dtype"] == "uint8" for x in heard[:first])  # control: text is seen
    text = [x for x in heard[first:] if x["dtype"] == "uint8"]
    assert all(
        {"make_parts"} <= set(x["from"]) and {"stage_shapes", "start_name", "restore_policy"} & set(x["from"])
        for x in text
    )
    of_steps = [x for x in heard if "optimizer_step" in x["from"]]
    why = {
        next(name for name in x["from"] if name in ("any_process", "from_all", "fetch")): x["dtype"] for x in of_steps
    }
    assert why == {"any_process": "int32", "from_all": "uint32"}
    assert {name for x in of_steps for name in x["from"]} >= {"rewards_of", "means_of"}


def test_a_run_of_many_processes(alone, tmp_path, programs):
    config = replace(load(CONFIG), runs=str(tmp_path))
    folder = tmp_path / "many"
    with pytest.raises(Stopped, match="stopped at step 1"):
        train(replace(config, mesh=MeshShape(fsdp=8)), lambda: bool(lines(folder)))

    with Launch(tmp_path, programs) as two:
        two.wait_for("sft", 3)
        two.processes[1].send_signal(signal.SIGTERM)
        assert two.codes() == [75, 75], two.words(0) + two.words(1)
    step = int(re.search(r"stopped at step (\d+)", two.words(0))[1])
    assert "resuming" in two.words(0) and "stage sft, step 1" in two.words(0)
    assert two.words(1) == ""  # the first one alone prints
    assert 3 <= step < 6 and [x["step"] for x in lines(folder)] == list(range(1, step + 1))

    with Launch(tmp_path, programs, "--heartbeat", str(HEARTBEAT)) as two:
        two.wait_for("srl", 2)
        while "[srl] done" not in two.words(0):  # all is saved
            assert time.monotonic() < two.end, two.words(0)
            time.sleep(0.1)
        two.processes[1].kill()
        assert two.codes()[0] not in (0, 75)  # it ends
    assert f"stage sft, step {step}" in two.words(0)
    assert re.search("lost another one|heartbeat|unhealthy|stopped sending", two.words(0) + two.said[0].read_text()), (
        two.words(0)
    )
    said = dict(line.split(": ", 1) for line in run_state(folder).splitlines())  # read by one process, to one device
    assert f"[srl] done: state {said['state']}" in two.words(0) and (said["stage"], said["step"]) == ("srl", "2")
    for heard in two.heard:
        check_messages(read(heard))

    ours, theirs = lines(folder), lines(alone)
    until = next(i for i, x in enumerate(theirs) if (x["stage"], x["step"]) == ("srl", 2)) + 1
    assert [list(x) for x in ours[:until]] == [list(x) for x in theirs[:until]]
    for one, many in zip(theirs[:until], ours[:until], strict=True):
        for name, value in one.items():
            same = pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value
            assert many[name] == same, (one["stage"], one["step"], name)
    for stage, count in (("sft", 1), ("srl", 2)):  # problems; the second process has none of one, and half of two
        parts = [of_test(folder, name) for name in (f"{stage}.jsonl", f"{stage}.1.jsonl")]
        asked = [{x["problem"] for x in part} for part in parts]
        assert [len(some) for some in asked] == [1, count - 1] and not asked[0] & asked[1]
        assert alike(of_test(alone, f"{stage}.jsonl")) == alike(sum(parts, []))
        want, got = nats(of_test(alone, f"{stage}.jsonl")), nats(sum(parts, []))
        assert len(want) == count and want.keys() == got.keys()
        assert all(got[problem] == pytest.approx(want[problem], rel=1e-5) for problem in want)
        one, many = (evaluated(where, stage) for where in (alone, folder))
        assert one == pytest.approx(many, rel=1e-5, abs=1e-6)
        assert {"direct/pass@2", "chained/sampled_words_mean", "information_gain/gain_nats"} <= set(one)
    shares = [read(path) for path in rollout_files(folder, "srl")]
    assert [path.name for path in rollout_files(folder, "srl")] == ["srl.1.jsonl", "srl.jsonl"] and all(shares)
    assert read_rollouts(folder, "srl") == read_rollouts(alone, "srl")  # tokens and rewards
    assert sum(map(len, shares)) == len(read_rollouts(alone, "srl"))
    said = [{json.dumps(x) for path in (where / "problems").glob("srl*.jsonl") for x in read(path)}
            for where in (folder, alone)]  # fmt: skip
    assert said[0] == said[1] and len(said[0]) > 1  # the texts they refer to

    for name in ("srl", "srl.1", "rlvr.1"):  # what processes write that are killed before they save
        with (folder / "rollouts" / f"{name}.jsonl").open("a") as file:
            file.write('{"step": 3, "group": 0, "sample": 0}\n')
    train(replace(config, mesh=MeshShape(fsdp=8)))
    assert [read(path) for path in rollout_files(folder, "srl")] == shares
    assert read(folder / "rollouts" / "rlvr.1.jsonl") == [] and len(read_rollouts(folder, "rlvr")) == 16


HANGS = """
import os, time
from dataclasses import replace
from jaxsrl.config.overrides import load
from jaxsrl.objectives.sft import SFT

class Hangs(SFT):
    def branch_points(self, demonstration, step):
        while step == 2 and os.environ["JAX_PROCESS_ID"] == "1":
            time.sleep(1)
        return super().branch_points(demonstration, step)

def config():
    config = load({config!r})
    return replace(config, stages=(replace(config.stages[0], objective=Hangs(trunk=("action",))),))
"""


def test_a_loader_that_hangs_in_one_process_ends_all_with_their_stacks(tmp_path, programs):
    path = tmp_path / "hangs.py"
    path.write_text(HANGS.format(config=str(CONFIG)))
    scaled = Survive(warn_after=4, hang_after=10)
    assert latest(watch_limits(scaled), 2) <= 15  # from the last progress until both have left
    limits = [f"--set=survive.{name}={getattr(scaled, name):g}" for name in ("warn_after", "hang_after")]
    with Launch(tmp_path, programs, *limits, config=path) as two:
        assert two.codes() == [HUNG, HUNG], two.words(0) + two.words(1)
    assert re.search(r"error: process [01]: nothing has moved for \d+ s \(step\); stacks", two.words(0))
    assert two.words(1) == "" and [x["step"] for x in lines(tmp_path / "many")] == [1, 2]
    waits, hangs = (
        (tmp_path / "many" / "logs" / "attempt_1" / f"stacks.{index}.txt").read_text() for index in range(2)
    )
    assert "branch_points" in hangs and "branch_points" not in waits  # the control: only one of them hangs
    assert "optimizer_step" in hangs and "optimizer_step" in waits


@pytest.mark.parametrize("where", ["host", "device"])
def test_compiled_collectives_carry_numbers(where, tmp_path):
    """Token ids, log-probs and what rewards come to: neither bytes nor code points, of which text would be made."""
    config = load(CONFIG)
    srl = next(stage for stage in config.stages if stage.name == "srl")
    objective = replace(srl.objective, reward=replace(srl.objective.reward, where=where))
    stage = replace(srl, start_from=None, objective=objective)
    config = replace(config, runs=str(tmp_path), stages=(stage,))
    prepared, size = prepare(config, Compiled()), config.mesh.size
    with open_run(tmp_path / "many", {}, lambda *_: None) as run:
        parts, state, _ = make_parts(run, config, 0, prepared.material, prepared.splits["srl"], lambda: False)
        parts.writer.close()
    layout, _ = parts.collector.layouts(0, 0, 0, 0.0)
    params, _ = sampling_params(replace(parts.policy, params=state.params))
    given = params, parts.collector.place_sheet(layout.sheets[0]), jax.random.key(0), np.float32(1)
    sent = collectives(parts.collector.draw.lower(*given).compile().as_text(), size, (stage.sampling.max_new_tokens,))
    cap = layout.sheets[0].prompts.slot_parent.size * stage.sampling.max_new_tokens * 4
    assert {x.dtype for x in sent} <= {"f32", "s32", "u32", "pred"} and any(x.dtype == "s32" for x in sent)
    of_jobs = [x for x in sent if x.group == size]  # what leaves the device at the end, every array once
    assert 0 < sum(x.bytes for x in of_jobs) <= 2 * cap + 6 * cap // stage.sampling.max_new_tokens
    assert not collectives(weigh_text(parts.collector, layout, parts.collector.draw(*given)), size)
    # A control: bytes that are sent are found.
    where = rows_sharding(prepared.material.placement.mesh)
    text = jax.jit(lambda x: x + 1, out_shardings=whole_sharding(where.mesh)).lower(
        jax.device_put(np.zeros(8, np.uint8), where)
    ).compile().as_text()  # fmt: skip
    assert [x.dtype for x in collectives(text, size)] == ["u8"]


def weigh_text(collector, layout, drawn) -> str:
    """The program that weighs a step, compiled."""
    whole, (completions, scores) = whole_step(layout, collector.shapes, 1), drawn
    groups, target, length = collector.place((whole.groups, whole.trunk.target, whole.expert_length))
    reward = collector.place(np.zeros(len(whole.groups.group))) if scores is None else scores.reward
    return collector.weigh.lower(
        completions, groups, target, reward, scores, length, np.int32(0), collector.numbers, None
    ).compile().as_text()  # fmt: skip


TOLD = """
import os, signal
from dataclasses import dataclass, replace
from pathlib import Path
from jaxsrl.config.overrides import load
from jaxsrl.objectives.sft import SFT

ONCE = Path({once!r})

class Told(SFT):
    def branch_points(self, demonstration, step):
        if step == 2 and ONCE.exists():
            ONCE.unlink()
            os.kill(os.getpid(), signal.SIGTERM)
        return super().branch_points(demonstration, step)

def config():
    config = load({config!r})
    sft = replace(config.stages[0], objective=Told(trunk=("action",)))
    return replace(config, stages=(sft,), layout_workers=0)
"""


def test_a_single_process_stops_with_the_same_code(tmp_path, capsys):
    """Told in the midst of its third step; it goes on after that, to the file of a run that nothing happened to."""
    once, path = tmp_path / "once", tmp_path / "told.py"
    path.write_text(TOLD.format(once=str(once), config=str(CONFIG)))
    command = ["train", str(path), "--set", "mesh.data=1", "--set", "mesh.fsdp=8"]
    before = signal.getsignal(signal.SIGTERM)
    once.touch()
    assert main([*command, "--runs", str(tmp_path / "stopped")]) == 75
    assert "[sft] stopped at step 3" in capsys.readouterr().err and not once.exists()
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
    monkeypatch.setattr(jax.distributed, "initialize", None)  # not called
    with joined(Processes(count=1)):
        assert not jax.distributed.is_initialized()


def test_what_slurm_says_is_found(monkeypatch):
    for name, value in (
        ("JOB_ID", "7"), ("STEP_NODELIST", "node[3-5]"), ("NTASKS", "3"), ("PROCID", "2"), ("LOCALID", "0"),
        ("STEP_NUM_NODES", "3"),
    ):  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert not from_environment(60).alone
    address, count, index, _ = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, 300)
    assert address.startswith("node3:") and (count, index) == (3, 2)


@pytest.mark.parametrize("index, whom", [(1, "the first process at one:0"), (0, "the other processes of 2")])
def test_a_coordinator_that_never_answers_is_said(monkeypatch, capsys, index, whom):
    """While it is waited for, not when patience is over."""
    heard = []

    def waits(*_, **__):
        while not heard:
            heard.extend(line for line in capsys.readouterr().err.splitlines() if "waiting for" in line)
            time.sleep(0.02)

    assert start.SAID_AFTER <= 15 < Processes().patience  # the first word, and each that follows it
    monkeypatch.setattr(start, "SAID_AFTER", 0.05)
    monkeypatch.setattr(jax.distributed, "initialize", waits)
    with joined(Processes(coordinator="one:0", count=2, index=index)):
        pass
    assert whom in heard[0] and "of 300 s" in heard[0] and "is the port open" in heard[0]
    assert not [t for t in threading.enumerate() if t.name == "waiting for processes"]


ALONE = """
import sys
from jaxsrl.clusters import start
with start.joined(start.Processes(coordinator=sys.argv[1], count=2, index=int(sys.argv[2]), patience=2)):
    print("joined")
"""


def test_one_that_waits_in_vain_ends_in_a_line():
    """The first and the second of two: JAX itself would abort, with a code of its own and its native stacks."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    for index, whom in ((0, "the other processes of 2 to come to"), (1, "the first process at")):
        command = [sys.executable, "-c", ALONE, address, str(index)]
        ended = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=PATIENCE)
        assert ended.returncode == FAILED and "joined" not in ended.stdout, ended.stderr
        said = [line for line in ended.stderr.splitlines() if not re.match(r"[WIE]\d{4} ", line)]
        assert len(said) == 1 and re.match(rf"error: waited \d+ s for {whom} {address}: Are all started", said[0]), said


def test_one_process_talks_to_itself():
    value = {"a": [1, None, "\ud800"]}
    assert gather(value) == [value] and broadcast_from_first(lambda: value) is value
    assert any_process(True) and not any_process(False)
    np.testing.assert_array_equal(fetch([np.arange(3)])[0], [0, 1, 2])


def test_a_state_is_the_same_on_every_topology(tmp_path):
    """Saved on 8x1 and restored on 2x4, saved there and restored on one device: one hash, each where it belongs."""
    model = replace(load(CONFIG).model, heads=2, kv_heads=2, head_width=8)
    params = init_params(model, jax.random.key(0))
    state = init_state(params, optimizer(AdamW()), jax.random.key(1))
    layouts = (MeshShape(fsdp=8), MeshShape(data=2, fsdp=4), MeshShape())
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
