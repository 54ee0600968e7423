"""A set of demonstrations that is built once: a versioned TFDS builder `demonstrations` of ArrayRecord files.

    FOLDER/demonstrations/1.0.0/
      dataset_info.json features.json metadata.json   splits, schema, how it was cut and from what
      demonstrations-train.array_record-00000-of-…    the rows, in the order in which they were read
      crc32-train.npy                                 a checksum of each of them, compared when it is read
      checksums.json                                  sha256 and size of every file above
      passes/                                         what was measured over the whole set, by what it depends on

Any TFDS reads it. Here it is read by random access: what is not asked for is not loaded.
"""

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from jaxsrl.data.formats import optional, plain
from jaxsrl.data.jsonl import DataError, file_hash
from jaxsrl.data.record_sums import open_records, sums_path, write_record_sums
from jaxsrl.types import Demonstration

NAME, VERSION, SCHEMA = "demonstrations", "1.0.0", 1
TEXTS, LISTS = ("problem_id", "problem", "answer", "source"), ("actions", "titles", "thoughts", "observations")
OPTIONAL = ("answer", "titles", "thoughts", "observations", "quality")


@dataclass(frozen=True, eq=False)
class Stored(Sequence[Demonstration]):
    """Demonstrations that are read when they are asked for.

    Args:
      rows: random access to rows.
      index: which of them; None for all.
      changes: applied to what was read, in this order.
    """

    rows: Any
    index: np.ndarray | None = None
    changes: tuple[Callable[[Demonstration], Demonstration], ...] = ()

    def __len__(self) -> int:
        return len(self.rows) if self.index is None else len(self.index)

    @overload
    def __getitem__(self, at: int) -> Demonstration: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Demonstration, ...]: ...
    def __getitem__(self, at):
        if isinstance(at, slice):
            return tuple(self[i] for i in range(*at.indices(len(self))))
        at = range(len(self))[at]
        demonstration = from_row(plain(self.rows[at if self.index is None else int(self.index[at])]))
        for change in self.changes:
            demonstration = change(demonstration)
        return demonstration

    def __iter__(self) -> Iterator[Demonstration]:
        return (self[i] for i in range(len(self)))

    def changed(self, change: Callable[[Demonstration], Demonstration]) -> "Stored":
        return Stored(self.rows, self.index, (*self.changes, change))

    @property
    def places(self) -> np.ndarray:
        """[N] the rows of the set that they are."""
        return np.arange(len(self.rows)) if self.index is None else self.index

    def without(self, rows: np.ndarray) -> "Stored":
        """All but some rows of the set."""
        return Stored(self.rows, self.places[~np.isin(self.places, rows)], self.changes)


def to_row(demonstration: Demonstration) -> dict[str, Any]:
    """A demonstration as the row of a set; what it has not is empty, and `has` names what it has."""
    has = [name for name in OPTIONAL if getattr(demonstration, name) is not None]
    row: dict[str, Any] = {name: getattr(demonstration, name) or "" for name in TEXTS}
    row |= {name: [text or "" for text in getattr(demonstration, name) or ()] for name in LISTS}
    for name in ("titles", "thoughts"):
        row[f"no_{name}"] = [i for i, text in enumerate(getattr(demonstration, name) or ()) if text is None]
    return row | {"has": has, "quality": math.nan if demonstration.quality is None else demonstration.quality}


def from_row(row: Mapping[str, Any]) -> Demonstration:
    """The demonstration that `to_row` wrote."""

    def texts(name: str) -> tuple[str | None, ...]:
        missing = set(row.get(f"no_{name}", ()))
        return tuple(None if i in missing else text for i, text in enumerate(row[name]))

    has = set(row["has"])
    return Demonstration(
        problem_id=row["problem_id"], problem=row["problem"], actions=tuple(row["actions"]), source=row["source"],
        answer=row["answer"] if "answer" in has else None, quality=row["quality"] if "quality" in has else None,
        **{name: texts(name) if name in has else None for name in LISTS[1:]},
    )  # fmt: skip


