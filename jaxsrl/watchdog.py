"""What a run is doing, and for how long: a ledger of its time, and an end where nothing moves any more.

A step, a loader, a grader or a save that hangs raises nothing, and of several processes the others wait for it for
ever. A thread watches, writes the stacks of all threads to the log, and of the processes that this one has started, and
later ends the process. Of several, the first that finds a hang writes a file beside its stacks; the others look for it,
write their stacks too, and all end alike.
"""

import faulthandler
import os
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from jaxsrl.descendants import PATIENCE, stacks_of_descendants
from jaxsrl.exit_codes import HUNG

WARN_STEPS, HANG_STEPS = 5, 10  # median steps that a step may take, at least
KNOWN_AFTER = 3  # steps, until there is a median
POLLS = 20  # times that the thread looks before the first limit
GRACE = 1.0  # seconds, at least, until a process that ends is missed by the others, who are to end by themselves
COMPILER = "jax/_src/compiler.py"  # a frame of this file: a program is being compiled, in the midst of a step


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds without progress, see `Survive`; `hang` 0 watches nothing.

    Args:
      stuck: that native code may keep Python's lock, so that no thread of it runs, the watching one included.
    """

    warn: float
    hang: float
    slow: float
    stuck: float


@dataclass(kw_only=True)
class Watchdog:
    """Of one attempt of a run, in one process. It counts from when it is made.

    Args:
      stacks: file that stacks are appended to.
      say: told what a person should know.
      leave: ends the process with a code; nothing else of it runs any more.
      process, processes: which of how many this is; they find each other's word in the folder of `stacks`.
      began: on the monotonic clock.
      ledger: seconds by what was done, but for what is being done now.
    """

    stacks: Path
    say: Callable[[str], None]
    leave: Callable[[int], None] = os._exit
    process: int = 0
    processes: int = 1
    began: float = field(default_factory=time.monotonic)
    ledger: dict[str, float] = field(default_factory=dict)
    _doing: str = "begin"
    _since: float = field(default_factory=time.monotonic)  # in this phase
    _beat: float = field(default_factory=time.monotonic)
    _steps: deque = field(default_factory=lambda: deque(maxlen=64))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _warned: float = -1.0  # beat that a warning was given after
    _file: TextIO | None = None  # of stacks

    def enter(self, name: str) -> str:
        """From now on the run is doing this. Returns what it was doing."""
        with self._lock:
            now, before = time.monotonic(), self._doing
            self.ledger[before] = self.ledger.get(before, 0.0) + now - self._since
            if before == "step":
                self._steps.append(now - self._since)
            self._doing, self._since, self._beat = name, now, now
        return before

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Within it the run is doing this, then again what it did before."""
        before = self.enter(name)
        try:
            yield
        finally:
            self.enter(before)

    def beat(self) -> None:
        """There is progress."""
        self._beat = time.monotonic()

    def heard(self, ask: Callable[[], bool]) -> Callable[[], bool]:
        """The same question; that it is asked is progress."""

        def asked() -> bool:
            self.beat()
            return ask()

        return asked

    def totals(self) -> dict[str, float]:
        """Seconds by what was done, up to now."""
        with self._lock:
            now = time.monotonic() - self._since
            found = self.ledger | {self._doing: self.ledger.get(self._doing, 0.0) + now}
        return {name: round(seconds, 3) for name, seconds in found.items()}

    @contextmanager
    def watching(self, limits: Limits) -> Iterator[None]:
        """The thread runs while the block does."""
        if not limits.hang:
            yield
            return
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(limits, over), name="watchdog", daemon=True)
        self.stacks.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.stacks.open("a") as self._file:
                self.beat()
                self._arm(limits)
                thread.start()
                try:
                    yield
                finally:
                    over.set()
                    thread.join()
                    faulthandler.cancel_dump_traceback_later()
        finally:
            if not self.stacks.stat().st_size:
                self.stacks.unlink()

    def _watch(self, limits: Limits, over: threading.Event) -> None:
        every = limits.warn / POLLS
        while not over.wait(every):
            self._arm(limits)
            with suppress(OSError):  # a full disk ends nothing here
                self._look(limits)

    def _arm(self, limits: Limits) -> None:
        """Native code that never gives Python's lock back stops the thread too: then this timer runs out, and exits."""
        faulthandler.dump_traceback_later(limits.stuck, exit=True, file=self._file)

    def _look(self, limits: Limits) -> None:
        beat, doing, idle = self._beat, self._doing, time.monotonic() - self._beat
        warn, hang = allowed(limits, doing, list(self._steps), compiling=False)
        if idle >= min(warn, hang) and doing == "step" and _compiling():
            warn, hang = allowed(limits, doing, list(self._steps), compiling=True)
        why = f"nothing has moved for {idle:.0f} s ({doing})"
        told = self._told.read_text() if self.processes > 1 and self._told.exists() else ""
        if idle >= hang or told:
            self._end(told or why, limits.warn / POLLS)
        elif idle >= warn and self._warned != beat:
            self._warned = beat
            self._dump(why)
            self.say(f"warning: {why}; stacks of all threads are in {self.stacks}. The run ends after {hang:.0f} s")

    @property
    def _told(self) -> Path:
        """The word of the first process that found a hang."""
        return self.stacks.with_name("hung.txt")

    def _end(self, why: str, every: float) -> None:
        """Writes where everything stands, and leaves, the first process last.

        Without it the others are ended by JAX, with a code of its own; and where one is missed, they raise.
        """
        if self.processes > 1:
            with suppress(OSError), self._told.open("x") as file:  # there already: another was faster
                file.write(why := f"process {self.process}: {why}")
        self._dump(why)
        where = self.stacks if self.processes == 1 else self.stacks.with_name("stacks.*.txt")
        self.say(
            f"error: {why}; stacks of all threads are in {where}. Leaving with code {HUNG}; the same command goes on "
            "from the last checkpoint"
        )
        sys.stderr.flush()
        time.sleep(_parting(every, self.process, self.processes))
        self.leave(HUNG)

    def _dump(self, why: str) -> None:
        with suppress(OSError):
            self._file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}, process {os.getpid()}: {why}\n")
            self._file.flush()
            faulthandler.dump_traceback(file=self._file, all_threads=True)
            self._file.writelines(stacks_of_descendants())
            self._file.flush()


