"""Rows of files in the formats that data come in, one at a time: what a path stands for, and which of its rows.

`train.jsonl`, `shards/` with `train-00000-of-00002.parquet`, a folder that TFDS or Hugging Face `datasets` wrote. Which
rows is said as TFDS says it: `train`, `train[:1000]`, `train[10%:]`.
"""

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxsrl.data.jsonl import Bad, DataError, parse_row, read_rows

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".arrow", ".array_record")
SHARD = re.compile(r"\.array_record(-\d+-of-\d+)?$")  # TFDS puts the number of a shard behind the suffix
SLICE = re.compile(r"([\w.\-]*)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")
Row = tuple[int, dict[str, Any] | Bad]  # its number within the shard, from 1


@dataclass(frozen=True, kw_only=True)
class Split:
    """`train[:1000]`: the split's name, and a slice's bounds: rows or per cent, counted from the end if negative."""

    name: str
    start: str | None = None
    stop: str | None = None

    @property
    def whole(self) -> bool:
        return self.start is None and self.stop is None

    def bounds(self, rows: int) -> tuple[int, int]:
        """First row, and the one behind the last, of a split of so many rows."""

        def at(bound: str | None, default: int) -> int:
            if bound is None:
                return default
            number = int(bound.rstrip("%"))
            place = round(rows * number / 100) if bound.endswith("%") else number
            return min(max(place + rows if number < 0 else place, 0), rows)

        return at(self.start, 0), at(self.stop, rows)


def parse_split(text: str) -> Split:
    """Raises: ValueError saying how a split is written."""
    found = SLICE.fullmatch(text)
    if not found:
        raise ValueError(f"split must be written as train, train[:1000] or train[10%:], got {text!r}")
    return Split(name=found[1], start=found[2], stop=found[3])


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Rows that are stored together: a file, or the split of a TFDS folder."""

    path: Path
    files: tuple[Path, ...]  # what its rows depend on
    split: str = ""

    def rows(self) -> Iterator[Row]:
        if self.path.is_dir():
            return _tfds_rows(self.path, self.split)
        if self.path.name.endswith((".jsonl", ".jsonl.gz")):
            return read_rows(self.path)
        if SHARD.search(self.path.name):
            return _record_rows(self.path)
        return _arrow_rows(self.path)


def shards(path: str | Path, split: str) -> list[Shard]:
    """What a path stands for, in the order of the names.

    Of a folder these are the files of the split where names or folders say one, else all of them.

    Raises: DataError where there is none, saying what is there; FileNotFoundError.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    if not path.is_dir():
        if not _known(path):
            raise DataError(f"{path}: expected a file name that ends in one of {', '.join(SUFFIXES)}, or a folder")
        return [Shard(path=path, files=(path,))]
    if (path / "features.json").exists():
        return [Shard(path=path, files=tuple(sorted(p for p in path.iterdir() if p.is_file())), split=split)]
    found = sorted(p for p in path.rglob("*") if p.is_file() and _known(p) and not p.name.startswith((".", "cache-")))
    named = [p for p in found if split and _is_of(p.relative_to(path), split)]
    others = any(_tells_split(p.relative_to(path)) for p in found)
    if not named and (not found or others or split not in ("", "train")):
        there = ", ".join(str(p.relative_to(path)) for p in found[:5]) or "no file of a known format"
        raise DataError(f"{path}: nothing of the split {split!r}; there is {there}. Known are {', '.join(SUFFIXES)}")
    return [Shard(path=p, files=(p,)) for p in named or found]


def source_rows(found: Sequence[Shard], split: Split) -> Iterator[tuple[Shard, Row]]:
    """The rows of shards, those of the split's slice."""
    rows = lambda: chain.from_iterable(((shard, row) for row in shard.rows()) for shard in found)
    if split.whole:
        return rows()
    counted = any(sign in f"{split.start}{split.stop}" for sign in "%-")
    start, stop = split.bounds(sum(1 for _ in rows()) if counted else 2**62)
    return islice(rows(), start, max(start, stop))


def optional(name: str, path: Path) -> ModuleType:
    """A package that only some formats need.

    Raises: DataError naming the file and how to install it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        raise DataError(f"{path} is read by {package}, which is not installed: pip install 'jaxsrl[data]'") from error


def _known(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) or bool(SHARD.search(path.name))


def _tells_split(relative: Path) -> bool:
    """Whether a file's name or folder names a split: `train-00000-of-00002.parquet`, `validation/data.arrow`."""
    names = r"(train|test|validation|valid|val|dev)(?![a-zA-Z0-9])"
    return any(re.match(names, part) for part in relative.parts)


def _is_of(relative: Path, split: str) -> bool:
    return split in relative.parent.parts or bool(re.match(re.escape(split) + r"(?![a-zA-Z0-9])", relative.name))


def _record_rows(path: Path) -> Iterator[Row]:
    import grain

    source = grain.sources.ArrayRecordDataSource(str(path))
    for number in range(len(source)):
        row = parse_row(source[number])
        yield number + 1, Bad(str(path), number + 1, row) if isinstance(row, str) else row


def _arrow_rows(path: Path) -> Iterator[Row]:
    number = 0
    for batch in _arrow_batches(path):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _arrow_batches(path: Path) -> Iterator[Any]:
    arrow = optional("pyarrow", path)
    try:
        if path.suffix == ".parquet":
            yield from optional("pyarrow.parquet", path).ParquetFile(path).iter_batches(batch_size=1024)
            return
        with arrow.memory_map(str(path)) as file:
            try:
                yield from arrow.ipc.open_stream(file)  # as `datasets` writes
            except arrow.ArrowInvalid:
                file.seek(0)
                reader = arrow.ipc.open_file(file)
                yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
    except arrow.ArrowInvalid as error:
        raise DataError(f"{path} is cut off or damaged ({error})") from error


def _tfds_rows(folder: Path, split: str) -> Iterator[Row]:
    source = tfds_source(folder, split)
    for number in range(len(source)):
        try:
            yield number + 1, {name: plain(value) for name, value in source[number].items()}
        except UnicodeDecodeError as error:
            yield number + 1, Bad(str(folder), number + 1, f"not UTF-8 at byte {error.start}")


def tfds_source(folder: Path, split: str) -> Any:
    """Random access to a split of a folder that TFDS wrote, without TensorFlow; slices are TFDS's own.

    Raises: DataError where the folder has no such split, or holds no ArrayRecord.
    """
    return tfds_builder(folder, split).as_data_source(split=split)


def tfds_builder(folder: Path, split: str) -> Any:
    """The builder of a folder that TFDS wrote, which has the split. Raises as `tfds_source` does."""
    builder = optional("tensorflow_datasets", folder).builder_from_directory(str(folder))
    name = split.partition("[")[0]
    if name not in builder.info.splits:
        raise DataError(f"{folder}: no split {name!r}; there are {', '.join(builder.info.splits)}")
    if str(builder.info.file_format.value) != "array_record":
        raise DataError(
            f"{folder} holds {builder.info.file_format.value}; random access needs array_record: "
            "prepare it with file_format='array_record'"
        )
    return builder


def plain(value: Any) -> Any:
    """A value of TFDS as JSON has it: bytes are text, arrays are lists."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else value
