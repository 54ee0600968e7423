"""What a person watching a run sees: one moving line, and a name for every wait."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

NAMED_AFTER = 3.0  # seconds after which a wait says what it is


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

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._silent:
            return
        with self._lock:
            self._stream.write(("\n" if self._open else "") + text + "\n")
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
    def wait(self, what: str) -> Iterator[None]:
        """Names what is waited for once it takes more than a few seconds, and says when it is over."""
        start = time.monotonic()
        timer = threading.Timer(NAMED_AFTER, lambda: self.say(f"  {what} …"))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        if time.monotonic() - start > NAMED_AFTER:
            self.say(f"  {what}: {time.monotonic() - start:.1f} s")
