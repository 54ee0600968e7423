"""A run that is kept in a store: trained in a folder of this machine, each checkpoint uploaded once it is whole."""

import fcntl
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxsrl.checkpoint import SaveError
from jaxsrl.console import Console
from jaxsrl.processes import Stopped, broadcast_from_first, from_each, is_first
from jaxsrl.stores.lease import Held, Hold, Lost, take
from jaxsrl.stores.objects import Halted, Objects, StoreError, cache_folder, is_stored, parts_of
from jaxsrl.stores.restore import restored
from jaxsrl.stores.snapshot import PARTS, Changing, Uploader, newest, stage

KEEP = 2  # snapshots, as a run folder keeps checkpoints
LOOK = 0.5  # seconds between looks for a new checkpoint
LONGEST = 60.0  # seconds between two tries of what failed
AT_THE_END = 600.0  # seconds that the last snapshot is tried for
CHANGES = 20  # tries in a row that may find a file being written; from then on it is an error


@dataclass(kw_only=True)
class Kept:
    """Where a run is trained, and what is to be said of it. Without a store that is all.

    Args:
      said: lines about how the folder came to be as it is.
    """

    folder: Path
    said: tuple[str, ...] = ()
    keeper: "Keeper | None" = None

    @contextmanager
    def storing(self, say: Callable[[str], None]) -> Iterator[None]:
        """What the run saves while the block runs is uploaded; `say` is told what a person should know."""
        if self.keeper is None:
            yield
            return
        for line in self.said:
            say(line)
        with self.keeper.uploading(say):
            yield

    def asked(self, stop: Callable[[], bool]) -> Callable[[], bool]:
        """The same question; it raises where the run must not go on: SaveError, Lost."""
        if self.keeper is None:
            return stop
        return lambda: self.keeper.check() or stop()


@contextmanager
def kept(runs: str, name: str, most: int) -> Iterator[Kept]:
    """The folder of a run. One in a store is held while the block runs, and is complete there when it has ended.

    Args:
      runs: folder or address of all runs.
      most: checkpoints in a row that the store may not take; training goes on until then.
    Raises: Held where another one writes the run; SaveError where the last snapshot cannot be stored; StoreError.
    """
    if not is_stored(runs):
        yield Kept(folder=Path(runs) / name)
        return
    address = f"{runs.rstrip('/')}/{name}"
    folder = cache_folder() / "runs" / Path(*parts_of(address))
    with ExitStack() as held:
        keepers: list[Keeper] = []

        def begin() -> dict[str, Any]:
            disk = held.enter_context(_disk(folder))
            keeper = held.enter_context(_keeping(Objects.at(address), folder, disk, most))
            keepers.append(keeper)
            with Console().wait(f"reading {address}"):
                found = restored(keeper.hold, folder)
            keeper.done, keeper.good = found.done, found.good
            return {"disk": disk, "said": found.said}

        told = broadcast_from_first(begin)
        _check_shared(folder, told["disk"])
        keeper = keepers[0] if keepers else None
        try:
            yield Kept(folder=folder, said=tuple(told["said"]), keeper=keeper)
        except Stopped:  # in all processes
            _finish(keeper)
            raise
        except Exception:
            if keeper is not None:
                with suppress(Lost):  # the first error is the one to be told of
                    keeper.finish(0.0)
            raise
        _finish(keeper)


def _finish(keeper: "Keeper | None") -> None:
    """All processes wait for the first one to store the end: it is ended where they leave it alone."""
    with Console(silent=not is_first()).wait("storing the end of the run"):
        broadcast_from_first(lambda: keeper.finish(AT_THE_END))


