"""A run as it is at a checkpoint: which files, in which objects. What is stored is named by its own SHA-256.

runs/NAME/parts/SHA256  a file, or 32 MiB of one, or the lines that a journal has grown by since the last snapshot
a manifest              is a part too: {"files": {"metrics.jsonl": [["SHA256", bytes], …], …}}
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from jaxsrl.checkpoint import UNDER_WAY
from jaxsrl.checksums import NAME as CHECKSUMS
from jaxsrl.stores.objects import PART, Objects, StoreError, each

Part = tuple[str, int]  # SHA-256 in hex, bytes
PARTS = "parts"
JOURNALS = ("metrics.jsonl", "rollouts/*.jsonl", "evals/*.jsonl", "problems/*.jsonl")  # as far as a checkpoint knows
GROWING = ("*.jsonl", "logs/*/log.txt")  # written at their ends alone
PIECES = 100  # of a growing file, after which it is stored anew in large ones
RESUME, POLICIES = "checkpoints/resume", "checkpoints/policy"
ELSEWHERE = ("checkpoints/damaged/", "tensorboard/", "wandb/")  # of no use to a resume, or made anew by it


class Changing(RuntimeError):
    """A file was removed or replaced while it was looked at: look again."""


def newest(folder: Path) -> int | None:
    """Number of the newest complete checkpoint of a run folder."""
    counts = [int(path.name) for path in (folder / RESUME).glob("[0-9]*") if path.name.isdigit()]
    return max(counts, default=None)


@dataclass(frozen=True, kw_only=True)
class Staged:
    """The files of a snapshot, held by hard links where the run may remove them while they are uploaded.

    Args:
      record: what the checkpoint knows beside arrays.
      files: name in the run folder -> where it is now, and how many of its bytes count.
    """

    count: int
    record: Mapping[str, Any]
    files: Mapping[str, tuple[Path, int]]


def stage(folder: Path, count: int, links: Path) -> Staged:
    """Takes hold of a run folder's files as checkpoint `count` left them. Raises: Changing, and nothing is lost.

    Args:
      links: a folder on the same file system, which is made anew.
    """
    shutil.rmtree(links, ignore_errors=True)
    try:
        checkpoint, files = f"{RESUME}/{count}", {}
        for name in _names(folder, count):
            if not _like(name, GROWING):
                (links / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(folder / name, links / name)
                files[name] = links / name, (links / name).stat().st_size
        for path in (links / checkpoint, *(links / POLICIES).glob("*/*")):
            _check_whole(path)
        record = json.loads((links / checkpoint / "record" / "metadata").read_bytes())
        for name in _names(folder, count):
            if _like(name, GROWING):
                known = record["offsets"].get(name, 0)
                length = known if _like(name, JOURNALS) else (folder / name).stat().st_size
                files |= {name: (folder / name, length)} if length else {}
    except FileNotFoundError as error:
        raise Changing(str(error)) from error
    return Staged(count=count, record=record, files=files)


def _names(folder: Path, count: int) -> list[str]:
    """Of the files that go with a checkpoint: no other ones, and no remains of a write, locks or links."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    names = (path.relative_to(folder).as_posix() for path in found)
    mine = lambda name: name.startswith(f"{RESUME}/{count}/") or not name.startswith((f"{RESUME}/", *ELSEWHERE))
    return [name for name in names if mine(name) and UNDER_WAY not in name and not name.endswith((".tmp", ".lock"))]


def _like(name: str, patterns: Iterable[str]) -> bool:
    return any(PurePosixPath(name).match(pattern) for pattern in patterns)


