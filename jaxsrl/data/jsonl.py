"""JSON lines, plain or gzipped, read one row at a time; a line that is no row is reported, not raised."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAX_LINE_BYTES = 1 << 24


class DataError(ValueError):
    """The data cannot be used as it is."""


@dataclass(frozen=True)
class Bad:
    """A row that was set aside, and why."""

    file: str
    line: int  # from 1
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


def read_rows(path: str | Path, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, dict[str, Any] | Bad]]:
    """Yields (line number, row) for each line that is not blank.

    Raises: DataError if the name ends in neither `.jsonl` nor `.jsonl.gz`, or the compressed data breaks off or is
    damaged: how many rows are lost is then unknown, so no share of bad rows can allow for it.
    """
    path = Path(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise DataError(f"{path}: expected a file name that ends in .jsonl or .jsonl.gz")
    line = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" or _is_gzip(path) else path.open("rb") as file:
            while (data := file.readline(max_line_bytes + 1)) != b"":
                line += 1
                if len(data) > max_line_bytes:
                    _skip_line(file, data)
                    yield line, Bad(str(path), line, f"line of more than {max_line_bytes} bytes")
                elif data.strip():
                    row = parse_row(data.removeprefix(b"\xef\xbb\xbf") if line == 1 else data)
                    yield line, Bad(str(path), line, row) if isinstance(row, str) else row
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}:{line + 1}: compressed data is cut off or damaged, rows are lost ({error})") from error


def _is_gzip(path: Path) -> bool:
    """By its first bytes: some are named .jsonl."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def file_hash(path: str | Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _skip_line(file: BinaryIO, data: bytes) -> None:
    while data and not data.endswith(b"\n"):
        data = file.readline(1 << 20)


def parse_row(data: bytes) -> dict[str, Any] | str:
    """The JSON object that some bytes spell, or the reason why they spell none."""
    try:
        row = json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos}"
    except (ValueError, RecursionError) as error:
        return f"not usable JSON: {error}"
    return row if isinstance(row, dict) else f"expected a JSON object, got {type(row).__name__}"


def _refuse(name: str):
    raise ValueError(f"{name} is not a JSON value")


def write_quarantine(path: str | Path, quarantine: Iterable[Bad]) -> None:
    """One JSON object a line: file, line, reason."""
    with Path(path).open("w", encoding="utf-8") as file:
        for bad in quarantine:
            file.write(json.dumps(asdict(bad), ensure_ascii=False) + "\n")