@contextmanager
def _disk(folder: Path) -> Iterator[str]:
    """Holds the folder on this machine; yields what tells its disk from others.

    Raises: Held where another process of this machine has it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.disk").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(f"{folder} is being written by another process; stop it, or use another name") from None
        file.seek(0)
        if not (disk := file.read().strip()):
            disk = uuid.uuid4().hex
            file.write(disk)
            file.flush()
        yield disk


def _check_shared(folder: Path, disk: str) -> None:
    """Every process must see the folder of the first, as they write one checkpoint together."""

    def seen() -> bool:
        path = folder.with_name(f"{folder.name}.disk")
        return path.is_file() and path.read_text().strip() == disk

    alone = [index for index, there in enumerate(from_each(seen)) if not there]
    if alone:
        raise ValueError(
            f"process {alone[0]} does not see {folder} of the first one, and together they write a checkpoint: let "
            "JAXSRL_CACHE name a folder that all machines share"
        )


@contextmanager
def _keeping(objects: Objects, folder: Path, disk: str, most: int) -> Iterator["Keeper"]:
    keeper = Keeper(hold=take(objects, disk, _say), folder=folder, most=most)
    renewing = threading.Thread(target=keeper.renew_on, name="store lease", daemon=True)
    renewing.start()
    try:
        yield keeper
    finally:
        keeper.close()
        renewing.join()
        if keeper.lost is None:
            with suppress(StoreError):  # then it is free when the lease is over
                keeper.hold.give_back()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(kw_only=True)
class Keeper:
    """Renews the lease and uploads, in two threads of the first process.

    Args:
      most: see `kept`.
      done: number of the newest checkpoint that is in the store.
      good: parts that this process has found to be there.
    """

    hold: Hold
    folder: Path
    most: int
    done: int | None = None
    good: frozenset[str] = frozenset()
    failures: int = 0  # checkpoints in a row that were not stored
    lost: Lost | None = None
    _failed: int | None = None  # the last checkpoint that was not stored
    _changes: int = 0  # tries in a row in which a file was removed or replaced
    _say: Callable[[str], None] = _say
    _halt: threading.Event = field(default_factory=threading.Event)  # of uploads
    _closed: threading.Event = field(default_factory=threading.Event)
    _uploader: Uploader | None = None

    @contextmanager
    def uploading(self, say: Callable[[str], None]) -> Iterator[None]:
        self._say = say
        thread = threading.Thread(target=self._upload_on, name="store uploads", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._halt.set()
            thread.join()
            self._halt.clear()
            self._say = _say

    def check(self) -> None:
        """Raises: Lost where another one has the run; SaveError where the store has refused too many checkpoints."""
        if self.lost is not None:
            raise self.lost
        if self.failures >= self.most:
            raise SaveError(
                f"{self.hold.objects.address} has not taken {self.failures} checkpoints in a row (survive.failed_saves)"
                f". They are in {self.folder}; the same command goes on"
            )

    def renew_on(self) -> None:
        """Renews the lease until it is over."""
        lease = self.hold.head.lease
        heard, told, pause = time.monotonic(), False, lease / 4
        while not self._closed.wait(pause) and self.lost is None:
            try:
                self.hold.renew()
                heard, told, pause = time.monotonic(), False, lease / 4
            except Lost as error:
                self.lost = error
            except StoreError as error:
                pause = LOOK
                if not told and (told := time.monotonic() - heard > lease):
                    self._say(f"warning: {error}. Another process may take the run over until it does")

    def _upload_on(self) -> None:
        """Uploads each new checkpoint, or the newest of those that came meanwhile."""
        pause = LOOK
        while not self._halt.wait(pause) and self.lost is None:
            count = newest(self.folder)
            fine = count is None or count == self.done or self._try_to_store(count)
            pause = LOOK if fine else min(2 * pause, LONGEST)

    def _try_to_store(self, count: int) -> bool:
        """Whether it was done or may be tried again at once; what went wrong is said once for each checkpoint."""
        try:
            self._store(count)
        except Lost as error:
            self.lost = error
        except Exception as error:  # whatever it is, it must not end in silence
            self._changes += isinstance(error, Changing)
            if isinstance(error, Halted) or isinstance(error, Changing) and self._changes < CHANGES:
                return True
            if count != self._failed:
                self._failed, self.failures = count, self.failures + 1
                self._say(
                    f"warning: checkpoint {count} is not stored ({self.failures} in a row): {error}. Training goes on, "
                    f"and it is tried again; the run ends after {self.most} (survive.failed_saves)"
                )
            return False
        return True

    def _store(self, count: int) -> None:
        """Raises: StoreError, OSError, Changing, Lost."""
        objects, links = self.hold.objects, self.folder.with_name(f"{self.folder.name}.staged")
        began = time.monotonic()
        if self._uploader is None:
            old = {name.removeprefix(f"{PARTS}/") for name in objects.names() if name.startswith(f"{PARTS}/")}
            self._uploader = Uploader(objects, old, set(self.good), self._halt.is_set)
        staged = stage(self.folder, count, links)
        place = {name: staged.record[name] for name in ("stage", "step", "done")}
        made = {"token": self.hold.head.token, "count": count, **place, "manifest": self._uploader.upload(staged)}
        self.hold.complete(made, KEEP)
        shutil.rmtree(links, ignore_errors=True)
        if self.failures:
            self._say(f"checkpoint {count} is in {objects.address}: the store answers again")
        self.done, self.failures, self._failed, self._changes = count, 0, None, 0
        behind = (newest(self.folder) or count) - count
        if behind > 1:
            took = time.monotonic() - began
            self._say(f"warning: it took {took:.0f} s to store checkpoint {count}, and {behind} were made meanwhile")
        with suppress(StoreError):  # what is left is removed by the next one
            self._uploader.drop_but(self.hold.head.snapshots)

    def finish(self, patience: float) -> None:
        """Stores the run as it is now, with its report, tried for some seconds.

        Raises: Lost; SaveError where that fails and there was some patience; what went wrong is said otherwise.
        """
        if self.lost is not None:
            raise self.lost
        end, pause = time.monotonic() + patience, LOOK
        while (count := newest(self.folder)) is not None:
            try:
                if self._uploader is not None or count != self.done:  # else nothing was trained
                    self._store(count)
                if (report := self.folder / "report.html").is_file():
                    self.hold.objects.write(report.name, report.read_bytes())
                return
            except Lost as error:
                self.lost = error
                raise
            except (StoreError, OSError, Changing) as error:
                told = f"{self.hold.objects.address} does not have the end of the run, which is in {self.folder}"
                if patience and time.monotonic() + pause > end:
                    raise SaveError(f"{told}: {error}. The same command goes on") from error
                self._say(f"warning: {told}: {error}" + (f". Next try in {pause:.0f} s" if patience else ""))
            if not patience:
                return
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)

    def close(self) -> None:
        """Ends the renewals."""
        self._closed.set()
