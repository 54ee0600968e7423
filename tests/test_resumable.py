"""What a bad disk does to a run's files is found, said, and gone around.

`JAXSRL_FLIPS=200 python -m pytest tests/test_resumable.py -k flipped` is the long campaign.
"""

import errno
import json
import os
import random
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import jaxsrl.checkpoint as checkpoint
import jaxsrl.stages.save as saving
from jaxsrl.checkpoint import CheckpointError, Checkpoints, SaveError, check_format, damage_of
from jaxsrl.checksums import STEP_FILE, unchecked_json
from jaxsrl.commands.doctor import run_state
from jaxsrl.config import Survive
from jaxsrl.config.overrides import load, to_dict
from jaxsrl.exit_codes import code_of
from jaxsrl.resumable import NOTES, choose
from jaxsrl.runs import RunError, write_json
from jaxsrl.stages.begin import _say_jump
from jaxsrl.update import AdamW
from tests.sharing import train

TINY = Path(__file__).parent / "tiny_config.py"
PATIENCE = 100  # seconds that something may take on a machine that does other things too
FLIPS = int(os.environ.get("JAXSRL_FLIPS", "40"))


def tiny(runs: Path):
    """SFT and SRL, as long as in other tests, which have compiled them already."""
    config = load(TINY)
    return replace(config, runs=str(runs), stages=config.stages[:2])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return train(tiny(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "tiny"))


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints" / "resume").iterdir(), key=lambda path: int(path.name))


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def read_by_a_resume(folder: Path) -> list[Path]:
    """Files whose bytes a resume goes by, one in three of them not of the newest checkpoint."""
    found = [p for p in newest(folder).rglob("*") if p.is_file() and p.name not in ("commit_success.txt", STEP_FILE)]
    others = [*folder.glob("checkpoints/policy/*/*/**/*"), *folder.glob("shapes/*"), folder / "checkpoints/format.json"]
    others += [*folder.glob("evals/*"), *folder.glob("rollouts/*"), folder / "metrics.jsonl"]
    return found + [p for p in others if p.is_file() and p.name not in ("commit_success.txt", STEP_FILE)]


def test_a_flipped_bit_is_found_and_the_file_named(whole, tmp_path):
    chance, count = random.Random(0), int(newest(whole).name)
    assert choose(whole).count == count and not choose(whole).said
    for number in range(FLIPS):
        folder = Path(shutil.copytree(whole, tmp_path / str(number)))
        path = chance.choice(read_by_a_resume(folder))
        flip(path, chance)
        if newest(folder) in path.parents:
            found = choose(folder)
            assert found.count == count - 1 and found.passed_over == 1
            said = found.said[0]
            assert f"checkpoint {count} (stage srl, step 7) is damaged" in said and "Going on from" in said
        elif path.suffix == ".jsonl":
            said = choose(folder).said[0]
        elif "policy" in path.parts:
            root = folder / "checkpoints" / "policy"
            said = "; ".join(damage_of(root / Path(*path.relative_to(root).parts[:2])))
        elif path.name == "format.json":
            with pytest.raises((ValueError, CheckpointError)) as caught:
                check_format(folder / "checkpoints")
            said = str(caught.value).replace("has checkpoints of format", str(path))
        else:
            with pytest.raises((ValueError, TypeError)):
                unchecked_json(json.loads(path.read_bytes()))
            continue
        assert str(path) in said, (path, said)
        shutil.rmtree(folder)


def test_a_damaged_newest_checkpoint_is_passed_over_and_the_run_ends_as_it_would(whole, copy, capsys):
    """And its lines come out again, as they were written the first time."""
    flip(max(newest(copy).rglob("d/*"), key=lambda path: path.stat().st_size), random.Random(1))
    with pytest.raises(RunError, match="is damaged.*was changed"):
        run_state(copy)
    train(tiny(copy.parent))
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1 and "is damaged" in said[0] and "Going on from checkpoint" in said[0]
    for name in ("metrics.jsonl", "rollouts/srl.jsonl", "evals/srl.jsonl"):
        assert (copy / name).read_bytes() == (whole / name).read_bytes()
    assert run_state(copy).split("attempts")[0] == run_state(whole).split("attempts")[0]
    assert [path.name for path in (copy / "checkpoints" / "damaged").iterdir()] == [f"{newest(whole).name}-0"]
    assert not choose(copy).said


@pytest.mark.parametrize("how", ["removed", "cut", "sums"])
def test_what_is_missing_of_the_newest_checkpoint_is_said(copy, how):
    count, path = int(newest(copy).name), newest(copy)
    match how:
        case "removed":
            shutil.rmtree(path)
            expected = f"checkpoint {count}, of stage srl, step 7, was saved and is no longer there"
        case "cut":
            cut = max(path.rglob("d/*"), key=lambda p: p.stat().st_size)
            os.truncate(cut, 7)
            expected = f"{cut} has 7 bytes of "
        case "sums":
            (path / "checksums.json").unlink()
            expected = "checksums.json is missing"
    found = choose(copy)
    assert found.count == count - 1 and expected in found.said[0]
    assert choose(copy).count == count - 1 and not choose(copy).said  # once


