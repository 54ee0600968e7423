"""A run that hangs says where and ends; one that is slow does not."""

import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jaxsrl import descendants, watchdog
from jaxsrl.checkpoint import Checkpoints
from jaxsrl.config import Survive
from jaxsrl.config.overrides import load, override
from jaxsrl.exit_codes import HUNG
from jaxsrl.watchdog import Limits, Watchdog, allowed, latest
from tests.sharing import train_in

ROOT = Path(__file__).parents[1]
PATIENCE = 100  # seconds that something may take on a machine that does other things too
SHORT = Limits(warn=0.1, hang=0.3, slow=1000.0, stuck=1000.0)


def made(tmp_path) -> tuple[Watchdog, list[str], list[int], threading.Event]:
    said, codes, left = [], [], threading.Event()

    def leave(code):
        codes.append(code)
        left.set()

    return Watchdog(stacks=tmp_path / "stacks.0.txt", say=said.append, leave=leave), said, codes, left


def test_a_step_that_hangs_ends_with_stacks_of_all_threads(tmp_path):
    watch, said, codes, left = made(tmp_path)

    def in_another_thread():
        left.wait(PATIENCE)

    thread = threading.Thread(target=in_another_thread)
    thread.start()
    with watch.watching(SHORT), watch.phase("step"):
        assert left.wait(PATIENCE)
    thread.join()
    assert codes[0] == HUNG and "warning: nothing has moved" in said[0] and "(step)" in said[0]
    assert "Leaving with code 76" in next(line for line in said if line.startswith("error"))
    text = (tmp_path / "stacks.0.txt").read_text()
    assert "in_another_thread" in text and "test_a_step_that_hangs" in text and text.count("---") >= 2
    assert [t for t in threading.enumerate() if t.name == "watchdog"] == []


def test_all_processes_write_their_stacks_where_one_hangs(tmp_path, monkeypatch):
    """The first one is not late itself, and hears of it."""
    monkeypatch.setattr(watchdog, "GRACE", 0.02)
    left, both, said = [], threading.Event(), {0: [], 1: []}

    def leave(process):
        left.append(process)
        if {*left} == {0, 1}:
            both.set()

    first, second = (
        Watchdog(
            stacks=tmp_path / f"stacks.{n}.txt", say=said[n].append, leave=lambda _, n=n: leave(n), process=n,
            processes=2,
        )
        for n in range(2)
    )  # fmt: skip
    with first.watching(SHORT), second.watching(SHORT), second.phase("step"):  # the first begins: that may take long
        assert both.wait(PATIENCE)
    assert said[0][0].startswith("error: process 1: nothing has moved") and "stacks.*.txt" in said[0][0]
    assert all("process 1: nothing" in (tmp_path / f"stacks.{n}.txt").read_text() for n in range(2))


@pytest.mark.parametrize("doing", ["begin", "compile", "evaluate", "checkpoint", "other"])
def test_what_is_slow_by_nature_is_no_alarm(tmp_path, doing):
    watch, said, codes, _ = made(tmp_path)
    with watch.watching(replace(SHORT, warn=0.02, hang=0.05)), watch.phase(doing):
        time.sleep(0.2)
    assert not said and not codes


@pytest.mark.parametrize("doing", ["begin", "compile", "evaluate", "checkpoint", "other"])
def test_what_is_slow_by_nature_ends_once_it_is_too_slow(tmp_path, doing):
    """A save that never ends is a hang, too: by the limit of its own."""
    watch, said, codes, left = made(tmp_path)
    with watch.watching(replace(SHORT, slow=0.3)), watch.phase(doing):
        assert left.wait(PATIENCE)
    assert codes[0] == HUNG and f"({doing})" in said[-1] and said[-1].startswith("error: nothing has moved")


def test_a_program_that_is_compiled_in_the_midst_of_a_step_is_no_alarm(tmp_path, monkeypatch):
    assert not watchdog._compiling()
    monkeypatch.setattr(watchdog, "COMPILER", "tests/test_watchdog.py")
    watch, said, codes, _ = made(tmp_path)
    with watch.watching(replace(SHORT, warn=0.02, hang=0.05)), watch.phase("step"):
        time.sleep(0.2)
    assert not said and not codes


def test_the_compiler_is_where_it_is_looked_for():
    import jax

    path = Path(jax.__file__).parent / "_src" / "compiler.py"
    assert path.as_posix().endswith(watchdog.COMPILER) and "def backend_compile" in path.read_text()


def test_progress_is_no_alarm_however_long_a_step_takes(tmp_path):
    watch, said, codes, _ = made(tmp_path)
    ask = watch.heard(lambda: False)
    with (
        pytest.raises(KeyError),
        watch.watching(replace(SHORT, warn=5.0, hang=10.0)),
        watch.phase("step"),
    ):
        before = watch._beat
        assert not ask() and watch._beat > before
        raise KeyError
    assert not said and not codes and not watch.stacks.exists()  # however the block is left


