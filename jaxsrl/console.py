"""What a person watching a run sees: one moving line, and a name for every wait."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

NAMED_AFTER = 3.0  # seconds after which a wait says what it is
MOVES_EVERY, SAID_EVERY = 1.0, 30.0  # seconds between signs of life in a wait: on a terminal, and elsewhere


class Console:
    """Writes to a stream and keeps the attempt's log; on a terminal the progress line is rewritten in place."""

    def __init__(
        self, stream: TextIO | None = None, log: TextIO | None = None, *, line_every: float = 10.0, silent: bool = False
    ):
        self._silent = silent
        self._stream, self._log, self._every = stream or sys.stderr, log, line_every
        self._terminal = self._stream.isatty()
        self._last = -float("inf")
        self._open = False  # a progress line without its newline stands on the terminal
        self._lock = threading.Lock()

    def say(self, text: str, *, over: bool = False) -> None:
        """A line that stays; `over` writes it over the one that moves."""
        if self._silent:
            return
        with self._lock:
            self._stream.write(("\r\x1b[2K" if over else "\n") * self._open + text + "\n")
            self._stream.flush()
            self._open = False
            if self._log:
                self._log.write(text + "\n")
                self._log.flush()

    def line(self, text: str, *, last: bool = False) -> None:
        """The progress line; off a terminal it is written now and then, and at the end of a stage."""
        if self._silent:
            return
        now = time.monotonic()
        if self._log:
            self._log.write(text + "\n")
        with self._lock:
            if self._terminal:
                self._stream.write("\r\x1b[2K" + text)
                self._open = True
            elif last or now - self._last >= self._every:
                self._stream.write(text + "\n")
            else:
                return
            self._stream.flush()
            self._last = now

    @contextmanager
    def wait(self, what: str, how_far: Callable[[], str] = lambda: "") -> Iterator[None]:
        """Names what is waited for once it takes more than a few seconds, says that it still goes on, and when it is
        over: on a terminal every second in one line that moves, elsewhere every half minute.

        Args:
          how_far: what has been reached, in a few words; called by another thread.
        """
        start, over = time.monotonic(), threading.Event()

        def watch() -> None:
            if over.wait(NAMED_AFTER):
                return
            self.say(f"  {what} …")
            while not over.wait(MOVES_EVERY if self._terminal else SAID_EVERY):
                seconds, reached = time.monotonic() - start, how_far()
                text = f"  {what} … {seconds:.0f} s" + (f", {reached}" if reached else "")
                self._moving(text) if self._terminal else self.say(text)

        watcher = threading.Thread(target=watch, name="wait", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
        if time.monotonic() - start > NAMED_AFTER:
            self.say(f"  {what}: {time.monotonic() - start:.1f} s", over=True)

    def _moving(self, text: str) -> None:
        """A line in place of the one that moves, for the terminal alone."""
        if self._silent:
            return
        with self._lock:
            self._stream.write("\r\x1b[2K" + text)
            self._stream.flush()
            self._open = True
