"""A run folder: who holds it, what it was started with, and on what machine."""

import gc
import json
import re
import shutil
import subprocess
import sys
from contextlib import closing

import jax
import jax.numpy as jnp
import pytest
import tensorstore

from jaxsrl.checkpoint import Checkpoints
from jaxsrl.runs import RunError, commit, environment, open_run, read_json, write_json
from jaxsrl.update import AdamW, init_state, optimizer

CONFIG = {"name": "a", "seed": 0}


def same(saved, now, folder):
    if saved["seed"] != now["seed"]:
        raise ValueError("seed differs")


def held_elsewhere(folder) -> subprocess.Popen:
    """Another process that has the folder open, as a training one has."""
    code = (
        "import sys, pathlib; from jaxsrl.runs import open_run\n"
        "with open_run(pathlib.Path(sys.argv[1]), {'name': 'a', 'seed': 0}, lambda *a: None):\n"
        "    print('open', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "open\n"
    return process


def test_one_process_at_a_time_and_the_lock_goes_with_it(tmp_path):
    process = held_elsewhere(tmp_path)
    try:
        with pytest.raises(RunError, match="is being written by another process"):
            with open_run(tmp_path, CONFIG, same):
                pass
        assert len(list((tmp_path / "logs").iterdir())) == 1
    finally:
        process.kill()
        process.wait()
    with open_run(tmp_path, CONFIG, same) as run:
        assert run.attempt == 2 and run.record is None


@pytest.mark.fast
def test_attempts_are_numbered_on_after_one_was_removed(tmp_path):
    (tmp_path / "logs" / "attempt_7").mkdir(parents=True)
    with open_run(tmp_path, CONFIG, same) as run:
        assert run.attempt == 8


@pytest.mark.fast
def test_other_environment_is_warned_of(tmp_path, capsys):
    with open_run(tmp_path, CONFIG, same):
        pass
    assert "warning" not in capsys.readouterr().err
    saved = read_json(tmp_path / "environment.json")
    write_json(tmp_path / "environment.json", saved | {"cores": 1234})
    with open_run(tmp_path, CONFIG, same):
        pass
    assert "warning: cores was 1234" in capsys.readouterr().err
    assert "bits may differ" in (tmp_path / "logs" / "attempt_2" / "log.txt").read_text()
    assert read_json(tmp_path / "logs" / "attempt_2" / "environment.json") == saved
    assert read_json(tmp_path / "environment.json")["cores"] == 1234  # that of the first attempt stays


@pytest.mark.fast
def test_environment_names_what_bits_depend_on(monkeypatch):
    jax.devices()  # XLA reads its flags here at the latest, and ends the process at one that it does not know
    monkeypatch.setenv("XLA_FLAGS", "--a=1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    here = environment()
    assert here["flags"]["XLA_FLAGS"] == "--a=1" and not any("CACHE" in name for name in here["flags"])
    assert here["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", here["commit"])
    assert here["versions"]["jax"] and here["cores"] >= 1 and here["devices"]


@pytest.mark.fast
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_code_and_of_no_repository_around_it(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    package, installed = tmp_path / "jaxsrl", tmp_path / "lib" / "jaxsrl"
    for folder in (package, installed):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
    assert commit(package) is None
    git("init")
    git("add", "jaxsrl")
    git("commit", "-m", "begin")
    found = commit(package)
    assert re.fullmatch("[0-9a-f]{40}", found) and commit(installed) is None
    (package / "__init__.py").write_text("changed = True\n")
    assert commit(package) == found + "+changes"


@pytest.mark.fast
@pytest.mark.parametrize("text", ["", '{"name": ', "[]", "{}", "null"])
def test_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunError, match="config.json.*damaged"):
        with open_run(tmp_path, CONFIG, same):
            pass
    assert (tmp_path / "config.json").read_text() == text


@pytest.mark.fast
def test_refused_config_leaves_the_folder_as_it_was(tmp_path):
    with open_run(tmp_path, CONFIG, same):
        pass
    with pytest.raises(ValueError, match="seed differs"):
        with open_run(tmp_path, CONFIG | {"seed": 1}, same):
            pass
    assert read_json(tmp_path / "config.json") == CONFIG
    assert len(list((tmp_path / "logs").iterdir())) == 1


@pytest.mark.fast
def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"é": 1})
    with pytest.raises(TypeError):
        write_json(path, {"b": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.fast
def test_timing_is_never_cut(tmp_path):
    for _ in range(2):
        with open_run(tmp_path, CONFIG, same) as run:
            run.timing({"stage": "srl", "step": 1})
            run.journal.write("metrics.jsonl", [{"step": 1}])
    lines = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert [line["attempt"] for line in lines] == [1, 2]
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step":1}\n'  # without a checkpoint a run begins anew


def test_a_run_of_the_first_format_is_refused_in_one_message(tmp_path):
    """Not by what has changed in its config since; nothing is written."""
    write_json(tmp_path / "config.json", CONFIG | {"seed": 1})
    (tmp_path / "checkpoints" / "resume" / "3").mkdir(parents=True)
    with pytest.raises(ValueError, match="checkpoints of format 1, this version has 2"):
        with open_run(tmp_path, CONFIG, same):
            pass
    assert not (tmp_path / "logs").exists() and not (tmp_path / "checkpoints" / "format.json").exists()


def test_saves_of_an_open_run_leave_nothing_in_memory(tmp_path):
    """A list for each number that TensorStore counts, twice a save, in a night of saves; the control is without us."""
    state = init_state({"w": jnp.ones((4, 8))}, optimizer(AdamW()), jax.random.key(0))

    def lists():
        gc.collect()
        return sum(type(x) is list for x in gc.get_objects())

    def left_by_three_saves(checkpoints):
        for count in range(6):
            if count == 3:
                before = lists()
            checkpoints.save(count + 1, state, {"stage": "sft", "step": count, "done": False})
            checkpoints.wait()
        return lists() - before

    with open_run(tmp_path / "run", {}, lambda *_: None) as run:
        assert left_by_three_saves(run.checkpoints) < 15
    with closing(Checkpoints(tmp_path / "alone")) as alone:
        assert left_by_three_saves(alone) >= 30, "TensorStore frees its lists now: runs._bytes_uncounted can go"


def test_what_a_store_is_called_is_asked_for_once_a_folder(tmp_path):
    """Orbax asks for each array of a save, and TensorStore keeps the strings of every answer: the control."""
    specs = [tensorstore.KvStore.Spec({"driver": "file", "path": f"{tmp_path}/{name}/"}) for name in ("a", "\u00e9")]

    def answers():
        return [spec.to_json() for spec in specs] + [specs[0].to_json(include_defaults=True)]

    def left(spec):
        spec.to_json()
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(1000):
            spec.to_json()
        gc.collect()
        return sys.getallocatedblocks() - before

    plain = answers()
    with open_run(tmp_path / "run", {}, lambda *_: None):
        assert answers() == plain and left(specs[0]) < 500
        specs[0].to_json()["path"] = "changed by whoever was told"
        assert answers() == plain
    assert answers() == plain
    assert left(specs[0]) >= 2000, "TensorStore frees its strings now: runs._specs_asked_once can go"
