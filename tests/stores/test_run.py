"""Runs in a store: killed, gone on with elsewhere, read from there."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jaxsrl.__main__ import main
from jaxsrl.commands.audited import _parted
from jaxsrl.config.overrides import load
from jaxsrl.processes import Stopped
from jaxsrl.stores import keep
from jaxsrl.stores.copies import EVERYTHING, run_here
from jaxsrl.stores.lease import Head, Held, take
from jaxsrl.stores.objects import Objects
from tests.sharing import train
from tests.test_resume import PATIENCE, SAME_BITS, assert_same, cache  # noqa: F401

CONFIG = Path(__file__).parent / "tiny_run.py"
RUN = "gs://bucket/runs/tiny"


@pytest.fixture(scope="module")
def unbroken(cache, tmp_path_factory):  # noqa: F811
    return train(replace(load(CONFIG), runs=str(tmp_path_factory.mktemp("unbroken"))))


def launched(cache, *arguments):  # noqa: F811
    """`jaxsrl train` as a process of its own."""
    command = [sys.executable, "-m", "tests.stores.impatient", "train", str(CONFIG), *arguments]
    environment = os.environ | SAME_BITS | cache | {"PYTHONPATH": str(CONFIG.parents[2])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def killed(bucket, cache, when):  # noqa: F811
    """Sends SIGKILL to a training process when the store is asked for something. Returns what it has said."""
    process = None

    def kill(request):
        if process is not None and when(request):
            process.send_signal(signal.SIGKILL)
            process.wait()

    bucket.before = kill
    process = launched(cache)
    said, _ = process.communicate(timeout=PATIENCE)
    bucket.before = None
    assert process.returncode == -signal.SIGKILL, said
    return said


def nth(count, *words):
    """Whether a request is the n-th that has all the words."""
    seen = []

    def when(request):
        seen.extend([request] if all(word in request for word in words) else [])
        return len(seen) == count

    return when


def snapshots():
    return [one["count"] for one in Head.read(Objects.at(RUN))[0].snapshots]


def test_killed_and_gone_on_with_from_the_store_alone(bucket, cache, unbroken, tmp_path, capfd):  # noqa: F811
    """At three instants: while parts are sent, before a snapshot is made complete, and soon after one was."""
    folder, notes = tmp_path / "cache" / "runs" / "bucket" / "runs" / "tiny", []
    for when in (nth(60, "POST", "/parts/"), nth(3, "POST", "run.json"), nth(30, "POST", "/parts/")):
        notes.append(killed(bucket, cache, when))
        assert folder.is_dir()
        shutil.rmtree(folder)
        for left in folder.parent.glob("tiny.[!d]*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    assert snapshots() and any("copied to" in said for said in notes[1:])
    assert train(load(CONFIG)) == folder
    assert "copied to" in capfd.readouterr().err
    assert_same(folder, unbroken)
    shutil.rmtree(folder)
    assert_same(run_here(RUN, EVERYTHING), unbroken)  # what was stored in the end
    assert main(["report", RUN]) == main(["convert", RUN, "--to", str(tmp_path / "published")]) == 0
    assert (tmp_path / "published" / "config.json").is_file()
    assert main(["compare", RUN, "--split", "validation"]) == 0 and main(["report", f"{RUN}2"]) == 2
    assert "there is no run gs://bucket/runs/tiny2" in capfd.readouterr().err
    assert _parted(f"{RUN}:sft:best") == (run_here(RUN), "sft:best") and _parted("runs/x:sft") == (
        Path("runs/x"),
        "sft",
    )
    assert bucket.objects["runs/tiny/report.html"][1].startswith(b"<!doctype html>")


def test_a_store_that_is_down_for_a_while_costs_no_bit(bucket, unbroken, tmp_path, capfd):
    saved = tmp_path / "cache" / "runs" / "bucket" / "runs" / "tiny" / "checkpoints" / "resume"
    since = []

    def stop():
        if not since and (saved / "2").is_dir():
            bucket.fault["POST"] = 503
            since.append(len(bucket.heard))
        if since and (saved / "4").is_dir() and bucket.fault:
            end = time.monotonic() + PATIENCE
            while len(bucket.heard) < since[0] + 5 and time.monotonic() < end:
                time.sleep(0.02)
            bucket.fault.clear()
        return False

    folder = train(load(CONFIG), stop)
    assert_same(folder, unbroken)
    said = capfd.readouterr().err
    assert "is not stored (1 in a row): gs://bucket/runs/tiny does not answer" in said
    shutil.rmtree(folder)
    assert_same(run_here(RUN, EVERYTHING), unbroken)


def test_of_two_runs_with_one_address_the_second_is_refused_before_its_first_step(bucket, tmp_path):
    hold, over = take(Objects.at(RUN), "a disk elsewhere", print), threading.Event()

    def renew():
        while not over.wait(0.05):
            hold.renew()

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(Held, match="gs://bucket/runs/tiny is being written by process"):
            train(load(CONFIG))
    finally:
        over.set()
        thread.join()
    assert not (tmp_path / "cache" / "runs" / "bucket" / "runs" / "tiny").exists()


def test_a_run_that_is_told_to_stop_is_stored_before_it_ends(bucket, unbroken):
    asked = []
    with pytest.raises(Stopped) as caught:
        train(load(CONFIG), lambda: asked.append(1) or len(asked) > 6)
    head, _ = Head.read(Objects.at(RUN))
    assert head.holder is None and f"stopped at step {head.snapshots[-1]['step']}, which is saved" in str(caught.value)


def test_processes_that_do_not_share_the_folder_are_told_so(bucket, tmp_path):
    folder = tmp_path / "tiny"
    folder.with_name("tiny.disk").write_text("another")
    with pytest.raises(ValueError, match="process 0 does not see .*tiny of the first one.*JAXSRL_CACHE"):
        keep._check_shared(folder, "this one")
