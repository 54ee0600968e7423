"""A CRC-32 of every row of a built set, written with the set and compared whenever a row is read.

    demonstrations-train.array_record-00000-of-00002    the rows
    crc32-train.npy                                     [N] uint32, of each row's bytes in their file

Storage returns wrong bits without an error, and a text with another letter in it trains as well as the right one. A
row of 1 kB takes a microsecond to compare; to decode it, some 200.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt32

from jaxsrl.data.formats import optional, tfds_builder
from jaxsrl.data.jsonl import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """Rows of a split by random access, each compared with its sum before it is decoded.

    Args:
      raw: the bytes of rows.
      sums: None for a set that was built without them: nothing is compared.
      ends, files: of each file, the number of rows up to its end; and its path.
    """

    raw: Sequence[bytes]
    decode: Callable[[bytes], dict[str, Any]]
    sums: UInt32[np.ndarray, "N"] | None
    ends: np.ndarray
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, at: int) -> dict[str, Any]:
        """Raises: DataError naming the file and the row where it is not as it was written, or cannot be read."""
        try:
            record = self.raw[at]
        except Exception as error:  # the reader's own: its kind depends on what was hit
            raise self._damaged(at, f"cannot be read ({' '.join(str(error).split())[:120]})") from error
        if self.sums is not None and zlib.crc32(record) != self.sums[at]:
            raise self._damaged(at, "is not as it was written: its checksum is another")
        return self.decode(record)

    def _damaged(self, at: int, what: str) -> DataError:
        shard = int(np.searchsorted(self.ends, at, side="right"))
        row = at - (int(self.ends[shard - 1]) if shard else 0)
        return DataError(
            f"{self.files[shard]}: row {row}, counted from 0, {what}. Put the file back from a copy, or build the set "
            "anew (`jaxsrl data build`) into another folder"
        )


def open_records(folder: Path, split: str) -> Records:
    """The rows of a split of a built set. Raises: DataError where there is none."""
    builder = tfds_builder(folder, split)
    tfds, info = optional("tensorflow_datasets", folder), builder.info.splits[split]
    path = sums_path(folder, split)
    return Records(
        raw=builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES),
        decode=builder.info.features.deserialize_example_np, sums=np.load(path) if path.exists() else None,
        ends=np.cumsum(info.shard_lengths), files=tuple(Path(str(one)) for one in info.filepaths),
    )  # fmt: skip


def write_record_sums(folder: Path, split: str) -> None:
    """Reads a split that was just written, and writes the sums of its rows beside it."""
    records = open_records(folder, split)
    sums = np.fromiter((zlib.crc32(records.raw[at]) for at in range(len(records))), np.uint32, len(records))
    np.save(sums_path(folder, split), sums)


def sums_path(folder: Path, split: str) -> Path:
    return folder / f"crc32-{split}.npy"