def test_limits_follow_the_median_step():
    limits = Limits(warn=60, hang=300, slow=3600, stuck=600)
    assert allowed(limits, "step", [], compiling=False) == (60, 300)
    assert allowed(limits, "step", [100.0, 90.0], compiling=False) == (60, 300)  # too few to know
    assert allowed(limits, "step", [100.0, 90.0, 1000.0], compiling=False) == (500, 1000)
    assert allowed(limits, "step", [1.0] * 9, compiling=True) == allowed(limits, "evaluate", [], compiling=False)


def test_when_all_have_left_adds_up():
    """Limits, the looks that they are found by, what the processes below are asked, and the first process's wait."""
    asked, limits = descendants.PATIENCE, Limits(warn=4.0, hang=10.0, slow=3600.0, stuck=60.0)
    assert latest(limits, 1) == pytest.approx(10 + 2 * 0.2 + asked)
    assert latest(limits, 2) == pytest.approx(10 + 2 * 0.2 + asked + 2 * watchdog.GRACE)
    assert latest(replace(limits, warn=9.9), 1) == pytest.approx(9.9 + 3 * 9.9 / watchdog.POLLS + 2 * asked)
    whole = Survive()
    plain = Limits(warn=whole.warn_after, hang=whole.hang_after, slow=whole.slow_after, stuck=600.0)
    assert latest(plain, 64) < 1.1 * whole.hang_after


def test_nothing_is_watched_where_it_is_switched_off(tmp_path):
    watch, said, codes, _ = made(tmp_path)
    with watch.watching(replace(SHORT, hang=0.0)), watch.phase("step"):
        assert [t for t in threading.enumerate() if t.name == "watchdog"] == []
    with pytest.raises(ValueError, match="warn_after <= hang_after"):
        Survive(warn_after=400)


def test_the_ledger_adds_up(tmp_path, monkeypatch):
    now = iter([3.0, 5.0, 10.0, 11.0, 18.0, 30.0, 42.0, 50.0])
    watch, *_ = made(tmp_path)
    watch._since = 0.0
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: next(now))
    watch.enter("other")
    with watch.phase("step"), watch.phase("checkpoint"):
        pass
    with watch.phase("step"):
        pass
    assert watch.totals() == {"begin": 3.0, "other": 2.0 + 12.0 + 8.0, "step": 5.0 + 7.0 + 12.0, "checkpoint": 1.0}


GRADES = """
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor() as pool:
        def grader():
            time.sleep(1000)
        pool.submit(grader).result()
"""
HANGS = """
import re, sys, time
from pathlib import Path
from jaxsrl.watchdog import Limits, Watchdog
def hangs_here():
    {how}
watch = Watchdog(stacks=Path(sys.argv[1]), say=lambda text: print(text, flush=True))
with watch.watching(Limits(warn=0.2, hang=0.5, slow=100.0, stuck={stuck})), watch.phase("step"):
    hangs_here()
"""


@pytest.mark.parametrize("how, stuck, code", [
    ("time.sleep(1000)", 1000.0, HUNG),
    (GRADES, 1000.0, HUNG),  # a grader that never answers, in a thread that the loop waits for
    ("re.match(r'(a+)+$', 'a' * 64 + 'b')", 1.0, 1),  # holds Python's lock: no thread of it runs any more
])  # fmt: skip
def test_a_process_that_hangs_ends(tmp_path, how, stuck, code):
    path = tmp_path / "stacks.txt"
    command = [sys.executable, "-c", HANGS.format(how=how, stuck=stuck), str(path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == code and "hangs_here" in path.read_text()
    assert how is not GRADES or "in grader" in path.read_text()


@pytest.mark.parametrize("where", ["optimizer_step", "save"])
def test_a_run_that_hangs_is_heard(where, tmp_path, monkeypatch):
    """Through the loop: the third step, or the first save, waits until its own stack is in the log."""
    short = Survive(warn_after=0.5, hang_after=1.0, slow_after=1.0 if where == "save" else 1000.0)
    config = override(load(ROOT / "tests" / "tiny_config.py"), ["stages.sft.validate.every=0"])
    config = replace(config, runs=str(tmp_path), stages=config.stages[:1], survive=short)
    stacks, codes, ask = tmp_path / "tiny" / "logs" / "attempt_1" / "stacks.0.txt", [], []

    def hangs_here():
        end = time.monotonic() + PATIENCE
        while not (codes and "hangs_here" in stacks.read_text()) and time.monotonic() < end:
            time.sleep(0.05)

    def stop():
        ask.append(1)
        if len(ask) == 3 and where == "optimizer_step":
            hangs_here()
        return False

    def wait(self):
        if where == "save" and self.failures == 0:
            self.failures = 1
            hangs_here()
        waits(self)

    waits = Checkpoints.wait
    monkeypatch.setattr(Checkpoints, "wait", wait)
    train_in(config, lambda run: replace(run, watch=replace(run.watch, leave=codes.append)), stop)
    assert set(codes) == {HUNG} and re.search(f"hangs_here.* in {where}\n", stacks.read_text(), re.S)
    assert "nothing has moved" in (stacks.parent / "log.txt").read_text()
