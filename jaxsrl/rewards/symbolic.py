"""Algebra on final answers by math-verify, where no input can hang the run, eat its memory or execute anything."""

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from jaxsrl.descendants import answering

PACKAGE = "math_verify"
INSTALL = 'pip install "math-verify>=0.9,<0.10" "sympy>=1.14,<1.15"'
SERVER = Path(__file__).with_name("math_verify_server.py")


@dataclass(frozen=True, kw_only=True)
class Symbolic:
    """math-verify decides about pairs that the normal form does not understand; each has a limit of its own.

    Args:
      deadline: seconds of a worker's processor time for one pair.
      memory_mb: mebibytes that a worker may take beyond what it begins with.
      workers: processes that compare at a time.
      recycle: pairs after which a worker is replaced by a fresh one.
    Raises: ValueError for a wrong setting.
    """

    deadline: float = 1.0
    memory_mb: int = 1024
    workers: int = 2
    recycle: int = 1000

    def __post_init__(self):
        if not 0.01 <= self.deadline <= 600:
            raise ValueError(f"deadline must be in 0.01..600 seconds, got {self.deadline}")
        for name, least in (("memory_mb", 64), ("workers", 1), ("recycle", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}")

    def check_installed(self) -> None:
        """Raises: ValueError where math-verify is not installed, with the command that installs it."""
        if find_spec(PACKAGE) is None:
            raise ValueError(f"symbolic needs math-verify, which is not installed: {INSTALL}; or set symbolic=None")

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
        """Whether (found, key) are the same, for each pair; None where time or memory ran out.

        Raises: RuntimeError if the server cannot be started, or dies twice.
        """
        if not pairs:
            return []
        verdicts = _server(self).ask(pairs)
        return [verdict if isinstance(verdict, bool) else None for verdict in verdicts]


@cache
def _server(settings: Symbolic) -> "_Server":
    """One for all rewards of equal settings, started when first asked."""
    return _Server(settings)


class _Server:
    """The other end of `math_verify_server.py`.

    Started by `exec`, not by a fork of this process: jax's threads do not matter to it, whenever it is started.
    """

    def __init__(self, settings: Symbolic):
        self.settings, self.lock, self.process = settings, Lock(), None
        atexit.register(self.close)

    def ask(self, pairs: Sequence[tuple[str, str]]) -> list:
        with self.lock:
            for _ in range(2):
                if self.process is None or self.process.poll() is not None:
                    self._start()
                try:
                    self.process.stdin.write(json.dumps({"pairs": [list(pair) for pair in pairs]}) + "\n")
                    self.process.stdin.flush()
                    line = self.process.stdout.readline()
                except BrokenPipeError:
                    line = ""
                if line:
                    return json.loads(line)
            code = self.process.wait()
        raise RuntimeError(f"the server of math-verify died twice on {len(pairs)} pairs, exit code {code}")

    def _start(self) -> None:
        given = asdict(self.settings)
        given["memory"] = given.pop("memory_mb") << 20
        stacks = os.pipe()  # whoever asks for its stacks opens the reading end again
        # -P: its folder holds files named like modules. One hash seed: sympy's orders, and so its verdicts, repeat.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(SERVER), json.dumps(given)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, encoding="utf-8", start_new_session=True, pass_fds=stacks[1:],
            env={**os.environ, "PYTHONHASHSEED": "0", **answering(stacks[1])},
        )  # fmt: skip
        for end in stacks:
            os.close(end)
        if self.process.stdout.readline() != "ready\n":
            code = self.process.wait()
            raise RuntimeError(f"the server of math-verify did not start, exit code {code}; is it whole? {INSTALL}")

    def close(self) -> None:
        """Ends the server and its workers."""
        with self.lock:
            if self.process is not None:
                self.process.stdin.close()
                self.process.kill()
                self.process.wait()
