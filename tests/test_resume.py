"""A run that was stopped, however and wherever, ends as the one that was not: bit for bit, file by file.

`JAXSRL_KILLS=20 python -m pytest tests/test_resume.py -k killed -s` is the long check: twenty SIGKILLs instead of two.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxsrl.__main__ import main
from jaxsrl.checkpoint import Checkpoints
from jaxsrl.checksums import checked_json, unchecked_json
from jaxsrl.commands.doctor import run_state
from jaxsrl.config.overrides import ConfigError, load, override
from jaxsrl.console import Console
from jaxsrl.metrics import Journal, read
from jaxsrl.policy import Compiled
from jaxsrl.processes import Stopped
from jaxsrl.runs import RunError, open_run
from jaxsrl.sharding import MeshShape
from jaxsrl.stages.begin import prepare
from jaxsrl.stages.material import make_source
from jaxsrl.stages.sizes import stage_shapes
from tests.sharing import train, train_in

TINY = Path(__file__).parent / "tiny_config.py"
KILLS = int(os.environ.get("JAXSRL_KILLS", "2"))
# A process of its own has the settings of tests/conftest.py: bits are promised for the same devices alone.
SAME_BITS = {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUM_CPU_DEVICES": str(len(jax.devices()))}
PATIENCE = 240  # seconds that a process may take on a machine that does other things too
EVERY = load(TINY).checkpoint_every


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Compiled programs are kept, so that every start but the first is quick; the suite's own, where it keeps them."""
    settings = {
        "jax_compilation_cache_dir": jax.config.jax_compilation_cache_dir or str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0, "jax_persistent_cache_min_entry_size_bytes": -1,
    }  # fmt: skip
    before = {name: getattr(jax.config, name) for name in settings}
    for values, again in ((settings, True), (before, False)):
        compilation_cache.reset_cache()
        for name, value in values.items():
            jax.config.update(name, value)
        if again:
            yield {name.upper(): str(value) for name, value in settings.items()}
    compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def no_writer_is_left():
    """Whatever way a run ended."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "rollout lines"] == []


def tiny(runs, *assignments):
    return replace(override(load(TINY), assignments), runs=str(runs))


def files(folder: Path) -> dict[str, bytes]:
    """Every file that a run promises to the byte."""
    found = [folder / "metrics.jsonl"]
    found += [path for name in ("rollouts", "evals", "problems") for path in folder.glob(f"{name}/*.jsonl")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def policies(folder: Path) -> dict[str, Any]:
    """The parameters kept under each name, their bits as whole numbers: -0 is not 0, and NaN is itself."""
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as reader:
        root = (folder / "checkpoints" / "policy").absolute()
        trees = {path.relative_to(root).as_posix(): reader.restore(path) for path in sorted(root.glob("*/*"))}
    return jax.tree.map(lambda array: np.asarray(array)[None].view(np.uint8), trees)


def state(folder: Path) -> dict[str, str]:
    """What `doctor` says of the run, apart from the number of attempts and their time."""
    said = dict(line.split(": ", 1) for line in run_state(folder).splitlines())
    return {name: value for name, value in said.items() if name not in ("attempts", "time")}


def assert_same(folder: Path, unbroken: Path):
    assert state(folder) == state(unbroken)
    assert files(folder) == files(unbroken)
    chex.assert_trees_all_equal(policies(folder), policies(unbroken))


@pytest.fixture(scope="module")
def unbroken(cache, tmp_path_factory):
    folder = train(tiny(tmp_path_factory.mktemp("unbroken")))
    assert sorted(files(folder)) == [
        "evals/rlvr.jsonl", "evals/sft.jsonl", "evals/srl.jsonl", "metrics.jsonl", "problems/rlvr.jsonl",
        "problems/sft.jsonl", "problems/srl.jsonl", "rollouts/rlvr.jsonl", "rollouts/srl.jsonl",
    ]  # fmt: skip
    srl = [x for x in read(folder / "metrics.jsonl") if (x["stage"], x["kind"]) == ("srl", "train")]
    assert {x["collect/rounds"] for x in srl} == {1, 2} and {x["collect/short"] for x in srl} == {0, 1}
    return folder


class Stop(Exception):
    pass


class Watched(Console):
    """Says and shows nothing, but `tell` hears of it first."""

    def __init__(self, tell):
        super().__init__(silent=True)
        self.tell = tell

    def line(self, text, *, last=False):
        self.tell("show", text)

    @contextmanager
    def wait(self, what, how_far=lambda: ""):
        self.tell("evaluate", what)
        yield


class Unsaved(Checkpoints):
    """Those of a run, but a stage that is done is not saved."""

    def __init__(self, checkpoints, stage):
        vars(self).update(vars(checkpoints))
        self.stage = stage

    def save(self, count, state, record):
        if (record["stage"], record["done"]) == (self.stage, True):
            raise Stop
        super().save(count, state, record)


def stop_at(config, stage, step, *, moment="show", journal=None):
    """A run that fails in the middle of that step: lines are written, nothing is saved."""
    words = {"show": f"[{stage}] {step}/", "evaluate": f"[{stage}] evaluating 2 test problems", "save": None}[moment]

    def tell(name, text):
        if name == moment and text.startswith(words):
            raise Stop

    def exchange(run):
        checkpoints = Unsaved(run.checkpoints, stage) if moment == "save" else run.checkpoints
        made = replace(run, console=Watched(tell), checkpoints=checkpoints)
        return made if journal is None else replace(made, rollout_journal=journal)

    with pytest.raises(Stop):
        train_in(config, exchange)


def starts(folder: Path) -> list[tuple[str, int]]:
    """Stage and step at which each attempt after the first was taken up; None where it began anew."""
    logs = sorted((folder / "logs").glob("attempt_*"), key=lambda path: int(path.name[8:]))[1:]
    found = [re.search(r"resuming .* at stage (\w+), step (\d+)", (log / "log.txt").read_text()) for log in logs]
    return [(m[1], int(m[2])) if m else None for m in found]


PLACES = {"round 0", "round 1", "validation", "test", "finish"}


def asking() -> set[str]:
    """Where a run is that asks whether to stop."""
    frame, found = sys._getframe(), set()
    while frame is not None:
        name, here = frame.f_code.co_name, frame.f_locals
        found.add({"collect": f"round {here.get('refill')}", "evaluate": f"{here.get('split')}"}.get(name, name))
        frame = frame.f_back
    return found & PLACES


def test_a_run_that_is_told_to_stop_goes_on_where_it_was(unbroken, tmp_path):
    """At each of the places where it asks, and then now and again."""
    stopped_in, chance = set(), random.Random(0)

    def stop() -> bool:
        new = asking() - stopped_in
        stopped_in.update(new)
        return bool(new) or chance.random() < 0.2

    for _ in range(80):
        try:
            folder = train(tiny(tmp_path), stop)
            break
        except Stopped:
            pass
    assert_same(folder, unbroken)
    assert stopped_in == PLACES


@pytest.mark.parametrize(
    "stage, step, moment, expected",
    [
        ("sft", 1, "show", None),  # before the first save
        ("sft", 3, "show", ("sft", 2)),  # the epoch of five problems ends inside this step
        ("sft", 9, "save", ("sft", 9)),  # evaluated to the end, and not yet done
        ("srl", 1, "show", ("sft", 9)),  # the stage before is done, this one has saved nothing
        ("srl", 6, "show", ("srl", 4)),
        ("rlvr", 4, "show", ("rlvr", 2)),  # two optimizer steps on the same rollouts
        ("rlvr", 6, "evaluate", ("rlvr", 6)),  # in the test split
    ],
)
def test_stopped_and_resumed_is_unbroken(unbroken, tmp_path, stage, step, moment, expected):
    stop_at(tiny(tmp_path), stage, step, moment=moment)
    folder = train(tiny(tmp_path))
    assert starts(folder) == [expected]
    assert_same(folder, unbroken)


def executed_tokens(folder: Path, stage: str) -> list[int]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [x["tokens/executed"] for x in lines if x["stage"] == stage and x["kind"] == "train"]


def test_a_budget_of_tokens_ends_a_stage(unbroken, tmp_path):
    """With the step that reaches it, whatever the rows, also when the run was stopped; a done stage stays done."""
    whole = executed_tokens(unbroken, "srl")
    budget = (f"stages.srl.tokens={whole[4]}", "stages.rlvr.steps=0", "stages.rlvr.test=none")
    stop_at(tiny(tmp_path / "a", *budget), "srl", 4)
    assert executed_tokens(train(tiny(tmp_path / "a", *budget)), "srl") == whole[:5]
    assert executed_tokens(train(tiny(tmp_path / "a", *budget)), "srl") == whole[:5]
    wide = train(tiny(tmp_path / "b", *budget, "rows.tokens=96", "rows.slots=6"))
    assert executed_tokens(wide, "srl") == whole[:5]


def test_executed_tokens_are_those_of_the_paths(unbroken):
    """SFT executes the tokens of its trees; in SRL each rollout is sampled, and learned from where it was kept."""
    lines = [json.loads(x) for x in (unbroken / "rollouts" / "srl.jsonl").read_text().splitlines()]
    first = [x for x in lines if x["step"] == 1]
    metrics = [json.loads(x) for x in (unbroken / "metrics.jsonl").read_text().splitlines()]
    step = next(x for x in metrics if x["stage"] == "srl" and x["step"] == 1 and x["kind"] == "train")
    assert step["collect/sampled_tokens"] == sum(x["tokens"] for x in first)
    kept = sum(x["tokens"] for x in first if x["kept"])
    assert kept < step["pack/tree_tokens"] <= kept + step["collect/prefilled_tokens"]
    assert step["tokens/executed"] == (
        step["collect/sampled_tokens"] + step["collect/prefilled_tokens"] + step["pack/tree_tokens"]
    )


def test_what_is_compared_can_differ(unbroken, tmp_path):
    """The control: another seed is another run in everything that the other tests find equal."""
    folder = train(tiny(tmp_path, "seed=1"))
    assert state(folder)["state"] != state(unbroken)["state"]
    mine, theirs = files(folder), files(unbroken)
    same = [name for name in mine if mine[name] == theirs[name]]
    assert same == ["problems/sft.jsonl"]  # SFT samples nothing, and is evaluated on the same problems
    mine, theirs = policies(folder), policies(unbroken)
    for name in mine.keys() & theirs.keys():
        with pytest.raises(AssertionError, match="not equal|Not equal|differ"):
            chex.assert_trees_all_equal(mine[name], theirs[name])
    assert mine.keys() & theirs.keys()


@pytest.fixture
def stopped(unbroken, tmp_path):
    """A run that stopped after step 6 of SRL, with checkpoints of steps 2 and 4."""
    stop_at(tiny(tmp_path), "srl", 6)
    return tmp_path / "tiny"


def test_half_written_checkpoints_are_passed_over(stopped, unbroken):
    resume, policy = stopped / "checkpoints" / "resume", stopped / "checkpoints" / "policy"
    newest = max(int(path.name) for path in resume.iterdir())
    for path in (resume / f"{newest + 1}.orbax-checkpoint-tmp-7", policy / "srl" / "last.orbax-checkpoint-tmp-8"):
        shutil.copytree(resume / str(newest), path)
        (path / "_CHECKPOINT_METADATA").unlink()
    shutil.rmtree(resume / str(newest - 1) / "state")  # an old one that a kill left half removed
    with (stopped / "metrics.jsonl").open("a") as file:
        file.write('{"stage":"srl","st')
    assert train(tiny(stopped.parent)) == stopped
    assert starts(stopped) == [("srl", 4)]
    assert not list(stopped.glob("checkpoints/**/*tmp*"))
    assert_same(stopped, unbroken)


def test_another_config_is_refused_and_named(stopped, capsys):
    before = (stopped / "config.json").read_bytes()
    with pytest.raises(ConfigError, match=r"stages\.srl\.optimizer\.lr was 0\.02, is 0\.5"):
        train(tiny(stopped.parent, "stages.srl.optimizer.lr=0.5"))
    assert main(["train", str(TINY), "--runs", str(stopped.parent), "--set", "seed=4"]) == 2
    assert "seed was 0, is 4" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"stages\.sft\.steps=11.*ended with 9"):
        train(tiny(stopped.parent, "stages.sft.steps=11"))
    assert (stopped / "config.json").read_bytes() == before


def test_cadences_may_change(stopped, unbroken):
    """Saving and logging at other times does not touch what is trained, nor does a longer last stage."""
    changed = ("checkpoint_every=3", "log_every=5", "stages.srl.validate.every=0", "stages.rlvr.steps=8")
    train(tiny(stopped.parent, *changed))
    assert json.loads((stopped / "config.json").read_text())["checkpoint_every"] == 3
    assert files(stopped)["rollouts/srl.jsonl"] == files(unbroken)["rollouts/srl.jsonl"]
    chex.assert_trees_all_equal(policies(stopped)["srl/last"], policies(unbroken)["srl/last"])
    assert state(stopped)["step"] == "8"


def test_a_complete_run_stays_as_it_is(unbroken, tmp_path, capsys):
    shutil.copytree(unbroken, tmp_path / "tiny")
    (tmp_path / "tiny" / "report.html").unlink()
    assert main(["train", str(TINY), "--runs", str(tmp_path)]) == 0
    assert (tmp_path / "tiny" / "report.html").stat().st_size > 1000
    assert (tmp_path / "tiny" / "timing.jsonl").read_bytes() == (unbroken / "timing.jsonl").read_bytes()
    assert_same(tmp_path / "tiny", unbroken)


class Slow(Journal):
    """Lines take long."""

    def write(self, name, lines):
        time.sleep(0.3)
        super().write(name, lines)


def test_a_checkpoint_waits_for_the_lines_that_it_knows(unbroken, tmp_path):
    """The learner is ahead of the disk; what is cut back to a checkpoint has every line before it."""
    slow = Slow(tmp_path / "a" / "tiny")
    stop_at(tiny(tmp_path / "a"), "srl", 6, journal=slow)
    folder = train(tiny(tmp_path / "a"))
    assert starts(folder) == [("srl", 4)]
    assert_same(folder, unbroken)


def test_a_run_that_is_told_to_stop_waits_for_its_lines(unbroken, tmp_path):
    slow = Slow(tmp_path / "tiny")
    lines = tmp_path / "tiny" / "metrics.jsonl"
    third = lambda: any((x["stage"], x["step"]) == ("srl", 3) for x in read(lines))
    with pytest.raises(Stopped, match="stopped at step 3"):
        train_in(tiny(tmp_path), lambda run: replace(run, rollout_journal=slow), third)
    assert max(x["step"] for x in read(tmp_path / "tiny" / "rollouts" / "srl.jsonl")) == 3
    folder = train(tiny(tmp_path))
    assert starts(folder) == [("srl", 3)]
    assert_same(folder, unbroken)


def test_shapes_of_a_run_stay_whatever_the_data_would_choose(tmp_path):
    config = tiny(tmp_path)
    prepared, stage = prepare(config, Compiled()), config.stages[1]
    chosen = {}
    with open_run(tmp_path / "tiny", {}, lambda *_: None) as run:
        source = make_source(stage, prepared.splits["srl"], run, 0, 1)
        longer = replace(source, items=tuple(replace(d, actions=d.actions * 2) for d in source.items))
        for name, taken, given in (("a", source, None), ("b", longer, None), ("c", longer, "a")):
            of = replace(run, folder=tmp_path / (given or name))
            of.folder.mkdir(exist_ok=True)
            chosen[name] = stage_shapes(of, config, stage, taken, prepared.material)
        # Rows that do not divide among the devices of a later attempt are chosen anew.
        of, path = replace(run, folder=tmp_path / "a"), tmp_path / "a" / "shapes" / "srl.json"
        path.write_text(json.dumps(unchecked_json(json.loads(path.read_text())) | {"rows": [3, 1]}))
        assert stage_shapes(of, config, stage, source, prepared.material).rows == (3, 1)
        two = replace(config, mesh=MeshShape(data=2))
        assert stage_shapes(of, two, stage, source, prepared.material).rows == (2,)
    assert chosen["c"] == chosen["a"] != chosen["b"] and json.loads(path.read_text())["rows"] == [2]


def test_a_resumed_run_uses_its_saved_shapes(stopped, unbroken):
    """A learner's rows are longer from the resume on, though data and settings are what they were."""
    path = stopped / "shapes" / "srl.json"
    saved = unchecked_json(json.loads(path.read_text()))
    path.write_text(json.dumps(checked_json(saved) | {"tokens": 192}))
    with pytest.raises(RunError, match="srl.json: the checksum in it is of other values.*Remove it"):
        train(tiny(stopped.parent))
    path.write_text(json.dumps(saved | {"tokens": 192}))
    train(tiny(stopped.parent))
    slots = lambda folder: [x["pack/slots"] for x in read(folder / "metrics.jsonl") if x.get("stage") == "srl" and
                            x["kind"] == "train"]  # fmt: skip
    before, after = slots(unbroken), slots(stopped)
    assert saved["tokens"] == 160 and all(n % 160 == 0 for n in before) and after[:4] == before[:4]
    assert all(n % 192 == 0 for n in after[4:]) and len(after) == len(before)
    assert json.loads(path.read_text())["tokens"] == 192


