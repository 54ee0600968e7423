"""Stacks of the processes that this one has started, and of those that these have: where one hangs, all wait for it.

A process that answers says so when it is started, with `answering`; any other is named, and left in peace. Linux only:
elsewhere there are none to be seen.
"""

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

VARIABLE = "JAXSRL_STACKS"  # the descriptor that a process writes its stacks to when it is sent SIGUSR1
PROC = Path("/proc")
ANSWER, LOOK = 1.0, 0.01  # seconds that an answer may take, and between looks whether it is over
PATIENCE = 2.0  # seconds that all answers may take together


def answering(descriptor: int) -> dict[str, str]:
    """For the environment of a process that answers SIGUSR1, and so do its forks, with its stacks.

    It is to call `faulthandler.register(signal.SIGUSR1, file=descriptor)`.

    Args:
      descriptor: of the writing end of a pipe that the process is given. Whoever asks opens the other end.
    """
    return {VARIABLE: str(descriptor)}


def stacks_of_descendants() -> Iterator[str]:
    """A text for each process below this one: who it is, how it stands and, where it answers, its stacks."""
    end = time.monotonic() + PATIENCE
    for pid in _descendants():
        with suppress(OSError):  # it has ended meanwhile
            said = f"--- process {pid} below {_parent(pid)}, {_state(pid)}: {_command(pid)[:200]}\n"
            yield said + _asked(pid, end)


def _descendants() -> list[int]:
    """Parents before their children."""
    below: dict[int, list[int]] = {}
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):
            below.setdefault(_parent(int(folder.name)), []).append(int(folder.name))
    found = sorted(below.get(os.getpid(), ()))
    for pid in found:  # grows meanwhile
        found += sorted(below.get(pid, ()))
    return found


def _parent(pid: int) -> int:
    # PID (NAME) STATE PARENT …; the name may hold anything
    return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def _state(pid: int) -> str:
    """`S (sleeping) in do_poll`, where the kernel says in what."""
    state = _status(PROC / str(pid)).get("State", "?")
    with suppress(OSError):
        waits = (PROC / str(pid) / "wchan").read_text()
        return f"{state} in {waits}" if waits not in ("", "0") else state
    return state


def _status(folder: Path) -> dict[str, str]:
    lines = (folder / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _command(pid: int) -> str:
    return " ".join((PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split())


def _asked(pid: int, end: float) -> str:
    """What the process answers; nothing where it does not listen, which the signal would end."""
    given = (PROC / str(pid) / "environ").read_bytes().decode(errors="replace").split("\0")
    descriptor = next((x.removeprefix(f"{VARIABLE}=") for x in given if x.startswith(f"{VARIABLE}=")), "")
    if not descriptor.isdigit() or not _has(_status(PROC / str(pid)), "SigCgt"):
        return ""
    # A path of /proc opens the pipe itself, whoever else has it open.
    reading = os.open(PROC / str(pid) / "fd" / descriptor, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _read(reading)  # what another did not say in time
        os.kill(pid, signal.SIGUSR1)
        said, end, answers = b"", min(end, time.monotonic() + ANSWER), True
        while answers and time.monotonic() < end:
            answers = _answers(pid)  # before what it has written is read
            said += _read(reading)
            time.sleep(LOOK)
    finally:
        os.close(reading)
    return said.decode(errors="replace") if said and not answers else "it does not answer\n"


def _answers(pid: int) -> bool:
    """Whether the signal still waits or is being answered: until then the kernel keeps it from coming again."""
    status = map(_status, (PROC / str(pid) / "task").iterdir())
    return any(_has(one, name) for one in status for name in ("SigPnd", "ShdPnd", "SigBlk"))


def _has(status: dict[str, str], signals: str) -> bool:
    return bool(int(status.get(signals, "0"), 16) >> (signal.SIGUSR1 - 1) & 1)


def _read(descriptor: int) -> bytes:
    """What is there now."""
    found = b""
    while select.select([descriptor], [], [], 0)[0] and (more := os.read(descriptor, 1 << 16)):
        found += more
    return found
