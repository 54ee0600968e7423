"""Lines of a run on disk: names with units, JSON lines, offsets to cut them back to."""

import json
import math
import os
import stat
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxsrl.checksums import prefix_crc

# What a metric's name does not say by itself: unit, and how it comes about. The report prints these.
UNITS = {
    "loss": "weighted sum over the step's tokens",
    "lr": "learning rate of the update",
    "grad/norm": "global norm before clipping",
    "update/skipped": "updates left out so far because a gradient was not finite, or a spike",
    "collect/groups": "branch points sampled, refills included",
    "collect/kept_share": "share of groups that carry weight, before surplus is left out",
    "collect/rounds": "sampling rounds of the step",
    "collect/short": "1 where the refill bound was met first",
    "completion/tokens_mean": "tokens, the end token included",
    "completion/truncated_share": "share that ran to the cap",
    "completion/entropy": "nats per token: mean of -log-prob of the sampled tokens",
    "pack/tokens": "tokens of the step's trees",
    "pack/dense_tokens": "tokens if every completion were a row with its own prompt",
    "pack/slots": "token places computed, padding included",
    "pack/cut_trees": "trees cut over several rows",
}

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def scalar(value: Any) -> Any:
    """A JSON value of a metric: arrays of one element as numbers, what is not finite as null."""
    if isinstance(value, str):  # most of what is in a log of completions
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def encode(line: Mapping[str, Any]) -> str:
    """One line of JSON, keys in the order given; the same values give the same bytes."""
    return _bytes(line).decode()


def _bytes(line: Mapping[str, Any]) -> bytes:
    plain = {name: scalar(value) for name, value in line.items()}
    return _JSON.encode(plain).encode("utf-8", "replace") + b"\n"


@dataclass
class _File:
    """A file of lines that is written to: what is in it, and what still has to go into it."""

    path: Path
    handle: int | None = None
    length: int = 0
    crc: int = 0
    waiting: bytearray = field(default_factory=bytearray)

    def write(self) -> None:
        """Writes what is waiting; what the disk does not take goes on waiting."""
        if self.handle is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if stat.S_ISREG(os.fstat(self.handle).st_mode):
                self.length, self.crc = os.fstat(self.handle).st_size, prefix_crc(self.path)
        while self.waiting:
            count = os.write(self.handle, self.waiting)
            self.length, self.crc = self.length + count, zlib.crc32(self.waiting[:count], self.crc)
            del self.waiting[:count]

    def close(self) -> None:
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None


class Journal:
    """The JSON-lines files of a run folder.

    `offsets` makes lines durable: a checkpoint stores the offsets and commits after them, and a resume cuts every file
    back to what its checkpoint knew. Lines that a full disk does not take wait in memory, in their order, for the next
    `write`; only `offsets` raises.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._files: dict[str, _File] = {}

    def write(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Appends lines to `folder/name`, as far as the disk takes them."""
        file = self._files.setdefault(name, _File(path=self.folder / name))
        file.waiting += b"".join(map(_bytes, lines))
        with suppress(OSError):  # said by `offsets`: no checkpoint is made without these lines
            file.write()

    def offsets(self) -> dict[str, int]:
        """Makes everything written durable and returns each file's length in bytes.

        Raises: OSError naming the file where the disk is full or not writable.
        """
        for name, file in self._files.items():
            try:
                file.write()
                os.fsync(file.handle)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.folder / name)) from error
        return {name: file.length for name, file in sorted(self._files.items())}

    def crcs(self) -> dict[str, int]:
        """CRC-32 of each file's bytes, as far as they were written."""
        return {name: file.crc for name, file in sorted(self._files.items())}

    def cut(self, offsets: Mapping[str, int], pattern: str) -> None:
        """Cuts the files that match `pattern` back to the offsets; those a checkpoint did not know become empty.

        Raises: ValueError if a file is missing or shorter than its offset: it was changed from outside.
        """
        self.close()
        for path in sorted(self.folder.glob(pattern)):
            name = path.relative_to(self.folder).as_posix()
            length = offsets.get(name, 0)
            if path.stat().st_size < length:
                raise ValueError(
                    f"{path} has {path.stat().st_size} bytes, its checkpoint knows {length}: the file was cut or "
                    "replaced. Put it back, or start a run under a new name"
                )
            os.truncate(path, length)
        for name, length in offsets.items():
            if length and not (self.folder / name).exists():
                raise ValueError(
                    f"{self.folder / name} is missing, its checkpoint knows {length} bytes. Put it back, or start a "
                    "run under a new name"
                )
            self.write(name, [])

    def close(self) -> None:
        """Closes all files; a later write opens them again."""
        for file in self._files.values():
            with suppress(OSError):  # what is lost here is in no checkpoint: a resume writes it again
                file.write()
            with suppress(OSError):
                file.close()
        self._files = {}


class NoJournal(Journal):
    """Of a process that writes nothing: what the first one writes is true of all."""

    def write(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        pass

    def cut(self, offsets: Mapping[str, int], pattern: str) -> None:
        pass


def read(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a JSON-lines file; a last line cut by a kill is left out.

    Raises: ValueError naming the file and the line that is no JSON.
    """
    if not Path(path).exists():
        return []
    text, found = Path(path).read_bytes(), []
    for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}. The file was damaged") from error
    return found


def read_rollouts(folder: Path, stage: str) -> list[dict[str, Any]]:
    """The rollouts of a stage in order of step, group and sample, from the files of all processes of a run folder."""
    lines = [line for path in rollout_files(folder, stage) for line in read(path)]
    return sorted(lines, key=lambda line: (line["step"], line["group"], line["sample"]))


def rollout_files(folder: Path, stage: str) -> list[Path]:
    """`rollouts/STAGE.jsonl` of the first process and `rollouts/STAGE.N.jsonl` of others, as far as they are there."""
    found = sorted((Path(folder) / "rollouts").glob("*.jsonl"))
    return [path for path in found if path.name.split(".")[0] == stage]


PER_PROCESS = ("rollouts", "evals", "problems")  # folders in which every process writes of its own completions


def process_file(folder: str, stage: str, process: int) -> str:
    """Where in the run folder a process writes its own completions of a stage."""
    return f"{folder}/{stage}.jsonl" if process == 0 else f"{folder}/{stage}.{process}.jsonl"


def merge(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Metrics of several sources as one dict of JSON scalars."""
    return {name: scalar(value) for part in parts for name, value in part.items()}
