"""A run's folder as the store knows it, on a machine that has nothing or less."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxsrl.stores.lease import Hold
from jaxsrl.stores.objects import Objects, StoreError
from jaxsrl.stores.snapshot import RESUME, Damaged, fetch, manifest, newest

NAMED = 3  # damaged files of a snapshot that are named


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What to say, the number of the checkpoint that folder and store both have, and parts that were found good."""

    said: tuple[str, ...] = ()
    done: int | None = None
    good: frozenset[str] = frozenset()


def restored(hold: Hold, folder: Path) -> Restored:
    """Makes the folder what the store knows, where it has no checkpoint or somebody else has stored one since.

    What was written here last is as new as the store or newer: beside the folder a note has the token of the hold that
    it was written under.

    Raises: StoreError where no snapshot can be used.
    """
    note, snapshots, found = folder.with_name(f"{folder.name}.token"), hold.head.snapshots, Restored()
    mine = int(text) if note.is_file() and (text := note.read_text().strip()).isdigit() else 0
    usable = newest(folder) is not None and all(snapshot["token"] <= mine for snapshot in snapshots)
    if snapshots and not usable:
        chosen, found = _fetched(hold.objects, snapshots, folder)
        if chosen < len(snapshots) - 1:
            hold.go_back(snapshots[: chosen + 1])
    note.write_text(str(hold.head.token))
    count = newest(folder)
    return replace(found, done=count if snapshots and count == hold.head.snapshots[-1]["count"] else None)


def _fetched(objects: Objects, snapshots: tuple[Mapping[str, Any], ...], folder: Path) -> tuple[int, Restored]:
    """Replaces the folder by the newest good snapshot's files. Returns its index too.

    A snapshot is good if all of its files are. Where none is, the newest whose checkpoint is: what else is damaged
    is named when the run reads it.
    """
    incoming = folder.with_name(f"{folder.name}.incoming")
    wrong: dict[int, dict[str, str]] = {}
    for index in range(len(snapshots) - 1, -1, -1):
        wrong[index] = _try(objects, snapshots[index], incoming)
        if not wrong[index]:
            break
    else:
        whole = [index for index, found in wrong.items() if not any(name.startswith(RESUME) for name in found)]
        if not whole:
            named = " ".join(_named(snapshots[index], found) for index, found in wrong.items())
            raise StoreError(
                f"no snapshot of {objects.address} is good. {named} Put older versions of these objects back, or start "
                "under another name (--set name=...)"
            )
        index = whole[0]
        _try(objects, snapshots[index], incoming)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(incoming, folder)
    at = _place(snapshots[index])
    said = [f"warning: {_named(snapshots[one], found)} Going on from {at}" for one, found in wrong.items() if found]
    parts = [] if wrong[index] else manifest(objects, snapshots[index]).values()
    good = frozenset(sha for some in parts for sha, _ in some)
    return index, Restored(said=(*said, f"{objects.address}: {at} copied to {folder}"), good=good)


def _try(objects: Objects, snapshot: Mapping[str, Any], to: Path) -> dict[str, str]:
    shutil.rmtree(to, ignore_errors=True)
    try:
        return fetch(objects, manifest(objects, snapshot), to)
    except Damaged as error:
        return {f"{RESUME}, its manifest": str(error)}


def _named(snapshot: Mapping[str, Any], wrong: Mapping[str, str]) -> str:
    lines = list(wrong.values())
    more = f" and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    return f"{_place(snapshot)} is damaged in the store: {'; '.join(lines[:NAMED])}{more}."


def _place(snapshot: Mapping[str, Any]) -> str:
    return f"checkpoint {snapshot['count']} (stage {snapshot['stage']}, step {snapshot['step']})"