def latest(limits: Limits, processes: int) -> float:
    """Seconds without progress in a step, before there is a median, after which every process has left, at the most.

    What the thread itself computes, and how long it waits for a core, is not in it.
    """
    every = limits.warn / POLLS
    warned = limits.warn + every + PATIENCE  # a look waits for the stacks of the one before
    return max(limits.hang, warned) + 2 * every + PATIENCE + _parting(every, 0, processes)


def _parting(every: float, process: int, processes: int) -> float:
    """Seconds from a process's last word until it leaves: the others are to have looked, and the first leaves last."""
    return max(2 * every, GRACE) * (1 if process else 2) if processes > 1 else 0.0


def allowed(limits: Limits, doing: str, steps: list[float], *, compiling: bool) -> tuple[float, float]:
    """Seconds without progress until a warning, and until the end: a step is measured by those before it."""
    if doing != "step" or compiling:
        return limits.slow / 2, limits.slow
    median = statistics.median(steps) if len(steps) >= KNOWN_AFTER else 0.0
    return max(limits.warn, WARN_STEPS * median), max(limits.hang, HANG_STEPS * median)


def _compiling() -> bool:
    """Whether some thread is in JAX's compiler."""
    for frame in sys._current_frames().values():
        while frame is not None:
            if frame.f_code.co_filename.endswith(COMPILER):
                return True
            frame = frame.f_back
    return False
