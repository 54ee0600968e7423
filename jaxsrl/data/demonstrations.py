"""Fields of files -> Demonstrations, with what could not be read set aside and counted."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxsrl.data.actions import Cut, Splitter, parted, split
from jaxsrl.data.fields import Fields, RowError, number_at, scalar_at, told
from jaxsrl.data.formats import parse_split, shards, source_rows
from jaxsrl.data.jsonl import Bad, DataError, file_hash
from jaxsrl.types import Demonstration

Thoughts = tuple[str | None, ...] | None
SHOWN = 5  # bad rows named in an error
# What two spellings of a problem may differ in.
NOT_NEAR = re.compile(r"[^\w+\-*/^=<>.]|_|(?<!\d)\.|\.(?!\d)")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a set of files held.

    `counts`: `rows` (lines that are not blank), `bad` (set aside, each in `quarantine`), `too_short` (well-formed
    rows of fewer actions than asked for), `demonstrations` (the rest), `problems` (different ones among these).
    `files`: what was read, path -> sha256.
    """

    demonstrations: tuple[Demonstration, ...]
    quarantine: tuple[Bad, ...]
    counts: Mapping[str, int]
    files: Mapping[str, str] = field(default_factory=dict)


def read(
    paths: str | Path | Sequence[str | Path],
    fields: Fields,
    splitter: Splitter,
    *,
    rows_of: str = "train",
    max_bad_share: float = 0.01,
    min_actions: int = 2,
) -> Loaded:
    """Reads demonstrations from files and folders in order, in any format of `formats.py`.

    Args:
      rows_of: the split, or a slice of it, as `train[:1000]`: of the rows of all paths together.
      max_bad_share: bad rows over all rows, above which nothing is returned.
      min_actions: rows with fewer are counted, not kept; with N actions there are N-1 targets, so 1 gives none.
    Raises: DataError if more rows are bad than allowed, none is left, or a file is damaged; FileNotFoundError.
    """
    if not 0 <= max_bad_share <= 1:
        raise ValueError(f"max_bad_share must be in 0..1, got {max_bad_share}")
    if min_actions < 1:
        raise ValueError(f"min_actions must be >= 1, got {min_actions}")
    if fields.thoughts and splitter.annotations == "thought":
        raise ValueError(f"thoughts come from {fields.thoughts=} or from {splitter.annotations=}, not from both")
    kept: list[Demonstration] = []
    quarantine: list[Bad] = []
    first_seen: dict[str, str] = {}
    rows = 0
    wanted = parse_split(rows_of)
    found = [s for path in ([paths] if isinstance(paths, str | Path) else paths) for s in shards(path, wanted.name)]
    files = {str(file): file_hash(file) for shard in found for file in shard.files}
    for shard, (line, row) in source_rows(found, wanted):
        rows += 1
        if isinstance(row, Bad):
            quarantine.append(row)
            continue
        try:
            demonstration = _demonstration(row, fields, splitter, f"{shard.path}:{line}", first_seen)
        except RowError as error:
            quarantine.append(Bad(str(shard.path), line, str(error)))
            continue
        if len(demonstration.actions) >= min_actions:
            kept.append(demonstration)
    counts = {
        "rows": rows,
        "bad": len(quarantine),
        "too_short": rows - len(quarantine) - len(kept),
        "demonstrations": len(kept),
        "problems": len({demonstration.problem_id for demonstration in kept}),
    }
    _check(counts, quarantine, max_bad_share, paths)
    return Loaded(demonstrations=tuple(kept), quarantine=tuple(quarantine), counts=counts, files=files)


def _check(counts: Mapping[str, int], quarantine: list[Bad], max_bad_share: float, paths: Any) -> None:
    shown = "".join(f"\n  {bad}" for bad in quarantine[:SHOWN])
    if counts["bad"] > max_bad_share * counts["rows"]:
        raise DataError(f"{counts['bad']} of {counts['rows']} rows are bad, max_bad_share is {max_bad_share}:{shown}")
    if not counts["demonstrations"]:
        raise DataError(f"no demonstrations in {paths}: {dict(counts)}{shown}")