def test_a_run_whose_checkpoints_were_removed_is_refused(copy, capsys):
    """Not begun anew in silence; and neither is one of which none is good."""
    before = (copy / "metrics.jsonl").read_bytes()
    for path in (copy / "checkpoints" / "resume").iterdir():
        flip(path / "record" / "metadata", random.Random(2))
    with pytest.raises(
        CheckpointError, match=r"no checkpoint of .* is good\. checkpoint \d+ .*; .*checkpoint \d+|is good"
    ):
        choose(copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(CheckpointError) as caught:
        train(tiny(copy.parent))
    said = str(caught.value)
    assert "was saved up to stage srl, step 7" in said and "--set name=" in said and "\n" not in said
    assert (copy / "metrics.jsonl").read_bytes() == before
    (copy / NOTES).unlink()  # a run that never saved begins anew
    assert choose(copy).count is None


def test_a_line_that_changed_is_said_and_refused_where_it_is_read_again(copy):
    path = copy / "evals" / "sft.jsonl"
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    assert "evals/sft.jsonl was changed" in choose(copy).said[0]
    with pytest.raises(CheckpointError, match="the run needs it"):
        choose(copy, lambda name: name == "evals/sft.jsonl")
    os.truncate(copy / "metrics.jsonl", 10)
    with pytest.raises(CheckpointError, match="metrics.jsonl has 10 bytes of"):
        choose(copy)


def test_the_ledger_of_a_run_closes(whole):
    """Against a clock of its own: to one per cent."""
    lines = [json.loads(line) for line in (whole / "timing.jsonl").read_text().splitlines()]
    last = [line for line in lines if "ledger" in line][-1]
    assert {"begin", "compile", "step", "evaluate", "checkpoint", "other"} == set(last["ledger"])
    assert sum(last["ledger"].values()) == pytest.approx(last["wall"], rel=0.01)
    steps = [line["seconds"] for line in lines if line.get("step", 0) > 1]
    took = sum(seconds["collect"] + seconds["update"] for seconds in steps)
    assert took == pytest.approx(last["ledger"]["step"], rel=0.1, abs=0.1)
    assert "were steps that count (compile" in run_state(whole).split("time: ")[1]


def test_a_note_that_changed_is_said_once(copy):
    """Of what was saved: wherever the bit is, but nothing else is lost."""
    path, count = copy / NOTES, int(newest(copy).name)
    before, chance = path.read_bytes(), random.Random(4)
    for _ in range(FLIPS):
        path.write_bytes(before)
        flip(path, chance)
        found = choose(copy)
        assert found.count == count and found.passed_over == 0
        assert f"{path}: " in found.said[0] and "lines were damaged and are left out. Going on from" in found.said[0]
        assert not choose(copy).said


def test_a_damaged_policy_is_refused_by_name(copy):
    flip(max((copy / "checkpoints/policy/sft/last").rglob("d/*"), key=lambda p: p.stat().st_size), random.Random(3))
    kept = Checkpoints(copy / "checkpoints")
    with pytest.raises(CheckpointError, match="policy sft:last is damaged: .*policy/sft/last/.*was changed"):
        kept.restore_policy(next(p for p in kept.policies() if str(p) == "sft:last"), {})
    kept.close()


def test_checkpoints_of_before_there_were_checksums_are_read(copy):
    for path in copy.rglob("checksums.json"):
        path.unlink()
    (copy / NOTES).unlink()
    assert choose(copy).count == int(newest(copy).name) and not choose(copy).said


def full(*_, why: int = errno.ENOSPC):
    raise OSError(why, os.strerror(why))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(saving, "PAUSES", (0.0,))


def assert_as_whole(folder: Path, whole: Path) -> None:
    for name in ("metrics.jsonl", "rollouts/srl.jsonl", "evals/sft.jsonl", "evals/srl.jsonl"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert state_of(folder) == state_of(whole) and not choose(folder).said
    assert not list((folder / "checkpoints").rglob("*tmp*"))


def state_of(folder: Path) -> str:
    return run_state(folder).split("state: ")[1].split("\n")[0]


@pytest.mark.parametrize("writes, why", [({1}, errno.ENOSPC), ({0, 1, 2}, errno.ENOSPC), ({1}, errno.EROFS)])
def test_a_disk_that_takes_no_checkpoint_for_a_while(whole, tmp_path, monkeypatch, capsys, impatient, writes, why):
    """Full or read-only, once or for the first three saves: training goes on, and in the end all is as it always is."""
    count, write = [], checkpoint.write_sums

    def sometimes(path):
        count.append(path.name)
        if len(count) - 1 in writes:
            full(why=why)
        write(path)

    monkeypatch.setattr(checkpoint, "write_sums", sometimes)
    folder = train(tiny(tmp_path))
    said = capsys.readouterr().err
    assert said.count(os.strerror(why)) >= len(writes) - 1 and "Traceback" not in said
    assert_as_whole(folder, whole)


def test_a_slow_disk_does_not_hold_up_the_next_step(whole, tmp_path, monkeypatch):
    """The first checkpoint is complete only after the run has asked whether to stop again: before its next step."""
    asked, saved, went_on, write, save = [], [], [], checkpoint.write_sums, Checkpoints.save

    def saves(self, *args):
        save(self, *args)
        saved.append(len(asked))

    def slow(path):
        if path.parent.name == "resume" and not went_on:
            end = time.monotonic() + PATIENCE
            while not (saved and len(asked) > saved[0]) and time.monotonic() < end:
                time.sleep(0.01)
            went_on.append(bool(saved) and len(asked) > saved[0])
        write(path)

    monkeypatch.setattr(checkpoint, "write_sums", slow)
    monkeypatch.setattr(Checkpoints, "save", saves)
    folder = train(tiny(tmp_path), lambda: bool(asked.append(1)))
    assert went_on == [True]
    assert_as_whole(folder, whole)


def test_a_disk_that_stays_full_ends_the_run_and_leaves_what_was_good(whole, tmp_path, monkeypatch, capsys, impatient):
    """By the second save the first one's error is said; the code is the disk's, and the same command goes on later."""
    write, count = checkpoint.write_sums, []

    def later(path):
        count.append(path.name)
        (write if len(count) < 3 else full)(path)

    monkeypatch.setattr(checkpoint, "write_sums", later)
    with pytest.raises(SaveError) as caught:
        train(replace(tiny(tmp_path), survive=Survive(failed_saves=2)))
    assert code_of(caught.value) == 74 and "No space left" in str(caught.value)
    assert "not saved" in capsys.readouterr().err
    there = sorted(path.name for path in (tmp_path / "tiny" / "checkpoints" / "resume").iterdir())
    assert there and all(name.isdigit() for name in there) and not choose(tmp_path / "tiny").said
    monkeypatch.setattr(checkpoint, "write_sums", write)
    assert_as_whole(train(tiny(tmp_path)), whole)


def test_lines_that_a_full_disk_does_not_take_come_later(whole, tmp_path, monkeypatch, capsys, impatient):
    """For a while no file of lines grows; no checkpoint is made that would know of lines that are not there."""
    calls, write = [], os.write

    def sometimes(handle, data):
        if threading.current_thread().name in ("MainThread", "rollout lines") and b'"step"' in bytes(data):
            calls.append(1)
            if 4 <= len(calls) < 12:
                full()
        return write(handle, data)

    monkeypatch.setattr(os, "write", sometimes)
    folder = train(tiny(tmp_path))
    assert len(calls) > 12 and "metrics.jsonl" in capsys.readouterr().err
    assert_as_whole(folder, whole)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


# TensorStore tells of a write that failed when Orbax no longer listens.
@pytest.mark.filterwarnings("ignore:(?s).*Event loop is closed:pytest.PytestUnraisableExceptionWarning")
def test_a_small_disk_fills_up_and_is_emptied(whole, small_disk, capsys, monkeypatch):
    """A real one: something else takes all of its room, and gives it back when the run has asked for it in vain."""
    asked, other = [], small_disk / "other"
    monkeypatch.setattr(saving, "time", SimpleNamespace(sleep=lambda seconds: other.unlink(missing_ok=True)))

    def stop():
        asked.append(1)
        if len(asked) == 3:
            with suppress(OSError), other.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        return False

    folder = train(tiny(small_disk), stop)
    said = capsys.readouterr().err
    assert "No space left on device" in said and not other.exists()
    assert "Traceback" not in said and max(map(len, said.splitlines())) < 400
    assert_as_whole(folder, whole)


def test_a_resume_under_a_schedule_says_what_jumps(tmp_path, capsys):
    """And says nothing where the rate is the same, or the length."""
    config = load(TINY)
    cosine = replace(config.stages[0], optimizer=AdamW(lr=0.1, schedule="cosine"), steps=40)
    for steps, stage, said in ((60, cosine, "jumps from 0.0146 to 0.05"), (40, cosine, ""), (60, config.stages[0], "")):
        old = replace(config, stages=(replace(stage, steps=40),))
        write_json(tmp_path / "config.json", to_dict(old))
        heard = []
        run = SimpleNamespace(
            folder=tmp_path, record={"index": 0, "step": 30}, console=SimpleNamespace(say=heard.append)
        )
        _say_jump(run, replace(config, stages=(replace(stage, steps=steps),)))
        assert bool(heard) == bool(said) and (not said or said in heard[0]), heard
        assert not said or "[sft] steps were 40, are 60 under schedule=cosine" in heard[0] and "step 31" in heard[0]