def test_a_checkpoint_of_the_first_format_is_one_message(stopped, capsys):
    """Before its record is read, which has other names."""
    (stopped / "checkpoints" / "format.json").write_text('{"format": 1}')
    before = {path: path.read_bytes() for path in stopped.rglob("*.json*") if path.is_file()}
    assert main(["train", str(TINY), "--runs", str(stopped.parent)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "checkpoints of format 1, this version has 2" in said
    assert before == {path: path.read_bytes() for path in stopped.rglob("*.json*") if path.is_file()}


def executed(folder: Path) -> list[dict]:
    lines = [json.loads(x) for x in (folder / "timing.jsonl").read_text().splitlines() if x.endswith("}")]
    return [line for line in lines if "stage" in line]


class Steps:
    """Steps counted through all stages."""

    def __init__(self):
        self.before, total = {}, 0
        for stage in load(TINY).stages:
            self.before[stage.name] = total
            total += stage.steps
        self.total = total

    def at(self, stage: str, step: int) -> int:
        return self.before[stage] + step


def start_process(runs: Path, cache) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "jaxsrl", "train", str(TINY), "--runs", str(runs)],
        env=os.environ | cache | SAME_BITS, cwd=TINY.parents[1],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_until(process, condition):
    end = time.monotonic() + PATIENCE
    while process.poll() is None and not condition():
        assert time.monotonic() < end, "the process does not get on"
        time.sleep(0.01)


def kill_once(runs: Path, cache, moment: random.Random, attempt: int) -> bool:
    """Starts the run and kills it at a random moment of its work, from the opening of its folder on."""
    process = start_process(runs, cache)
    log = runs / "tiny" / "logs" / f"attempt_{attempt}" / "log.txt"
    wait_until(process, log.exists)
    steps = lambda: sum(1 for line in (runs / "tiny" / "timing.jsonl").open()) if _exists(runs) else 0
    wanted = steps() + moment.randrange(0, 8)
    wait_until(process, lambda: steps() >= wanted)  # fast or slow, machines are killed after as much work
    time.sleep(moment.uniform(0, 0.3))
    process.send_signal(signal.SIGKILL)
    error = process.stderr.read().decode()
    assert process.wait() in (-signal.SIGKILL, 0), error
    return process.returncode != 0


def _exists(runs: Path) -> bool:
    return (runs / "tiny" / "timing.jsonl").exists()


def finish_run(runs: Path, cache) -> None:
    process = start_process(runs, cache)
    error = process.communicate(timeout=PATIENCE)[1].decode()
    assert process.returncode == 0, error


def check_attempts(folder: Path, kills: int) -> int:
    """Every attempt goes on from the newest save, or the one before if that was in flight. Returns steps repeated."""
    count, furthest = Steps(), 0
    lines = executed(folder)
    for attempt, start in enumerate(starts(folder), 2):
        done = [count.at(line["stage"], line["step"]) for line in lines if line["attempt"] < attempt]
        furthest = max(done, default=0)
        begun = count.at(*start) if start else 0
        # One save complete, one in flight, and steps since; RLVR takes two steps at a time.
        assert begun >= furthest - 2 * EVERY - 1, (attempt, begun, furthest)
        assert start is not None or furthest <= 2 * EVERY
    sizes = {"rlvr": 2}
    lost = sum(sizes.get(line["stage"], 1) for line in lines) - count.total
    assert 0 <= lost <= kills * (2 * EVERY + 1)
    return lost


def test_killed_runs_are_unbroken(unbroken, cache, tmp_path):
    moment, kills, lost, round_ = random.Random(0), 0, 0, 0
    while kills < KILLS:
        runs, here, attempt = tmp_path / str(round_), 0, 0
        while kills < KILLS:
            attempt += 1
            if not kill_once(runs, cache, moment, attempt):
                break
            kills, here = kills + 1, here + 1
        finish_run(runs, cache)
        assert_same(runs / "tiny", unbroken)
        lost += check_attempts(runs / "tiny", here)
        round_ += 1
        print(f"{kills} kills in {round_} runs, {lost} steps executed again, nothing differs")