def _demonstration(
    row: Mapping[str, Any], fields: Fields, splitter: Splitter, source: str, first_seen: dict[str, str]
) -> Demonstration:
    given = splitter.style == "given"
    said = told(row, fields, turns=given)
    if isinstance(said.solution, str) and given:
        raise RowError(f"{fields.solution} must be a list of actions for splitter.style='given', got text")
    if not isinstance(said.solution, str) and not given:
        raise RowError(f"{fields.solution} is a list of actions: set splitter.style='given'")
    if isinstance(said.solution, str):
        cut, thoughts = _cut(said.solution, splitter, fields.solution)
        actions, titles = cut.actions, cut.titles if any(cut.titles) else None
    else:
        actions, thoughts = _given(said.solution, splitter, fields.solution)
        titles = None
    thoughts = thoughts if said.thoughts is None else said.thoughts
    for name, found in (("thoughts", thoughts), ("observations", said.observations), ("labels", said.good)):
        if found is not None and len(found) != len(actions):
            raise RowError(f"{len(found)} {getattr(fields, name) or name} for {len(actions)} actions")
    if fields.id is not None:  # last, so that a bad row does not make a good one of the same id a duplicate
        name = str(scalar_at(row, fields.id))
        if (earlier := first_seen.setdefault(name, source)) != source:
            raise RowError(f"{fields.id} {name!r} was seen before, in {earlier}")
    kept = len(actions) if said.good is None else _kept(said.good, splitter)
    first = lambda values: None if values is None else tuple(values[:kept])
    return Demonstration(
        problem_id=problem_id(said.problem),
        problem=said.problem,
        actions=actions[:kept],
        answer=said.answer,
        titles=first(titles),
        thoughts=first(thoughts),
        observations=first(said.observations),
        source=source,
        quality=None if fields.quality is None else number_at(row, fields.quality),
    )


def _cut(text: str, splitter: Splitter, name: str) -> tuple[Cut, Thoughts]:
    """A solution's actions and thoughts; a block of thought at its start is that of the first action."""
    thought, rest = _parted(text, splitter, name)
    cut = split(rest, splitter)
    if thought is None:
        return cut, cut.thoughts
    later = (cut.thoughts or (None,) * len(cut.actions))[1:]
    return cut, (thought, *later) if cut.actions else None


def _given(texts: Sequence[str], splitter: Splitter, name: str) -> tuple[tuple[str, ...], Thoughts]:
    """Actions that the data give, their blocks of thought apart."""
    pairs = [_parted(text, splitter, name) for text in texts]
    thoughts = tuple(thought for thought, _ in pairs)
    return tuple(text for _, text in pairs), thoughts if any(t is not None for t in thoughts) else None


def _parted(text: str, splitter: Splitter, name: str) -> tuple[str | None, str]:
    if splitter.trace == "keep":
        return None, text
    try:
        thought, rest = parted(text)
    except ValueError as error:
        raise RowError(f"{name} {error}") from error
    return (None if splitter.trace == "drop" else thought), rest


def _kept(good: Sequence[bool], splitter: Splitter) -> int:
    """How many actions of a labelled chain are the expert's."""
    if splitter.labelled == "keep" or all(good):
        return len(good)
    return 0 if splitter.labelled == "all_good" else list(good).index(False)


def problem_id(problem: str) -> str:
    """16 hex digits of a hash of the text, white space folded. Nothing else is: 3+4, 3*4 and 34 are three problems."""
    return hashlib.sha256(" ".join(problem.split()).encode()).hexdigest()[:16]


def near_id(problem: str) -> str:
    """Equal for problems that differ only in case, spacing, punctuation and LaTeX's signs.

    `+-*/^=<>` count, and so does the point of a decimal number.
    """
    text = unicodedata.normalize("NFKC", problem).casefold()
    return NOT_NEAR.sub("", text) or " ".join(problem.split())


def split_by_problem(
    demonstrations: Iterable[Demonstration], *, held_out: int | float, seed: int = 0
) -> tuple[tuple[Demonstration, ...], tuple[Demonstration, ...]]:
    """(kept, held out). Which side a problem is on depends on the seed and on its own text.

    Args:
      held_out: a number of problems (int), or a share of them (float in 0..1). With a share a problem stays on its
        side when others are added.
    """
    demonstrations = tuple(demonstrations)
    draw = {d.problem_id: hashlib.sha256(f"{seed}:{d.problem_id}".encode()).hexdigest() for d in demonstrations}
    if isinstance(held_out, int):
        if not 0 <= held_out < max(len(draw), 1):
            raise ValueError(f"held_out must be in 0..{len(draw) - 1} problems, got {held_out}")
        away = set(sorted(draw, key=draw.__getitem__)[:held_out])
    else:
        if not 0 <= held_out < 1:
            raise ValueError(f"held_out must be in 0..1 as a share, got {held_out}")
        away = {name for name, drawn in draw.items() if int(drawn[:13], 16) < held_out * 16**13}
    return (
        tuple(d for d in demonstrations if d.problem_id not in away),
        tuple(d for d in demonstrations if d.problem_id in away),
    )