def write_set(folder: str | Path, splits: Mapping[str, Iterable[Demonstration]], about: Mapping[str, Any]) -> Path:
    """Writes a set; rows are taken one at a time and stay in their order.

    Args:
      about: how it was made, as JSON; stored as the set's metadata.
    Returns: the folder of the version.
    Raises: DataError where the set is there already; TFDS missing.
    """
    folder = Path(folder)
    target = folder / NAME / VERSION
    if target.exists():
        raise DataError(f"{target} is there already; name another folder, or remove it")
    tfds = optional("tensorflow_datasets", folder)
    text, number = tfds.features.Text(), np.int64
    features = {name: text for name in TEXTS} | {name: tfds.features.Sequence(text) for name in (*LISTS, "has")}
    features |= {f"no_{name}": tfds.features.Sequence(number) for name in ("titles", "thoughts")}
    features["quality"] = np.float64

    class Demonstrations(tfds.core.GeneratorBasedBuilder):
        """Expert solutions, cut into actions."""

        name, pkg_dir_path = NAME, None
        VERSION = tfds.core.Version(VERSION)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), description=self.__doc__,
                disable_shuffling=True, metadata=tfds.core.MetadataDict(dict(about) | {"schema": SCHEMA}),
            )  # fmt: skip

        def _split_generators(self, manager):
            return {name: enumerate(map(to_row, rows)) for name, rows in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError  # every split has its rows

    with _without_bars(tfds), redirect_stdout(io.StringIO()):  # its words are about downloads
        Demonstrations(data_dir=folder, file_format="array_record").download_and_prepare()
    _remove_empty(folder / "downloads")
    for split in splits:
        write_record_sums(target, split)
    files = sorted(p for p in target.iterdir() if p.is_file())
    sums = {p.name: {"sha256": file_hash(p), "bytes": p.stat().st_size} for p in files}
    (target / "checksums.json").write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
    return target


@dataclass(frozen=True, kw_only=True)
class BuiltSet:
    """A set on disk."""

    folder: Path
    about: Mapping[str, Any]
    fingerprint: str

    def rows(self, split: str) -> Stored:
        """A split, each of whose rows is compared with its checksum when it is read.

        Raises: DataError where there is none; a row that was damaged raises it too.
        """
        return Stored(open_records(self.folder, split))

    def unchecked(self) -> list[str]:
        """Splits that were built without a checksum for each row, as by versions before there were any."""
        return [s for s in ("train", "validation", "test") if s in self and not sums_path(self.folder, s).exists()]

    def __contains__(self, split: str) -> bool:
        return bool(list(self.folder.glob(f"{NAME}-{split}.array_record*")))


def open_set(path: str | Path) -> BuiltSet:
    """A set by its folder, that of its version, or any between.

    Rows are compared when they are read, see `record_sums.py`; what is read here is compared at once.

    Raises: DataError where there is none, or it is not as it was built.
    """
    path = Path(path)
    folder = next((p for p in (path, path / VERSION, path / NAME / VERSION) if (p / "checksums.json").exists()), None)
    if folder is None:
        raise DataError(f"{path} holds no set that `jaxsrl data build` wrote: it has no checksums.json")
    sums = _read_sums(folder)
    for name, (size, _) in sums.items():
        if not (folder / name).exists() or (folder / name).stat().st_size != size:
            raise DataError(f"{folder / name} is not as it was built ({size} bytes); build the set anew")
    _compare(folder, {name: sum_ for name, sum_ in sums.items() if ".array_record" not in name})
    about = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    if about.get("schema") != SCHEMA:
        raise DataError(f"{folder} has schema {about.get('schema')}, this version reads {SCHEMA}; build the set anew")
    said = {name: {"sha256": text, "bytes": size} for name, (size, text) in sums.items()}
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return BuiltSet(folder=folder, about=about, fingerprint=found)


def check_sums(built: BuiltSet) -> None:
    """Reads every file. Raises: DataError naming one whose content is not what was written."""
    _compare(built.folder, _read_sums(built.folder))


def _read_sums(folder: Path) -> dict[str, tuple[int, str]]:
    """Name -> bytes and SHA-256."""
    path = folder / "checksums.json"
    try:
        sums = json.loads(path.read_text(encoding="utf-8"))
        return {name: (int(sum_["bytes"]), str(sum_["sha256"])) for name, sum_ in sums.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged; put it back from a copy, or build the set anew") from error


def _compare(folder: Path, sums: Mapping[str, tuple[int, str]]) -> None:
    for name, (_, text) in sums.items():
        if file_hash(folder / name) != text:
            raise DataError(f"{folder / name} has changed since it was built; build the set anew")


@contextmanager
def _without_bars(tfds: Any) -> Iterator[None]:
    tfds.disable_progress_bar()
    try:
        yield
    finally:
        tfds.enable_progress_bar()


def _remove_empty(folder: Path) -> None:
    """The folder of downloads that TFDS makes, where nothing was downloaded."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir()
    if folder.exists():
        folder.rmdir()
