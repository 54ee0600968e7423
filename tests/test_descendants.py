"""Where a process that was started hangs, its stacks are in the log too."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxsrl import descendants
from jaxsrl.descendants import answering, stacks_of_descendants
from jaxsrl.watchdog import Limits, Watchdog

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
BLOCKED = """
import faulthandler, os, signal, sys, time
faulthandler.register(signal.SIGUSR1, file=int(os.environ["JAXSRL_STACKS"]))
def hangs_below():
    time.sleep(1000)
def forked():
    hangs_below()
if not os.fork():
    forked()
print("ready", flush=True)
hangs_below()
"""


@pytest.fixture
def blocked():
    """A process that answers and waits, with a fork of it that does."""
    read, write = os.pipe()
    command = [sys.executable, "-c", BLOCKED]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, pass_fds=(write,), env={**os.environ, **answering(write)}, process_group=0
    )
    os.close(read)
    os.close(write)
    assert process.stdout.readline() == b"ready\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.fixture
def deaf():
    """One that was told of the variable, by its parent's environment, but not that it is to listen."""
    process = subprocess.Popen(["sleep", "1000"], env={**os.environ, **answering(1)})
    yield process
    process.kill()
    process.wait()


def of(pid: int) -> str:
    return next(text for text in stacks_of_descendants() if text.startswith(f"--- process {pid} below {os.getpid()}, "))


def test_stacks_of_a_process_and_of_its_fork(blocked, deaf):
    texts = list(stacks_of_descendants())
    parent = of(blocked.pid)
    assert "in hangs_below" in parent and "in forked" not in parent and "-c import faulthandler" in parent[:200]
    assert sum("in forked" in text for text in texts) == 1
    named = of(deaf.pid)
    assert named.count("\n") == 1 and "sleep 1000" in named and deaf.poll() is None  # SIGUSR1 would have ended it
    os.kill(deaf.pid, signal.SIGUSR1)  # the control
    assert deaf.wait(100) == -signal.SIGUSR1


def test_one_that_does_not_answer_is_said(blocked, monkeypatch):
    monkeypatch.setattr(descendants, "ANSWER", 0.1)
    os.kill(blocked.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, blocked.pid, os.WSTOPPED)
    text = of(blocked.pid)
    assert "T (stopped)" in text and text.endswith("it does not answer\n")


def test_they_are_in_the_log_of_a_run_that_hangs(blocked, tmp_path):
    left = threading.Event()
    watch = Watchdog(stacks=tmp_path / "stacks.0.txt", say=lambda _: None, leave=lambda _: left.set())
    with watch.watching(Limits(warn=0.1, hang=0.2, slow=1000.0, stuck=1000.0)), watch.phase("step"):
        assert left.wait(100)
    text = (tmp_path / "stacks.0.txt").read_text()
    assert "test_they_are_in_the_log" in text and "in hangs_below" in text
