"""A stage's demonstrations from a set that `jaxsrl data build` wrote."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from jaxsrl.config.demonstrations import data_folder
from jaxsrl.config.run import TaskData
from jaxsrl.config.splits import finished_by
from jaxsrl.data import datasets
from jaxsrl.data.actions import Splitter, first_action
from jaxsrl.data.built import BuiltSet, Stored, open_set
from jaxsrl.data.formats import parse_split
from jaxsrl.data.large import MEASURED_WHOLE
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.types import Demonstration


@dataclass(frozen=True, kw_only=True)
class Built:
    """A set that is read row by row as training asks for it. How it was cut and split was said when it was built.

    Args:
      path: the set's folder, relative to the data folder or absolute.
      rows_of: of its training split: `train`, or a slice as `train[:1000]`, which is how a set is curated.
      reward: judges final answers; None takes the one that it was built with.
    """

    path: str
    rows_of: str = "train"
    reward: FinalAnswer | None = None

    def __post_init__(self):
        parse_split(self.rows_of)

    def load(self, data_dir: str | None) -> TaskData:
        """Raises: DataError where the set is not as it was built."""
        path = self.path if os.path.isabs(self.path) else datasets.find(data_folder(data_dir), self.path)
        built = open_set(path)
        about = built.about
        reward = self.reward or FinalAnswer(extract=about["extract"])
        splitter = Splitter(**about["splitter"])
        return TaskData(
            train=_rows(built, self.rows_of), validation=_rows(built, "validation"), test=_rows(built, "test"),
            reward=reward, finished=finished_by(about["finish_mark"]), same=reward.same, splitter=splitter,
            first_action=partial(first_action, splitter=splitter), finish_mark=about["finish_mark"],
            counts=about["counts"], notes=(*about["notes"], *_unchecked(built)), files={str(path): built.fingerprint},
            passes=built.folder / "passes", keyless=np.array(about["keyless"], int),
        )  # fmt: skip


def _unchecked(built: BuiltSet) -> list[str]:
    """What is to be said of a set whose rows have no checksums."""
    if not (splits := built.unchecked()):
        return []
    return [
        f"{built.folder} was built by a version without checksums of rows: a flipped bit in {' or '.join(splits)} "
        "is not found when it is read; `jaxsrl data build` into another folder adds them"
    ]


def _rows(built: BuiltSet, rows_of: str) -> Sequence[Demonstration]:
    """Rows of a split: all of them where they are few, else as they are asked for."""
    split = parse_split(rows_of)
    if split.name not in built:
        return ()
    stored = built.rows(split.name)
    start, stop = split.bounds(len(stored))
    chosen = Stored(stored.rows, np.arange(start, stop))
    return tuple(chosen) if len(chosen) <= MEASURED_WHOLE else chosen


def about_set(splits: TaskData, rows: dict[str, Any]) -> dict[str, Any]:
    """What a set's metadata say of how it was made.

    Args:
      rows: more of it.
    """
    return rows | {"counts": dict(splits.counts), "notes": list(splits.notes), "files": dict(splits.files)}
