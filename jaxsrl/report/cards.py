"""Which completions a page shows: groups of training and problems of evaluations, evenly over steps."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from jaxsrl.report.read import Run, is_number, raw_lines, step_of
from jaxsrl.report.scale import evenly

MOST_ROLLOUTS = 900  # of training on a page; each takes about a kilobyte
MOST_OF_GROUP = 8
STEPS, EVALUATED_STEPS = 8, 3  # of a stage
PROBLEMS = 4  # of a split, the same ones at every step
MOST_OF_PROBLEM = 16  # completions
ACTION_MODES = ("actions", "chained")

Row = Mapping[str, Any]
GROUP = re.compile(rb'"group": ?(\d+)')
KEPT = re.compile(rb'"kept": ?true')
SPLIT = re.compile(rb'"split": ?"((?:[^"\\]|\\.)*)"')
PROBLEM = re.compile(rb'"problem": ?"((?:[^"\\]|\\.)*)"')
KEY = re.compile(rb'"demonstration": ?"([0-9a-f]+)"')


@dataclass(frozen=True, kw_only=True)
class Card:
    """Completions that are looked at together.

    Args:
      index: the stage's place in the run.
      source: `training`, or the split of an evaluation.
      mode: `action` or `solve` in training, else the evaluation's mode.
      after: expert actions given to all of them; None where that differs.
      rows: the completions shown, of `size`. In training the highest reward comes first.
    """

    stage: str
    index: int
    source: str
    step: int
    mode: str
    after: int | None
    rows: tuple[Row, ...]
    size: int

    @property
    def problem(self) -> str:
        return str(self.rows[0].get("problem"))

    @property
    def training(self) -> bool:
        return self.source == "training"

    @property
    def scores(self) -> list[float | None]:
        """What rows are sorted and filtered by, see `score`."""
        return [score(row, training=self.training) for row in self.rows]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Cards, and how many completions there are in all."""

    cards: list[Card] = field(default_factory=list)
    sampled: int = 0  # lines of rollouts
    evaluated: int = 0  # lines of evaluations

    def shown(self, *, training: bool) -> int:
        return sum(len(card.rows) for card in self.cards if card.training == training)


def score(row: Row, *, training: bool) -> float | None:
    """The reward; of an evaluation the similarity, or 1 for a right answer and 0 for a wrong one."""
    names = ("reward",) if training else ("similarity", "correct")
    found = next((row[name] for name in names if isinstance(row.get(name), int | float)), None)
    return float(found) if found is not None and is_number(float(found)) else None


