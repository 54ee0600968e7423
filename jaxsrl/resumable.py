"""Which checkpoint a run goes on from: the newest whose files are as they were written."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxsrl.checkpoint import CheckpointError, damage_of
from jaxsrl.checksums import NAME as CHECKSUMS
from jaxsrl.checksums import SHORT, append_note, journal_damage, mend_notes, read_notes
from jaxsrl.processes import broadcast_from_first

NOTES = "saves.jsonl"  # in the run folder: a line for each save that was complete
SET_ASIDE = "damaged"  # under `checkpoints/`
SHOWN = 3  # damaged files of a checkpoint that are named


@dataclass(frozen=True, kw_only=True)
class Resumable:
    """Number of the checkpoint to go on from, None where the run begins; what to say; how many were passed over."""

    count: int | None
    said: tuple[str, ...] = ()
    passed_over: int = 0


def note_save(folder: Path) -> Callable[[int, Mapping[str, Any]], None]:
    """Returns what a complete save is told to: it adds a line to the run's notes."""

    def note(count: int, record: Mapping[str, Any]) -> None:
        append_note(folder / NOTES, {"count": count} | {k: record[k] for k in ("stage", "step", "done")})

    return note


def choose(folder: Path, needed: Callable[[str], bool] = lambda name: False) -> Resumable:
    """The newest good checkpoint of a run folder; newer ones that are damaged are set aside.

    A checkpoint is good if its files have their checksums, and the files of lines begin with the bytes that it knows.
    Where only the latter fails for all of them, the newest is taken and it is said, unless the run reads that file.

    Args:
      needed: whether the run reads a file of lines again, by its name in the folder.
    Raises: CheckpointError where no checkpoint is good, or all were removed.
    """
    root = folder / "checkpoints" / "resume"
    counts = broadcast_from_first(lambda: sorted(int(p.name) for p in root.glob("[0-9]*") if p.name.isdigit()))
    notes = _saved(broadcast_from_first(lambda: read_notes(folder / NOTES)))
    if not counts:
        if notes:
            newest = notes[max(notes)]
            raise CheckpointError(
                f"{folder} was saved up to {_place(newest)}, and {root} holds no checkpoint: put them back, start "
                f"under another name (--set name=...), or remove {folder} to begin anew"
            )
        return Resumable(count=None)
    said, lines = [], {}
    if lost := broadcast_from_first(lambda: mend_notes(folder / NOTES)):
        said.append(f"{folder / NOTES}: {lost} of its lines were damaged and are left out")
    if notes and max(notes) > counts[-1]:
        said.append(f"checkpoint {max(notes)}, of {_place(notes[max(notes)])}, was saved and is no longer there")
    for count in reversed(counts):
        newer = [one for one in counts if one > count]
        wrong = damage_of(root / str(count))
        if count in notes and not broadcast_from_first((root / str(count) / CHECKSUMS).exists):
            wrong = [f"{root / str(count) / CHECKSUMS} is missing"]
        if not wrong:
            found = broadcast_from_first(lambda n=count: _journals(folder, root / str(n)))
            if not found:
                return _chosen(folder, count, said, newer, notes)
            lines[count], wrong = found, list(found.values())
        named = "; ".join(wrong[:SHOWN]) + (f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
        said.append(f"checkpoint {count}{_where(notes, count)} is damaged: {named}")
    again = "put it back, or start under another name (--set name=...)"
    if not lines:
        raise CheckpointError(f"no checkpoint of {folder} is good. {'. '.join(said)}. What was lost: {again}")
    count, named = max(lines), "; ".join(lines[max(lines)].values())
    if any(map(needed, lines[count])) or any(SHORT in line for line in lines[count].values()):
        raise CheckpointError(f"{named}, and the run needs it: {again}")
    said = [line for line in said if not any(text in line for text in lines[count].values())]
    said.append(f"{named}: parameters are good, but these lines are not as they were written")
    return _chosen(folder, count, said, [one for one in counts if one > count], notes)


def _saved(notes: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What was saved, by its number, without what a later attempt went back behind."""
    found: dict[int, dict[str, Any]] = {}
    for note in notes:
        if "back_to" in note:
            found = {count: one for count, one in found.items() if count <= note["back_to"]}
        else:
            found[note["count"]] = note
    return found


def _chosen(folder: Path, count: int, said: list[str], newer: list[int], notes: Mapping[int, Any]) -> Resumable:
    """Takes a checkpoint, and moves newer ones out of the way of those that will be saved."""

    def set_aside() -> None:
        aside = folder / "checkpoints" / SET_ASIDE
        for one in newer:
            aside.mkdir(exist_ok=True)
            number = sum(1 for _ in aside.glob(f"{one}-*"))
            (folder / "checkpoints" / "resume" / str(one)).rename(aside / f"{one}-{number}")
        if newer or max(notes, default=0) > count:
            append_note(folder / NOTES, {"back_to": count})

    broadcast_from_first(set_aside)
    if said:
        kept = f" (what is damaged was moved to {folder / 'checkpoints' / SET_ASIDE})" if newer else ""
        said = [f"warning: {'. '.join(said)}. Going on from checkpoint {count}{_where(notes, count)}{kept}"]
    return Resumable(count=count, said=tuple(said), passed_over=len(newer))


def _journals(folder: Path, checkpoint: Path) -> dict[str, str]:
    record = json.loads((checkpoint / "record" / "metadata").read_text(encoding="utf-8"))
    return journal_damage(folder, record.get("offsets", {}), record.get("crcs", {}))


def _where(notes: Mapping[int, Any], count: int) -> str:
    return f" ({_place(notes[count])})" if count in notes else ""


def _place(note: Mapping[str, Any]) -> str:
    return f"stage {note['stage']}, step {note['step']}"
