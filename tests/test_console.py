"""Off a terminal few lines, on one a line that moves; every long wait has a name."""

import io
import re
import threading
import time

import pytest

from jaxsrl import console
from jaxsrl.console import Console

pytestmark = pytest.mark.fast
PATIENCE = 100  # seconds that a thread may take on a machine that does other things too


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_off_a_terminal_lines_come_now_and_then():
    out, log = io.StringIO(), io.StringIO()
    shown = Console(out, log, line_every=1000)
    for step in range(5):
        shown.line(f"step {step}", last=step == 4)
    shown.say("done")
    assert out.getvalue() == "step 0\nstep 4\ndone\n"
    assert log.getvalue() == "".join(f"step {step}\n" for step in range(5)) + "done\n"


def test_on_a_terminal_one_line_moves():
    out = Terminal()
    shown = Console(out)
    shown.line("step 1")
    shown.line("step 2")
    shown.say("done")
    assert out.getvalue() == "\r\x1b[2Kstep 1\r\x1b[2Kstep 2\ndone\n"


def test_long_wait_is_named_while_it_lasts(monkeypatch):
    monkeypatch.setattr(console, "NAMED_AFTER", 0.05)
    out = io.StringIO()
    with Console(out).wait("compiling"):
        end = time.monotonic() + PATIENCE
        while not out.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
        assert out.getvalue().startswith("  compiling …\n")
    assert "\n  compiling: " in out.getvalue()


def test_three_seconds_are_long_and_a_short_wait_says_nothing(monkeypatch):
    assert console.NAMED_AFTER == 3.0
    monkeypatch.setattr(console, "NAMED_AFTER", float(PATIENCE))
    out = io.StringIO()
    with Console(out).wait("quick"):
        pass
    assert out.getvalue() == ""


def test_a_long_wait_shows_how_far_it_is(monkeypatch):
    """On a terminal in one line that moves and is written over; elsewhere in lines of their own."""
    monkeypatch.setattr(console, "NAMED_AFTER", 0.02)
    monkeypatch.setattr(console, "MOVES_EVERY", 0.02)
    monkeypatch.setattr(console, "SAID_EVERY", 0.02)
    for out in (Terminal(), io.StringIO()):
        with Console(out).wait("evaluating", lambda: "call 3"):
            end = time.monotonic() + PATIENCE
            while "call 3" not in out.getvalue() and time.monotonic() < end:
                time.sleep(0.01)
        moves = "\r\x1b[2K" if out.isatty() else ""
        assert re.search(rf"{re.escape(moves)}  evaluating … \d+ s, call 3", out.getvalue())
        assert out.getvalue().endswith(" s\n") and f"{moves}  evaluating: " in out.getvalue()


def test_a_wait_that_is_left_by_an_error_ends_its_thread():
    with pytest.raises(ValueError), Console(io.StringIO()).wait("reading"):
        raise ValueError
    assert not any(thread.name == "wait" for thread in threading.enumerate())
