"""Who writes a run in a store, and which of its snapshots are complete: one object that is only ever swapped.

    runs/NAME/run.json      {"token": 3, "holder": {…}, "beat": 17, "lease": 60.0, "snapshots": [{…}, {…}]}

It is written with the precondition that it is still of the generation that its writer knows. So of two that take the
lock one gets it; and one that was overtaken, however late it wakes up, can neither renew its lease nor complete a
snapshot. Ages are measured by whoever waits: no two clocks are compared.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxsrl.checksums import checked_json, unchecked_json
from jaxsrl.stores.objects import Objects, StoreError

NAME = "run.json"
LEASE = 60.0  # seconds after which a holder that was not heard of has lost the run
POLL = 1.0  # seconds between looks at another's lease


class Held(StoreError):
    """Another one writes the run."""


class Lost(StoreError):
    """Another one has taken the run over."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What `run.json` says.

    Args:
      token: grows with each holder.
      holder: `id`, `disk`, `host` and `pid` of who writes; None where it was given back.
      snapshots: complete ones, oldest first: `token` and `count` of the checkpoint, `stage`, `step`, `manifest`.
    """

    token: int = 0
    holder: Mapping[str, Any] | None = None
    beat: int = 0
    lease: float = LEASE
    snapshots: tuple[Mapping[str, Any], ...] = ()

    def encoded(self) -> bytes:
        return json.dumps(checked_json({**vars(self), "snapshots": list(self.snapshots)})).encode()

    @staticmethod
    def read(objects: Objects) -> tuple["Head | None", bytes]:
        """The head, None where there is none, and its generation. Raises: StoreError where it is damaged."""
        data, generation = objects.read(NAME)
        if data is None:
            return None, generation
        try:
            said = unchecked_json(json.loads(data))
            said.pop("checksum", None)
            return Head(**said | {"snapshots": tuple(said["snapshots"])}), generation
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{objects.address}/{NAME} was damaged ({error}): put an older version of the object back, or use "
                "another name (--set name=...)"
            ) from error


@dataclass
class Hold:
    """The right to write a run. Every method may be called from any thread."""

    objects: Objects
    head: Head
    generation: bytes
    lock: threading.Lock = field(default_factory=threading.Lock)

    def renew(self) -> None:
        """Raises: Lost where another one has the run, StoreError where the store does not answer."""
        self._swap(lambda head: head)

    def complete(self, snapshot: Mapping[str, Any], keep: int) -> None:
        """Makes a snapshot, whose objects are all there, the newest of the last `keep`. Raises as `renew` does."""
        same = lambda other: all(other[name] == snapshot[name] for name in ("token", "count"))
        others = lambda head: [other for other in head.snapshots if not same(other)]
        self._swap(lambda head: replace(head, snapshots=(*others(head), snapshot)[-keep:]))

    def go_back(self, snapshots: Sequence[Mapping[str, Any]]) -> None:
        """Leaves these snapshots alone. Raises as `renew` does."""
        self._swap(lambda head: replace(head, snapshots=tuple(snapshots)))

    def give_back(self) -> None:
        self._swap(lambda head: replace(head, holder=None))

    def _swap(self, change: Callable[[Head], Head]) -> None:
        with self.lock:
            head = replace(change(self.head), beat=self.head.beat + 1)
            generation = self.objects.swap(NAME, head.encoded(), self.generation)
            if generation is None:
                self._catch_up()
                head = replace(change(self.head), beat=self.head.beat + 1)
                generation = self.objects.swap(NAME, head.encoded(), self.generation)
            if generation is None:
                raise Lost(f"{self.objects.address} is being written by somebody else as well")
            self.head, self.generation = head, generation

    def _catch_up(self) -> None:
        """A write of our own whose answer never came is taken as done."""
        there, generation = Head.read(self.objects)
        if there is None or there.token != self.head.token or there.holder != self.head.holder:
            by = "nobody knows whom, as run.json is gone" if there is None else described(there.holder)
            raise Lost(f"{self.objects.address} was taken over by {by}: what is trained here is not stored any more")
        self.head, self.generation = there, generation


def take(objects: Objects, disk: str, say: Callable[[str], None]) -> Hold:
    """Takes hold of a run.

    A holder on the same disk is known to have ended, as this process has that disk's lock. Another one is waited for
    as long as its lease: where it has not renewed it by then, it is overtaken.

    Args:
      disk: identifies the folder that the run is written in on this machine.
    Raises: Held where another one writes it.
    """
    head, generation = Head.read(objects)
    if head is not None and head.holder is not None and head.holder["disk"] != disk:
        say(f"{objects.address} was being written by {described(head.holder)}: waiting {head.lease:.0f} s for a sign")
        head, generation = _unrenewed(objects, head, generation)
    head = head or Head()
    holder = {"id": uuid.uuid4().hex, "disk": disk, "host": socket.gethostname(), "pid": os.getpid()}
    mine = replace(head, token=head.token + 1, holder=holder, beat=0, lease=LEASE)
    made = objects.swap(NAME, mine.encoded(), generation)
    if made is None:
        raise Held(f"{objects.address} was just taken by another process; stop it, or use another name")
    return Hold(objects, mine, made)


def _unrenewed(objects: Objects, head: Head, generation: bytes) -> tuple[Head | None, bytes]:
    """The head once its lease is over. Raises: Held where it is renewed before."""
    end = time.monotonic() + head.lease
    while time.monotonic() < end:
        time.sleep(min(POLL, max(end - time.monotonic(), 0)))
        found, seen = Head.read(objects)
        if found is None or found.holder is None:
            return found, seen
        if seen != generation:
            raise Held(
                f"{objects.address} is being written by {described(found.holder)}; stop it, or use another name "
                "(--set name=...)"
            )
    return head, generation


def described(holder: Mapping[str, Any] | None) -> str:
    return "one that has ended" if holder is None else f"process {holder['pid']} on {holder['host']}"
