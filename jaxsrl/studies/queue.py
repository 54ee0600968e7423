"""Who works on which cell: leases with fencing tokens in a folder that all workers see. No server, no lock.

    cells/CELL/lease.1      made by exactly one worker, touched while it works; expired when it has not been for a while
    cells/CELL/lease.2      the next one's. The highest number holds the cell: it is the fencing token
    cells/CELL/1/, 2/       what each holder writes: a worker that wakes up past its lease writes into its own folder
    cells/CELL/failed.2     why that attempt failed
    cells/CELL/done         the result, linked into place once: whoever comes second is told so

Two rules of POSIX carry it: a link to a name that exists fails, and it is made whole or not at all. Ages are those that
the file server's clock gives, so that clocks of machines may differ.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal


class Lost(RuntimeError):
    """The cell has another holder, or has been finished by one: what was done here does not count."""


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right to work on a cell, as long as nobody holds a higher token."""

    cell: Path
    token: int

    @property
    def folder(self) -> Path:
        """Where its holder writes."""
        return self.cell / str(self.token)

    @property
    def before(self) -> Path | None:
        """What the newest earlier holder left, if it left something."""
        left = (self.cell / str(token) for token in range(self.token - 1, 0, -1))
        return next((folder for folder in left if folder.is_dir()), None)


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a cell stands.

    Args:
      age: seconds since its holder was last heard of; 0 without one.
      worker: who holds or finished it.
      result: what was handed in, for `done`; why it failed, for `failed`.
    """

    kind: Literal["missing", "running", "expired", "failed", "done"]
    token: int = 0
    age: float = 0.0
    worker: str = ""
    result: Any = None


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The cells of a study.

    Args:
      folder: on a POSIX file system that all workers share.
      lease_seconds: a holder unheard of for so long has lost its cell. On NFS more than the attribute cache's 60.
      attempts: workers that may die on one cell before it counts as failed: it may be what kills them.
    """

    folder: Path
    lease_seconds: float = 300.0
    attempts: int = 10

    def __post_init__(self):
        if self.lease_seconds <= 0 or self.attempts < 1:
            raise ValueError(f"lease_seconds must be > 0, attempts >= 1: {self.lease_seconds=} {self.attempts=}")

    def state(self, cell: str) -> State:
        place = self.folder / cell
        if (found := _read(place / "done")) is not None:
            return State(kind="done", token=found["token"], worker=found["worker"], result=found["result"])
        token = _highest(place)
        if token == 0:
            return State(kind="missing")
        if (failed := _read(place / f"failed.{token}")) is not None:
            return State(kind="failed", token=token, worker=failed["worker"], result=failed["error"])
        lease = place / f"lease.{token}"
        age = self._now() - _modified(lease)
        kind = "running" if age < self.lease_seconds else "expired"
        if kind == "expired" and self._died(place, token) >= self.attempts:
            said = f"{self.attempts} workers died of it or on it: see what they left, then delete {place}"
            return State(kind="failed", token=token, age=age, result=said)
        return State(kind=kind, token=token, age=age, worker=(_read(lease) or {}).get("worker", ""))

    def take(self, cell: str, worker: str, known_failed: int = 0) -> Lease | None:
        """The cell's next lease, where it has no living holder and is not done; else None.

        Args:
          known_failed: a failed attempt up to this token may be repeated.
        """
        state = self.state(cell)
        if state.kind in ("done", "running"):
            return None
        if state.kind == "failed" and state.token > known_failed:
            return None
        lease = Lease(cell=self.folder / cell, token=state.token + 1)
        lease.cell.mkdir(parents=True, exist_ok=True)
        return lease if _link(lease.cell / f"lease.{lease.token}", {"worker": worker}) else None

    def hand_in(self, lease: Lease, worker: str, result: Any) -> None:
        """Makes the result the cell's. Of several holders that try exactly one succeeds.

        Raises: Lost if the lease has been overtaken, or another result is there.
        """
        self.check(lease)
        done = {"token": lease.token, "worker": worker, "result": result}
        if not _link(lease.cell / "done", done):
            raise Lost(f"{lease.cell} was finished by another worker")

    def hand_back(self, lease: Lease) -> None:
        """Gives the cell up, at once free for others."""
        os.utime(lease.cell / f"lease.{lease.token}", (0, 0))

    def fail(self, lease: Lease, worker: str, error: str) -> None:
        """Gives the cell up: nobody takes it again before somebody asks for that."""
        _link(lease.cell / f"failed.{lease.token}", {"worker": worker, "error": error})

    def check(self, lease: Lease) -> None:
        """Raises Lost where somebody has taken the cell over, or finished it."""
        if _highest(lease.cell) != lease.token or (lease.cell / "done").exists():
            raise Lost(f"{lease.cell} has a newer holder than {lease.token}")

    @contextmanager
    def kept(self, lease: Lease) -> Iterator[Callable[[], bool]]:
        """Renews the lease in the background. Yields what says whether it was lost."""
        ended, lost = Event(), Event()

        def renew() -> None:
            while not ended.wait(self.lease_seconds / 5):
                try:
                    self.check(lease)
                    os.utime(lease.cell / f"lease.{lease.token}")
                except (Lost, FileNotFoundError):
                    return lost.set()
                except OSError:  # the file server may be back before the lease is over
                    continue

        thread = Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield lost.is_set
        finally:
            ended.set()
            thread.join()

    def _died(self, place: Path, token: int) -> int:
        """Leases that ended without a word: neither failed nor handed back."""
        silent = [k for k in range(1, token + 1) if not (place / f"failed.{k}").exists()]
        return sum(_modified(place / f"lease.{k}") > 0 for k in silent)

    def _now(self) -> float:
        """The file server's time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        probe = self.folder / f".clock.{uuid.uuid4().hex}"
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)


def worker_name() -> str:
    """Machine and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def work(
    queue: Queue, cells: Sequence[str], perform: Callable[[str, Lease, Callable[[], bool]], Any],
    stop: Callable[[], bool] = lambda: False, *, worker: str | None = None, wait: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> int:  # fmt: skip
    """Takes free cells, in order, until none is left. Returns how many results were handed in here.

    A cell that failed before this call is tried again, once.

    Args:
      perform: (cell, lease, stopped) -> a JSON value; it writes into `lease.folder` alone and gives up soon after
        `stopped()` is true.
      stop: this worker was told to end: it hands its cell back and takes no other.
      wait: for cells that others hold, as those may die; else they are left to them.
    """

    def alone(leases: Sequence[Lease], stopped: Callable[[], bool]) -> list[Any]:
        return [perform(lease.cell.name, lease, stopped) for lease in leases]

    return work_groups(queue, [(cell,) for cell in cells], alone, stop, worker=worker, wait=wait, say=say)


def work_groups(
    queue: Queue, groups: Sequence[Sequence[str]], perform: Callable[[Sequence[Lease], Callable[[], bool]], list[Any]],
    stop: Callable[[], bool] = lambda: False, *, worker: str | None = None, wait: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> int:  # fmt: skip
    """As `work`, where the cells of a group that are free are taken and performed together.

    Args:
      perform: (leases, stopped) -> a JSON value for each, None for one that was told to stop. `stopped()` is true once
        all of them are lost; one that is lost alone is not counted, and the others are.
    """
    worker = worker or worker_name()
    cells = [cell for group in groups for cell in group]
    failed = {cell: state.token for cell in cells if (state := queue.state(cell)).kind == "failed"}
    count = 0
    while not stop():
        taken = False
        for group in groups:
            found = [None if stop() else queue.take(cell, worker, failed.get(cell, 0)) for cell in group]
            leases = [lease for lease in found if lease is not None]
            if leases:
                taken = True
                count += _perform(queue, leases, perform, stop, worker, say)
        if not taken and not (wait and any(queue.state(cell).kind in ("running", "expired") for cell in cells)):
            break
        if not taken:
            time.sleep(min(queue.lease_seconds / 5, 10.0))
    return count


def _perform(queue: Queue, leases: Sequence[Lease], perform, stop: Callable[[], bool], worker: str, say) -> int:
    for lease in leases:
        lease.folder.mkdir(exist_ok=True)
    try:
        with ExitStack() as held:
            lost = [held.enter_context(queue.kept(lease)) for lease in leases]
            results = perform(leases, lambda: stop() or all(one() for one in lost))
    except KeyboardInterrupt:
        for lease in leases:
            queue.hand_back(lease)
        raise
    except Exception as error:  # of these cells: the others go on, and they say what happened
        for lease in leases:
            queue.fail(lease, worker, f"{type(error).__name__}: {error}")
            say(f"{lease.cell.name} failed: {type(error).__name__}: {error}")
        return 0
    return sum(_finish(queue, lease, result, stop, worker, say) for lease, result in zip(leases, results, strict=True))


def _finish(queue: Queue, lease: Lease, result: Any, stop: Callable[[], bool], worker: str, say) -> int:
    if stop() and result is None:
        queue.hand_back(lease)
        return 0
    try:
        queue.hand_in(lease, worker, result)
    except Lost as error:
        say(f"{error}: not counted here")
        return 0
    return 1


def _highest(cell: Path) -> int:
    """The token of the newest lease; 0 without one."""
    try:
        names = os.listdir(cell)
    except FileNotFoundError:
        return 0
    return max((int(name.removeprefix("lease.")) for name in names if name.startswith("lease.")), default=0)


def _link(path: Path, value: Any) -> bool:
    """Makes a file with this content, whole; False where there is one of that name."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _modified(path: Path) -> float:
    with path.open("rb") as file:  # on NFS an open asks the server, a stat alone may not
        return os.fstat(file.fileno()).st_mtime