def _check_whole(folder: Path) -> None:
    """A folder that is removed while it is linked has lost some of its files."""
    files = json.loads((folder / CHECKSUMS).read_bytes())["files"]
    missing = [name for name in files if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(f"{folder / missing[0]}")


@dataclass
class Uploader:
    """Puts files into a store, each part of them once: what was there before may have been damaged.

    Args:
      old: parts that were there before; `there`: those that are known to be good.
      halted: whether to leave an upload as it is.
    """

    objects: Objects
    old: set[str] = field(default_factory=set)
    there: set[str] = field(default_factory=set)
    halted: Callable[[], bool] = lambda: False
    _files: dict[tuple[int, int, int], list[Part]] = field(default_factory=dict)  # of files of the last snapshot
    _grown: dict[str, list[Part]] = field(default_factory=dict)  # of its growing ones

    def upload(self, staged: Staged) -> Part:
        """Returns the manifest's part, when all are in the store. Raises: StoreError, Changing."""
        before = {name: self._stored(name, *found) for name, found in staged.files.items()}
        spans = [
            (name, path, first, min(first + PART, length))
            for name, (path, length) in staged.files.items()
            for first in range(sum(size for _, size in before[name]), length, PART)
        ]
        identities = {name: _identity(path) for name, (path, _) in staged.files.items()}
        files = {name: list(parts) for name, parts in before.items()}
        made = each(lambda span: self._put_span(*span[1:]), spans, self.halted)
        for (name, *_), part in zip(spans, made, strict=True):
            files[name].append(part)
        grown = {name for name in files if _like(name, GROWING)}
        for name in files.keys() - grown:
            if _identity(staged.files[name][0]) != identities[name]:
                raise Changing(f"{name} was written while it was read")
        self._grown = {name: files[name] for name in grown}
        self._files = {identities[name]: files[name] for name in files.keys() - grown}
        return self._put(json.dumps({"count": staged.count, "files": files}).encode())

    def _stored(self, name: str, path: Path, length: int) -> list[Part]:
        """What is in the store of a file already."""
        grows = _like(name, GROWING)
        parts = self._grown.get(name, []) if grows else self._files.get(_identity(path), [])
        anew = grows and len(parts) >= PIECES or sum(size for _, size in parts) > length
        return [] if anew or any(sha not in self.there for sha, _ in parts) else parts

    def _put_span(self, path: Path, first: int, end: int) -> Part:
        try:
            with path.open("rb") as file:
                file.seek(first)
                data = file.read(end - first)
        except FileNotFoundError as error:
            raise Changing(str(error)) from error
        if len(data) != end - first:
            raise Changing(f"{path} has become shorter")
        return self._put(data)

    def _put(self, data: bytes) -> Part:
        sha = hashlib.sha256(data).hexdigest()
        if sha not in self.there:
            self.objects.write(f"{PARTS}/{sha}", data)
            self.there.add(sha)
        return sha, len(data)

    def drop_but(self, snapshots: Collection[Mapping[str, Any]]) -> None:
        """Removes parts that no snapshot has."""
        needed = _needed(self.objects, snapshots)
        self.objects.remove([f"{PARTS}/{sha}" for sha in (self.old | self.there) - needed])
        self.old, self.there = self.old & needed, self.there & needed


def _identity(path: Path) -> tuple[int, int, int]:
    """The same as long as a file was not written."""
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise Changing(str(error)) from error
    return found.st_ino, found.st_size, found.st_mtime_ns


class Damaged(StoreError):
    """A part is missing, or is not what its name says."""


def manifest(objects: Objects, snapshot: Mapping[str, Any]) -> dict[str, list[Part]]:
    """Parts of each file of a snapshot. Raises: Damaged; StoreError where it names a file outside of the run."""
    data, wrong = _part(objects, *snapshot["manifest"], "its manifest")
    if wrong:
        raise Damaged(wrong)
    said = json.loads(data)
    for name in said["files"]:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise StoreError(f"{objects.address}: a snapshot names the file {name}, which is outside of the run")
    return {name: [(sha, size) for sha, size in parts] for name, parts in said["files"].items()}


def _needed(objects: Objects, snapshots: Collection[Mapping[str, Any]]) -> set[str]:
    """Names of all parts of snapshots. Of one whose manifest is damaged nothing is known that could be kept."""
    needed = {snapshot["manifest"][0] for snapshot in snapshots}
    for snapshot in snapshots:
        with suppress(Damaged):
            needed |= {sha for parts in manifest(objects, snapshot).values() for sha, _ in parts}
    return needed


def _part(objects: Objects, sha: str, size: int, of: str) -> tuple[bytes, str | None]:
    """The bytes of a part, and what is wrong with them."""
    data, _ = objects.read(f"{PARTS}/{sha}")
    where = f"{objects.address}/{PARTS}/{sha} (of {of})"
    if data is None:
        return b"", f"{where} is missing"
    if len(data) != size:
        return data, f"{where} has {len(data)} bytes of {size}"
    right = hashlib.sha256(data).hexdigest() == sha
    return data, None if right else f"{where} was changed: its checksum is another"


def fetch(
    objects: Objects, files: Mapping[str, list[Part]], to: Path, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, str]:
    """Writes the wanted files of a manifest into a folder; those that are there with the same bytes stay.

    Returns: the files of which a part is not what was stored, and why; they are written as they are now.
    """

    def bring(item: tuple[str, list[Part]]) -> tuple[str, str | None]:
        name, parts = item
        path, wrong = to / name, None
        if _holds(path, parts):
            return name, None
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        with temporary.open("wb") as file:
            for sha, size in parts:
                data, found = _part(objects, sha, size, name)
                file.write(data)
                wrong = wrong or found
        os.replace(temporary, path)
        return name, wrong

    done = each(bring, [item for item in files.items() if wanted(item[0])])
    return {name: wrong for name, wrong in done if wrong}


def _holds(path: Path, parts: list[Part]) -> bool:
    if not path.is_file() or path.stat().st_size != sum(size for _, size in parts):
        return False
    with path.open("rb") as file:
        return all(hashlib.sha256(file.read(size)).hexdigest() == sha for sha, size in parts)
