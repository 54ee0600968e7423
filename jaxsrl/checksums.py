"""Checksums of what a resume reads: a flipped, cut or missing byte is found, and the file is named.

Storage returns wrong bits without an error, and Orbax restores them: of 120 bits flipped in a checkpoint it noticed
none.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

NAME = "checksums.json"  # in the folder that it is about
THREADS = 8  # hashing leaves Python's lock alone
CHUNK = 2**22  # bytes
SMALL = 2**25  # bytes of a folder that one thread is done with as soon as others are started
SHORT = " bytes of "  # in what is said of a file that is shorter than it was
# Orbax still writes to it, from a thread of its own, when all else is written; nothing that is restored lies in it.
STEP_FILE = "_CHECKPOINT_METADATA"
COMMITTED = "commit_success.txt"  # written last; only whether it is there is ever asked
UNSUMMED = (COMMITTED, STEP_FILE, NAME)


def file_sum(path: Path) -> tuple[int, str]:
    """Length in bytes and SHA-256 of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Writes `checksums.json` into a folder, of every file in it whose bytes a restore goes by."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in UNSUMMED]
    if sum(path.stat().st_size for path in paths) < SMALL:
        sums = [file_sum(path) for path in paths]
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            sums = list(pool.map(file_sum, paths))
    files = {path.relative_to(folder).as_posix(): found for path, found in zip(paths, sums, strict=True)}
    (folder / NAME).write_text(json.dumps({"files": files, "itself": _of_text(files)}) + "\n")


def damage(folder: Path, index: int = 0, count: int = 1) -> list[str]:
    """What is wrong with the files of a folder that has checksums, a line each; empty if all are as written.

    Args:
      index, count: of the processes that share the work; each reads its part of the files.
    Raises: FileNotFoundError where the folder has no checksums.
    """
    try:
        said = json.loads((folder / NAME).read_bytes())
        files = {name: (size, text) for name, (size, text) in said["files"].items()}
        if _of_text(said["files"]) != said["itself"]:
            return [f"{folder / NAME} was changed"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"{folder / NAME} was changed"]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda item: _compared(folder / item[0], *item[1]), list(files.items())[index::count])
    return [line for line in found if line]


def _compared(path: Path, size: int, text: str) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    if (here := path.stat().st_size) != size:
        return f"{path} has {here}{SHORT}{size}"
    try:
        return None if file_sum(path) == (size, text) else f"{path} was changed: its checksum is another"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"


def _of_text(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def checked_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value with a checksum of itself, for a small file that is read again."""
    return {**value, "checksum": _of_text(dict(value))[:16]}


def unchecked_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """What `checked_json` was given; a value without a checksum, of an older version, is taken as it is.

    Raises: ValueError if it was changed since.
    """
    rest = {name: item for name, item in value.items() if name != "checksum"}
    if "checksum" in value and value["checksum"] != _of_text(rest)[:16]:
        raise ValueError("the checksum in it is of other values: the file was damaged or edited")
    return rest


def prefix_crc(path: Path, length: int | None = None) -> int:
    """CRC-32 of the first `length` bytes of a file, or of all: it can be carried on as the file grows."""
    crc, left = 0, path.stat().st_size if length is None else length
    with path.open("rb") as file:
        while left and (part := file.read(min(CHUNK, left))):
            crc, left = zlib.crc32(part, crc), left - len(part)
    return crc


def journal_damage(folder: Path, offsets: Mapping[str, int], crcs: Mapping[str, int]) -> dict[str, str]:
    """Files of lines that are not what they were when they had these lengths, and why.

    One without a CRC, of an older version, is compared by its length alone.
    """
    wrong = {}
    for name, length in offsets.items():
        path = folder / name
        here = path.stat().st_size if path.is_file() else 0
        if here < length:
            wrong[name] = f"{path} has {here}{SHORT}{length}"
        elif name in crcs and prefix_crc(path, length) != crcs[name]:
            wrong[name] = f"{path} was changed in its first {length} bytes"
    return wrong


def append_note(path: Path, note: Mapping[str, Any]) -> None:
    """Adds a line that knows its own checksum."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(checked_json(note)) + "\n")


def read_notes(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of notes; those that a kill or a bad disk has damaged are left out."""
    return list(_whole(path.read_bytes().splitlines())) if path.is_file() else []


def mend_notes(path: Path) -> int:
    """Takes damaged lines out of a file of notes. Returns how many there were."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    good = [line for line in lines if any(_whole([line]))]
    if len(good) < len(lines):
        whole = path.with_suffix(".tmp")
        whole.write_bytes(b"".join(good))
        os.replace(whole, path)
    return len(lines) - len(good)


def _whole(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            if "checksum" in (said := json.loads(line)):
                yield unchecked_json(said)
        except (ValueError, TypeError):
            continue