def choose(run: Run, complaints: list[str]) -> Chosen:
    """What to show. Not the best, so that it is typical.

    Of training, at up to STEPS steps of a stage, evenly spread, the first group that was kept, the first that was
    dropped, and others evenly in the order they were sampled. Of evaluations the same few problems at each of up to
    EVALUATED_STEPS steps.
    """
    cards, sampled, evaluated = [], 0, 0
    scans = {stage: _scan(run.rollouts.get(stage, ())) for stage in run.stages}
    places = sum(min(len(scan.steps), STEPS) for scan in scans.values())
    groups = max(2, min(12, MOST_ROLLOUTS // MOST_OF_GROUP // max(places, 1)))
    for index, stage in enumerate(run.stages):
        sampled += scans[stage].count
        cards += _of_training(run, stage, index, scans[stage], groups, complaints)
        found, count = _of_evaluations(run, stage, index, complaints)
        cards, evaluated = cards + found, evaluated + count
    return Chosen(cards=cards, sampled=sampled, evaluated=evaluated)


@dataclass(kw_only=True)
class _Groups:
    """Of a step: the first group that was kept, the first that was not, and the last number."""

    kept: int | None = None
    dropped: int | None = None
    last: int = 0

    def pick(self, most: int) -> set[int]:
        first = {one for one in (self.kept, self.dropped) if one is not None}
        return first | set(evenly(range(self.last + 1), max(most - len(first), 1)))


@dataclass(kw_only=True)
class _Scan:
    """What a file of rollouts holds, without its texts."""

    steps: dict[int, _Groups] = field(default_factory=dict)
    count: int = 0
    odd: int = 0  # lines without a step


def _scan(paths: Iterable[Path]) -> _Scan:
    scan = _Scan()
    for data in chain.from_iterable(map(raw_lines, paths)):
        step = step_of(data)
        if step is None:
            scan.odd += bool(data.strip())
            continue
        scan.count += 1
        of_step, number = scan.steps.setdefault(step, _Groups()), _group(data)
        kind = "kept" if KEPT.search(data) else "dropped"
        known = getattr(of_step, kind)
        setattr(of_step, kind, number if known is None else min(known, number))
        of_step.last = max(of_step.last, number)
    return scan


def _group(data: bytes) -> int:
    found = GROUP.search(data)
    return int(found.group(1)) if found else 0


def _of_training(run: Run, stage: str, index: int, scan: _Scan, groups: int, complaints: list[str]) -> list[Card]:
    steps = evenly(sorted(scan.steps), STEPS)
    wanted = {step: scan.steps[step].pick(groups) for step in steps}
    rows, bad = _parsed(run.rollouts.get(stage, ()), lambda data: _group(data) in wanted.get(step_of(data), ()))
    _complain(bad + scan.odd, f"rollouts/{stage}.jsonl", complaints)
    together: dict[tuple[int, str], list[Row]] = {}
    for row in sorted(rows, key=_place):  # whichever process wrote them
        together.setdefault((row["step"], json.dumps(row.get("group"))), []).append(row)
    cards = []
    for (step, _), group in together.items():
        ranked = sorted(group, key=lambda row: -_rank(score(row, training=True)))
        after, whole = group[0].get("branch"), group[0].get("form") == "solve"
        whole = whole or group[0].get("direct_or_chained") == "direct"  # the name it had
        cards.append(
            Card(
                stage=stage, index=index, source="training", step=step, mode="solve" if whole else "action",
                after=after if is_number(after) else None, rows=tuple(evenly(ranked, MOST_OF_GROUP)), size=len(group),
            )
        )  # fmt: skip
    return cards


def _rank(value: float | None) -> float:
    return float("-inf") if value is None else value


def _of_evaluations(run: Run, stage: str, index: int, complaints: list[str]) -> tuple[list[Card], int]:
    """Greedy completions of a stage's evaluations, `<think>` not written for the model, and the number of all lines."""
    paths = run.evaluated.get(stage, ())
    steps: dict[bytes, set[int]] = {}
    problems: dict[bytes, dict[bytes, None]] = {}
    count = 0
    for data in chain.from_iterable(map(raw_lines, paths)):
        step, split, problem = step_of(data), SPLIT.search(data), PROBLEM.search(data)
        if step is None or split is None or problem is None:
            continue
        count += 1
        steps.setdefault(split.group(1), set()).add(step)
        problems.setdefault(split.group(1), {})[problem.group(1)] = None
    picked = {split: set(evenly(sorted(found), EVALUATED_STEPS)) for split, found in steps.items()}
    asked = {split: set(evenly(sorted(found), PROBLEMS)) for split, found in problems.items()}

    def wanted(data: bytes) -> bool:
        split, problem = SPLIT.search(data), PROBLEM.search(data)
        if split is None or problem is None or b'"forced_' in data:
            return False
        return step_of(data) in picked[split.group(1)] and problem.group(1) in asked[split.group(1)]

    rows, bad = _parsed(paths, wanted)
    _complain(bad, f"evals/{stage}.jsonl", complaints)
    together: dict[tuple[str, int, str, str], list[Row]] = {}
    for row in rows:
        if row.get("decoding", "greedy") == "greedy":
            place = str(row.get("split")), row["step"], str(row.get("mode")), str(row.get("demonstration"))
            together.setdefault((*place[:3], f"{row.get('problem')} {place[3]}"), []).append(row)
    cards = [
        Card(
            stage=stage, index=index, source=split, step=step, mode=mode, after=None,
            rows=tuple(evenly(sorted(found, key=_place), MOST_OF_PROBLEM)), size=len(found),
        )
        for (split, step, mode, _), found in together.items()
    ]  # fmt: skip
    return sorted(cards, key=lambda card: (card.source, card.step)), count


def _place(row: Row) -> tuple[float, ...]:
    return tuple(n if is_number(n := row.get(name)) else 0 for name in ("step", "group", "sample", "branch"))


def _parsed(paths: Iterable[Path], wanted: Callable[[bytes], bool]) -> tuple[list[dict[str, Any]], int]:
    """Rows with a completion among the lines that are wanted, and how many of these could not be read."""
    rows, bad = [], 0
    for data in chain.from_iterable(map(raw_lines, paths)):
        if not wanted(data):
            continue
        row = _row(data)
        if row is not None and isinstance(row.get("completion"), str) and isinstance(row.get("step"), int):
            rows.append(row)
        else:
            bad += 1
    return rows, bad


def _row(data: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _complain(bad: int, name: str, complaints: list[str]) -> None:
    if bad:
        complaints.append(f"{bad} line{'s' * (bad > 1)} of {name} could not be read and were left out")


def texts_of(run: Run, cards: Sequence[Card]) -> dict[str, Row]:
    """Lines of `problems/` by their key, of the demonstrations that the cards refer to."""
    keys = {str(key).encode() for card in cards if (key := card.rows[0].get("demonstration")) is not None}
    out: dict[str, Row] = {}
    for stage in dict.fromkeys(card.stage for card in cards):
        for data in _lines_with(run.problems.get(stage, ()), keys):
            row = _row(data)
            if row is not None:
                out.setdefault(str(row.get("demonstration")), row)
    return out


def _lines_with(paths: Iterable[Path], keys: set[bytes]) -> Iterator[bytes]:
    for data in chain.from_iterable(map(raw_lines, paths)):
        found = KEY.search(data)
        if found and found.group(1) in keys:
            yield data
