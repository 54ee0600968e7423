"""Copies of what lies in a store: data and weights before a run begins, a run's files for a command that reads them."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from jaxsrl.checksums import checked_json, file_sum, unchecked_json
from jaxsrl.stores.lease import NAME as HEAD
from jaxsrl.stores.lease import Head
from jaxsrl.stores.objects import PART, Objects, StoreError, cache_folder, each, is_stored, parts_of
from jaxsrl.stores.snapshot import Damaged, fetch, manifest

SUMS = ".copied.json"  # in a copy: generation, length and SHA-256 of each file
WITH_POLICIES = lambda name: not name.startswith("checkpoints/resume/")
EVERYTHING = lambda name: True
WITHOUT_CHECKPOINTS = lambda name: not name.startswith("checkpoints/")


def here(path: str) -> str:
    """Where a path is on this machine: an address is where `bring` copies it."""
    return str(_copy_of("copies", path)) if is_stored(path) else path


def _copy_of(kind: str, path: str | Path) -> Path:
    bucket, folder = parts_of(path)
    return cache_folder() / kind / bucket / folder


@contextmanager
def locked(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """One process at a time works on a copy; with LOCK_SH, those that only look do it together."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, how)
        yield


def bring(path: str | None, say: Callable[[str], None] = print) -> None:
    """Makes `here(path)` what lies under an address now; a path of this machine is left alone.

    An object of which the store has the generation that was copied is not read again, and its copy's SHA-256 is
    compared; any other is copied.

    Raises: FileNotFoundError where nothing is there; StoreError.
    """
    if path is None or not is_stored(path):
        return
    objects, folder = Objects.at(path), Path(here(path))
    names = [name for name in objects.names() if not name.endswith("/")]
    if not names:
        objects.read("config.json")  # one who may not ask is told of no names: this says so
        raise FileNotFoundError(f"{objects.address} holds nothing that this account may list")
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise StoreError(f"{objects.address}: the object {name!r} cannot be a file")
    with locked(folder, fcntl.LOCK_SH):
        known = _known(folder)
        if known.keys() == set(names) and all(
            each(lambda name: _is_current(objects, name, folder / name, known[name]), names)
        ):
            return
    with locked(folder):
        known = _known(folder)
        found = each(lambda name: _bring(objects, name, folder / name, known.get(name)), names)
        for old in known.keys() - set(names):
            (folder / old).unlink(missing_ok=True)
        now = dict(zip(names, (entry for entry, _ in found), strict=True))
        _write(folder / SUMS, json.dumps(checked_json({"files": now})).encode())
        copied = [entry["size"] for entry, new in found if new]
        if copied:
            say(f"{path}: {len(copied)} of {len(names)} files copied to {folder}, {sum(copied) / 1e6:.1f} MB")


def _known(folder: Path) -> dict[str, Any]:
    try:
        return unchecked_json(json.loads((folder / SUMS).read_bytes()))["files"]
    except (OSError, ValueError, KeyError):
        return {}


def _bring(objects: Objects, name: str, path: Path, known: dict[str, Any] | None) -> tuple[dict[str, Any], bool]:
    """An object's generation, length and sum, and whether it was copied."""
    if known is not None and _is_current(objects, name, path, known):
        return known, False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, sha, generations = path.with_name(f"{path.name}.tmp"), hashlib.sha256(), set()
    with temporary.open("wb") as file:
        for data, generation in _pieces(objects, name):
            file.write(data)
            sha.update(data)
            generations.add(generation)
    if len(generations) != 1:
        raise StoreError(f"{objects.address}/{name} was written or removed while it was copied")
    os.replace(temporary, path)
    size = path.stat().st_size
    return {"generation": generations.pop().hex(), "size": size, "sha256": sha.hexdigest()}, True


def _is_current(objects: Objects, name: str, path: Path, known: dict[str, Any]) -> bool:
    if not path.is_file() or file_sum(path) != (known["size"], known["sha256"]):
        return False
    generation = bytes.fromhex(known["generation"])
    return objects.read(name, unless=generation)[1] == generation


def _pieces(objects: Objects, name: str) -> Iterator[tuple[bytes, bytes]]:
    """The bytes of an object piece by piece, and the generation that each is of."""
    first = 0
    while True:
        data, generation = objects.read_range(name, first, first + PART)
        if data is None:  # the store has less
            data, generation = objects.read_range(name, first, None)
            if data is None and first == 0:  # nothing, of which there is no range
                data, generation = objects.read(name)
            if data is not None:
                yield data, generation
            return
        yield data, generation
        first += PART


def brought(path: Path) -> Path:
    """The same path, or the copy of what lies under an address. Raises as `bring` does."""
    bring(str(path))
    return Path(here(str(path)))


def run_here(path: str | Path, wanted: Callable[[str], bool] = WITHOUT_CHECKPOINTS) -> Path:
    """A run's folder on this machine: for an address, a copy of the newest whole snapshot's files.

    Raises: FileNotFoundError where no run is there; StoreError.
    """
    if not is_stored(path):
        return Path(path)
    objects, folder = Objects.at(path), _copy_of("read", path)
    with locked(folder):
        head, _ = Head.read(objects)
        if head is None:
            raise FileNotFoundError(f"there is no run {objects.address}: it has no {HEAD}")
        for snapshot in reversed(head.snapshots):
            try:
                files = {name: parts for name, parts in manifest(objects, snapshot).items() if wanted(name)}
                wrong = list(fetch(objects, files, folder).values())
            except Damaged as error:
                wrong = [str(error)]
            if not wrong:
                _prune(folder, files)
                return folder
            print(f"warning: checkpoint {snapshot['count']} of {objects.address} is damaged: {wrong[0]}")
    raise StoreError(f"{objects.address} has no whole snapshot" + ("" if head.snapshots else " yet: nothing was saved"))


def _prune(folder: Path, files: dict[str, Any]) -> None:
    """Policies that the run does not have any more."""
    for path in (folder / "checkpoints").glob("policy/*/*"):
        top = path.relative_to(folder).as_posix()
        if not any(name.startswith(f"{top}/") for name in files):
            shutil.rmtree(path)


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
