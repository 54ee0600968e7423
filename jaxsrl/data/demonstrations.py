"""Fields of files -> Demonstrations, with what could not be read set aside and counted."""

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from jaxsrl.data.actions import Cut, Splitter, split
from jaxsrl.data.jsonl import Bad, DataError, read_rows
from jaxsrl.ops.text.marks import after_mark
from jaxsrl.types import Demonstration

SHOWN = 5  # bad rows named in an error
# What two spellings of a problem may differ in.
NOT_NEAR = re.compile(r"[^\w+\-*/^=<>.]|_|(?<!\d)\.|\.(?!\d)")


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Which field of a row holds what. A field that is named must be in every row.

    Args:
      answer: text or number; null where a row has no answer.
      answer_mark: the answer is what follows the last of these marks in the solution, on its line (`####` in GSM8K).
      id: must not occur twice.
      thoughts: a list of texts, one for each action.
      quality: a finite number, higher is better; `Curation` can choose by it.
    """

    problem: str = "problem"
    solution: str = "solution"
    answer: str | None = None
    answer_mark: str | None = None
    id: str | None = None
    thoughts: str | None = None
    quality: str | None = None

    def __post_init__(self):
        for name in ("problem", "solution"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name a field, got {getattr(self, name)!r}")
        if self.answer is not None and self.answer_mark is not None:
            raise ValueError(f"give answer or answer_mark, got {self.answer=} {self.answer_mark=}")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a set of files held.

    `counts`: `rows` (lines that are not blank), `bad` (set aside, each in `quarantine`), `too_short` (well-formed
    rows of fewer actions than asked for), `demonstrations` (the rest), `problems` (different ones among these).
    """

    demonstrations: tuple[Demonstration, ...]
    quarantine: tuple[Bad, ...]
    counts: Mapping[str, int]


class RowError(ValueError):
    """Why a row is set aside."""


def read(
    paths: str | Path | Sequence[str | Path],
    fields: Fields,
    splitter: Splitter,
    *,
    max_bad_share: float = 0.01,
    min_actions: int = 2,
) -> Loaded:
    """Reads demonstrations from `.jsonl` and `.jsonl.gz` files, in order.

    Args:
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
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for line, row in read_rows(path):
            rows += 1
            if isinstance(row, Bad):
                quarantine.append(row)
                continue
            try:
                demonstration = _demonstration(row, fields, splitter, f"{path}:{line}", first_seen)
            except RowError as error:
                quarantine.append(Bad(str(path), line, str(error)))
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
    return Loaded(demonstrations=tuple(kept), quarantine=tuple(quarantine), counts=counts)


def _check(counts: Mapping[str, int], quarantine: list[Bad], max_bad_share: float, paths: Any) -> None:
    shown = "".join(f"\n  {bad}" for bad in quarantine[:SHOWN])
    if counts["bad"] > max_bad_share * counts["rows"]:
        raise DataError(f"{counts['bad']} of {counts['rows']} rows are bad, max_bad_share is {max_bad_share}:{shown}")
    if not counts["demonstrations"]:
        raise DataError(f"no demonstrations in {paths}: {dict(counts)}{shown}")


def _demonstration(
    row: Mapping[str, Any], fields: Fields, splitter: Splitter, source: str, first_seen: dict[str, str]
) -> Demonstration:
    problem, solution = _text(row, fields.problem), _text(row, fields.solution)
    answer, cut = _answer(row, fields, solution), split(solution, splitter)
    thoughts = _thoughts(row, fields, cut)
    if fields.id is not None:  # last, so that a bad row does not make a good one of the same id a duplicate
        name = str(_scalar(row, fields.id))
        if (earlier := first_seen.setdefault(name, source)) != source:
            raise RowError(f"{fields.id} {name!r} was seen before, in {earlier}")
    return Demonstration(
        problem_id=problem_id(problem),
        problem=problem,
        actions=cut.actions,
        answer=answer,
        titles=cut.titles if any(cut.titles) else None,
        thoughts=thoughts,
        source=source,
        quality=None if fields.quality is None else _number(row, fields.quality),
    )


def _value(row: Mapping[str, Any], field: str) -> Any:
    if field not in row:
        raise RowError(f"no field {field!r}, it has {', '.join(map(repr, list(row)[:8]))}")
    return row[field]


def _checked(text: Any, field: str) -> str:
    if not isinstance(text, str):
        raise RowError(f"{field} must be text, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, UTF-8 and tokenizers cannot
        raise RowError(f"{field} holds half of a surrogate pair at character {error.start}") from None
    return text


def _text(row: Mapping[str, Any], field: str) -> str:
    text = _checked(_value(row, field), field).strip()
    if not text:
        raise RowError(f"{field} is empty")
    return text


def _scalar(row: Mapping[str, Any], field: str) -> str:
    """A text or a finite number, as text: 27.0 is written 27, and 0.00005 without the exponent of Python's 5e-05."""
    value = _value(row, field)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise RowError(f"{field} must be finite, got {value}")
        return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")
    return _text(row, field)


def _number(row: Mapping[str, Any], field: str) -> float:
    try:
        return float(_scalar(row, field))
    except ValueError as error:
        raise RowError(str(error) if isinstance(error, RowError) else f"{field} must be a number") from None


def _answer(row: Mapping[str, Any], fields: Fields, solution: str) -> str | None:
    if fields.answer_mark is not None:
        after = after_mark(solution, fields.answer_mark)
        if after is None:
            raise RowError(f"{fields.solution} has no answer after {fields.answer_mark!r} on its line")
        return after
    if fields.answer is None or _value(row, fields.answer) is None:
        return None
    return _scalar(row, fields.answer)


def _thoughts(row: Mapping[str, Any], fields: Fields, cut: Cut) -> tuple[str, ...] | None:
    if fields.thoughts is None:
        return cut.thoughts
    thoughts = _value(row, fields.thoughts)
    if not isinstance(thoughts, list):
        raise RowError(f"{fields.thoughts} must be a list, got {type(thoughts).__name__}")
    if len(thoughts) != len(cut.actions):
        raise RowError(f"{len(thoughts)} {fields.thoughts} for {len(cut.actions)} actions")
    return tuple(_checked(thought, fields.thoughts) for thought in thoughts)


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
