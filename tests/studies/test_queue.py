"""The queue loses no cell and counts none twice, whatever happens to its workers."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from jaxsrl.studies.queue import Lost, Queue, work

ROOT = Path(__file__).parents[2]
WHOLE = bool(os.environ.get("JAXSRL_WHOLE"))  # cells, workers, killed, paused: as many as the study's bar asks for
CELLS, WORKERS, KILLED, PAUSED = (64, 16, 10, 3) if WHOLE else (16, 6, 3, 1)
LEASE = 1.0
PATIENCE = 250  # seconds that something may take on a machine that does other things too


def queue_in(tmp_path, **settings):
    return Queue(folder=tmp_path / "cells", **settings)


def start(tmp_path):
    command = [sys.executable, str(Path(__file__).parent / "toy_worker.py"), tmp_path, CELLS, LEASE]
    return subprocess.Popen([str(x) for x in command], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})


def holders(queue):
    """Process -> the cell it holds, of the running cells."""
    states = {f"cell{i:02d}": queue.state(f"cell{i:02d}") for i in range(CELLS)}
    return {int(s.worker.split(":")[1]): cell for cell, s in states.items() if s.kind == "running" and s.worker}


def test_workers_that_are_killed_or_paused_lose_nothing_and_count_nothing_twice(tmp_path):
    """All cells are done, each once, by the holder its `done` names; paused holders woke up past their lease."""
    queue, rng = queue_in(tmp_path, lease_seconds=LEASE, attempts=50), random.Random(0)
    workers = {p.pid: p for p in (start(tmp_path) for _ in range(WORKERS))}
    try:
        paused, end = {}, time.monotonic() + PATIENCE
        while len(paused) < PAUSED and time.monotonic() < end:
            for pid, cell in list(holders(queue).items())[: PAUSED - len(paused)]:
                if pid not in paused and workers[pid].poll() is None:
                    os.kill(pid, signal.SIGSTOP)
                    paused[pid] = (cell, queue.state(cell).token)
        killed = set()
        while len(killed) < KILLED and time.monotonic() < end:
            held = [pid for pid in holders(queue) if pid not in paused and workers[pid].poll() is None]
            if held:
                pid = rng.choice(held)
                workers[pid].kill()
                workers[pid].wait()
                killed.add(pid)
                if sum(p.poll() is None for p in workers.values()) <= PAUSED + 1:
                    new = start(tmp_path)
                    workers[new.pid] = new
        assert len(killed) == KILLED and len(paused) == PAUSED
        (tmp_path / "go").touch()  # until now every worker held a cell
        while any(queue.state(cell).token == token for cell, token in paused.values()):
            assert time.monotonic() < end, "nobody took over"
            time.sleep(0.05)
        for pid in paused:
            os.kill(pid, signal.SIGCONT)
        for pid, worker in workers.items():
            assert worker.wait(timeout=PATIENCE) == (-signal.SIGKILL if pid in killed else 0)
    finally:
        for worker in workers.values():
            if worker.poll() is None:
                worker.kill()
                worker.wait()
    states = [queue.state(f"cell{i:02d}") for i in range(CELLS)]
    assert [s.kind for s in states] == ["done"] * CELLS
    assert [s.result for s in states] == [{"cell": f"cell{i:02d}", "token": s.token} for i, s in enumerate(states)]
    started = [line.split() for line in (tmp_path / "started").read_text().splitlines()]
    assert max(Counter((cell, token) for cell, token, _ in started).values()) == 1, "a token was given twice"
    for cell, token in paused.values():
        assert queue.state(cell).token > token, "a paused worker's result was counted"
    for cell, token, name in started:  # who was overtaken wrote into its own folder only
        assert (tmp_path / "cells" / cell / token / "part").read_text() in (name, "")


def test_asked_again_only_what_is_missing_starts(tmp_path):
    queue, cells, seen = queue_in(tmp_path), ["a", "b", "c"], []
    assert work(queue, cells[:2], lambda cell, lease, stop: seen.append(cell) or cell) == 2
    assert work(queue, cells, lambda cell, lease, stop: seen.append(cell) or cell) == 1
    assert seen == ["a", "b", "c"] and queue.state("c").result == "c"


def grow_old(lease):
    """As if its holder had not been heard of for long."""
    os.utime(lease.cell / f"lease.{lease.token}", (1, 1))


def wait_until(said):
    end = time.monotonic() + PATIENCE
    while not said():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_overtaken_worker_cannot_hand_in(tmp_path):
    queue = queue_in(tmp_path)
    first = queue.take("a", "one")
    assert queue.take("a", "two") is None
    grow_old(first)
    second = queue.take("a", "two")
    assert (first.token, second.token) == (1, 2) and first.folder != second.folder
    with pytest.raises(Lost):
        queue.hand_in(first, "one", 1)
    queue.hand_in(second, "two", 2)
    with pytest.raises(Lost):
        queue.hand_in(second, "two", 3)
    assert queue.state("a").result == 2 and queue.state("a").worker == "two"


def test_a_kept_lease_outlives_its_length_and_one_not_kept_does_not(tmp_path):
    queue = queue_in(tmp_path, lease_seconds=0.2)
    lease, other = queue.take("a", "one"), queue.take("b", "one")
    with queue.kept(lease) as lost:
        for one in (lease, other):
            grow_old(one)
        wait_until(lambda: queue.state("a").kind == "running")
        assert queue.state("b").kind == "expired" and queue.take("b", "two").token == other.token + 1 and not lost()
        os.link(lease.cell / "lease.1", lease.cell / "lease.2")  # somebody takes it over
        wait_until(lost)


def test_a_failure_is_told_and_tried_again_only_when_asked(tmp_path):
    queue, calls = queue_in(tmp_path), []

    def perform(cell, lease, stop):
        calls.append(cell)
        if len(calls) == 1:
            raise ValueError("no such key")
        return 1

    assert work(queue, ["a", "b"], perform) == 1 and calls == ["a", "b"]
    assert queue.state("a").kind == "failed" and queue.state("a").result == "ValueError: no such key"
    assert work(queue, ["a", "b"], perform) == 1 and calls == ["a", "b", "a"]


def test_a_cell_that_kills_its_workers_ends(tmp_path):
    queue = queue_in(tmp_path, attempts=2)
    for _ in range(2):
        grow_old(queue.take("a", "one"))
    assert queue.take("a", "two") is None and "died" in queue.state("a").result
    for _ in range(4):  # handed back as often as one likes: that is no death
        queue.hand_back(queue.take("b", "one"))
    assert queue.state("b").kind == "expired" and queue.take("b", "one").token == 5


def test_told_to_stop_a_worker_hands_its_cell_back(tmp_path):
    queue, taken = queue_in(tmp_path), []

    def perform(cell, lease, stopped):
        taken.append(cell)
        assert stopped()

    assert work(queue, ["a", "b"], perform, lambda: bool(taken)) == 0
    assert taken == ["a"] and queue.state("a").kind == "expired" and queue.state("b").kind == "missing"
    assert work(queue, ["a", "b"], lambda *_: 1) == 2


def test_wrong_settings_are_named(tmp_path):
    with pytest.raises(ValueError, match="lease_seconds=0"):
        queue_in(tmp_path, lease_seconds=0)


def test_results_are_json(tmp_path):
    queue = queue_in(tmp_path)
    work(queue, ["a"], lambda *_: {"x": [1, 2.5]})
    assert json.loads((tmp_path / "cells" / "a" / "done").read_text())["result"] == {"x": [1, 2.5]}
