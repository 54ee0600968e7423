"""Shapes chosen from a stage's trees, so that little of a sheet or of a learner's row is empty."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxsrl.data.compaction import compose, plan
from jaxsrl.data.prompt_rows import place
from jaxsrl.data.shapes import MOST_ROWS, Shapes
from jaxsrl.data.tables import Forest, Tables, hang, tabulate
from jaxsrl.types import BranchPoint, Tree

ROUNDS, DEMONSTRATIONS = 64, 1024  # tried at most: so many rounds, and about so many demonstrations
LARGEST = 128  # demonstrations of a round that is tried; a larger round takes in proportion
LONGER = (1, 1.5, 2, 3, 4, 6)  # a sheet's rows tried, in terms of what must fit
LEAST_DEMONSTRATIONS, LEAST_JOBS = 8, 128  # of a sheet, where a round has more than one
LITTLE_MORE = 1.05  # tokens computed in a round of one sheet over those needed, at which no longer rows are tried
ENOUGH = 0.085  # of a sheet's places empty in the rounds tried, at which no longer rows are
# A learner's rows tried: how well whole trees and a round divide among them goes up and down within a few percent of
# their length, so that the steps are small.
FINER, LONGEST_ROWS = 1.04, 24
ENOUGH_ROWS = 0.04  # of their places empty in the rounds tried, whose completions are made up
TRIED, TRIED_FULL = 16, 4  # rounds for that at most, with lengths that are made up and with all at the cap
FEW = 32  # demonstrations: a round of fewer has three sizes of batches at most
SMALLEST = 0.03  # of a typical round's rows, in the smallest batch: half of them are empty in the last one
SPREAD = 0.6  # of the logarithm of a completion's length, which is half the cap on average
KEPT = 0.4  # of rollouts, where a learner's rows are chosen


@dataclass(frozen=True, kw_only=True)
class Room:
    """What shapes are chosen for.

    Args:
      demonstrations: of a round.
      completion_tokens: the cap of a completion (C).
      code_points: of an expert's action, for a reward on the device.
      sheets: a round takes about so many, up to twice as many where less is empty then; fewer where a sheet would have
        less than 8 demonstrations or 128 completions, as each reads all weights for every token: a round of less than
        16 or 256 takes one.
      prompt_parts, parts: prompt rows of a sheet, and rows of a learner's batch, are multiples of these.
      batch_tokens: of a learner's batch, at most.
      longest_prompt, longest_path: tokens that a row must hold at least; another step may ask for more than this one.
      whole_groups: a group stays in one learner's row.
    """

    demonstrations: int
    completion_tokens: int
    code_points: int = 0
    sheets: int = 8
    prompt_parts: int = 1
    parts: int = 1
    batch_tokens: int = 2**17
    longest_prompt: int = 0
    longest_path: int = 0
    whole_groups: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class _Round:
    forest: Forest
    samples: Int[np.ndarray, "I"]
    tables: Tables  # with a rollout for each sample

    @property
    def jobs(self) -> int:
        return int(self.samples.sum())


def choose_shapes(
    trees: Sequence[Tree],
    points: Sequence[Sequence[BranchPoint]],
    room: Room,
    fixed: Mapping[str, Any] | None = None,
) -> Shapes:
    """Shapes for rounds of these trees. The longest given fits; a longer one is refused when it comes.

    Args:
      trees, points: of a stage's demonstrations with their branch points, all of them where that is cheap.
      fixed: fields of `Shapes` that are given; the others are chosen for them.
    Raises: ValueError if there are no trees, or what is fixed cannot hold them.
    """
    if not trees:
        raise ValueError("shapes are chosen from demonstrations, and there are none")
    fixed = dict(fixed or {})
    whole = _round(trees, points)
    drawn = min(room.demonstrations, LARGEST)
    rounds, times = list(_rounds(trees, points, drawn)), room.demonstrations / drawn
    group = max((point.samples for drawn in points for point in drawn), default=1)
    least = min((point.samples for drawn in points for point in drawn), default=1)
    sheet = _sheet(whole, rounds, times, room, group, fixed)
    pool = times * max(len(r.forest.token) for r in rounds)
    shapes = Shapes(
        **sheet | {
            "groups": max(sheet["prompt_rows"] * sheet["slots"] // least, 1), "group_size": group,
            "code_points": room.code_points, "trunk_tokens": _up(pool * 1.25, 256),
            "demonstrations": room.demonstrations, "targets": int(whole.forest.targets.max(initial=0)),
            "tokens": 1, "runs": 1, "rows": (1,), "round_rows": 1,
        } | fixed
    )  # fmt: skip
    return replace(shapes, **_learner(whole, rounds, times, room, shapes, fixed))


def _round(trees, points) -> _Round:
    forest = tabulate(trees)
    samples = np.zeros(len(forest.nodes), int)
    for place_, tree, drawn in zip(forest.place, trees, points, strict=True):
        for point in drawn:
            samples[place_[tree.branch[point.form, point.after]]] += point.samples
    at = np.repeat(np.arange(len(samples)), samples)
    return _Round(
        forest=forest, samples=samples, tables=hang(forest.nodes, at, np.arange(len(at)), at)
    )  # fmt: skip


def _rounds(trees, points, demonstrations: int) -> Iterator[_Round]:
    """Made-up rounds, each of demonstrations drawn without repeats as long as there are enough."""
    rng = np.random.default_rng(0)
    for _ in range(min(ROUNDS, max(2, DEMONSTRATIONS // demonstrations))):
        order = np.concatenate([rng.permutation(len(trees)) for _ in range(-(-demonstrations // len(trees)))])
        drawn = order[:demonstrations]
        yield _round([trees[i] for i in drawn], [points[i] for i in drawn])


def _sheet(
    whole: _Round, rounds: Sequence[_Round], times: float, room: Room, group: int, fixed: Mapping[str, Any]
) -> dict[str, int]:
    """Size of a sheet: the shortest rows that leave little empty, else those for which about the least is computed.

    A round of one sheet takes the latter in any case: a row more or less changes much.
    """
    if not whole.jobs:
        return {"prompt_rows": room.prompt_parts, "prompt_tokens": 1, "slots": 1, "sheets": 0}
    nodes = whole.forest.nodes
    longest = max(room.longest_prompt, int((nodes.position + nodes.length)[whole.samples > 0].max()))
    jobs = times * np.mean([r.jobs for r in rounds])
    aim = min(room.sheets, max(room.demonstrations // LEAST_DEMONSTRATIONS, 1), max(int(jobs / LEAST_JOBS), 1))
    made: list[tuple[float, float, dict[str, int]]] = []
    for longer in LONGER:
        tokens = fixed.get("prompt_tokens", _up(longest * longer, 64 if longest > 256 else 16))
        here = [
            sized for slots in _slots(rounds, tokens, group, fixed)
            for sized in _sized(rounds, times, tokens, slots, aim, room, fixed)
        ]  # fmt: skip
        if aim > 1 and (good := [sheet for empty, _, sheet in here if empty <= ENOUGH]):
            return max(good, key=lambda sheet: sheet["prompt_rows"] * sheet["slots"])
        made += here
        if "prompt_tokens" in fixed or (aim == 1 and min(computed for _, computed, _ in here) <= LITTLE_MORE):
            break
    least = min(computed for _, computed, _ in made)
    # Of about equal ones the first, as a completion attends to what else is in its row in vain.
    return next(sheet for _, computed, sheet in made if computed <= 1.03 * least)


def _slots(rounds: Sequence[_Round], tokens: int, group: int, fixed: Mapping[str, Any]) -> list[int]:
    """Multiples of a group about which tokens and slots of a row run out together."""
    if "slots" in fixed:
        return [fixed["slots"]]
    per_token = sum(r.jobs for r in rounds) / sum(int(r.forest.nodes.length.sum()) for r in rounds)
    whole = max(int(tokens * per_token) // group, 1) * group
    return sorted({_up(tokens * per_token * share, group) for share in (0.85, 0.9, 0.95, 1, 1.05)} | {whole})


def _sized(
    rounds, times: float, tokens: int, slots: int, aim: int, room: Room, fixed
) -> list[tuple[float, float, dict[str, int]]]:
    """Sheets of such rows. Each comes with the share left empty, of jobs or of token places, whichever is more, and
    with the tokens computed over those needed: of prompts once, of a completion up to half the cap."""
    placed = [place(r.forest.nodes, r.samples, prompt_rows=1, prompt_tokens=tokens, slots=slots) for r in rounds]
    rows = np.ceil(times * np.array([p.sheets for p in placed])).astype(int)
    jobs = times * sum(r.jobs for r in rounds)
    used = times * sum(int(p.items.position[p.first].sum() + p.items.length.sum()) for p in placed)
    least, most = rows.mean() / (2 * aim), rows.mean() / aim
    sizes = [rows.max()] if aim == 1 else range(max(int(np.ceil(least)), 1), max(int(most), 1) + 1)
    made = []
    for size in (
        [fixed["prompt_rows"]] if "prompt_rows" in fixed else sorted({_up(n, room.prompt_parts) for n in sizes})
    ):
        sheets = -(-rows // size)
        places = int(sheets.sum()) * size
        empty = 1 - min(jobs / (places * slots), used / (places * tokens))
        computed = places * (tokens + slots * room.completion_tokens / 2) / (used + jobs * room.completion_tokens / 2)
        made.append((
            empty, computed, {"prompt_rows": size, "prompt_tokens": tokens, "slots": slots, "sheets": int(sheets.max())}
        ))  # fmt: skip
    return made


def _learner(
    whole: _Round, rounds, times: float, room: Room, shapes: Shapes, fixed: Mapping[str, Any]
) -> dict[str, Any]:
    """Sizes of a learner's rows and batches, in the same way; trunks that are repeated count as empty.

    They are tried with lengths that are made up. A round of few demonstrations is tried with completions that all reach
    the cap and are kept, too, as those of a model do that has not learned to end: its few pieces may fit rows well in
    one case and not in the other, and what counts is the mean. A row of each part is no longer than a batch, unless
    what must fit is.
    """
    table = whole.tables
    paths = table.position + np.where(table.job >= 0, room.completion_tokens, table.length)
    longest = max(room.longest_path, int(paths.max(initial=1)))
    if room.whole_groups and whole.jobs:
        leaf = table.job >= 0
        longest = max(longest, int((table.position + whole.samples[table.group] * room.completion_tokens)[leaf].max()))
    rng = np.random.default_rng(0)
    typical = [(r, *_made_up(rng, r, room)) for r in rounds[:TRIED]]
    full = [_at_cap(r, room) for r in rounds]
    least = max(int(table.level.max(initial=0)) + shapes.group_size + 1, 16)
    best, fewest = shapes, 2.0
    for tokens in [fixed["tokens"]] if "tokens" in fixed else _lengths(longest, room):
        tried = replace(shapes, tokens=tokens, runs=fixed.get("runs", max(tokens // 8, least)))
        lengths = (typical, full[:TRIED_FULL]) if room.demonstrations < FEW else (typical,)
        counted = [_counted(some, times, room, tried) for some in lengths]
        sizes = fixed.get("rows") or _batch_rows([rows.mean() for rows, _ in counted], room, tokens)
        empty = float(np.mean([_empty(rows, used, sizes, tokens) for rows, used in counted]))
        if empty < fewest:
            best, fewest = replace(tried, rows=sizes), empty
        if empty <= ENOUGH_ROWS:
            break
    most = math.ceil(max(_counted(full, times, room, best)[0]))
    found = {"tokens": best.tokens, "runs": best.runs, "rows": best.rows, "round_rows": _up(most, min(best.rows))}
    return found | fixed


def _lengths(longest: int, room: Room) -> list[int]:
    """Of rows that hold `longest` tokens, the shortest first."""
    count = math.ceil(math.log(LONGEST_ROWS, FINER))
    lengths = {_up(longest * FINER**k, 64 if longest > 256 else 16) for k in range(count + 1)}
    return sorted(n for n in lengths if n * room.parts <= room.batch_tokens) or [min(lengths)]


def _counted(some, times: float, room: Room, shapes: Shapes) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each of some rounds, and tokens of their trees."""
    counted = [_count(r, room, shapes, *lengths) for r, *lengths in some]
    rows, tokens = (np.ceil(times * np.array(column)) for column in zip(*counted, strict=True))
    return rows, tokens


def _empty(rows: np.ndarray, used: np.ndarray, sizes: Sequence[int], tokens: int) -> float:
    """The share of the batches' places that is empty."""
    places = sum(sum(compose(int(count), sizes)) for count in rows) * tokens
    return 1 - used.sum() / max(places, 1)


def _count(r: _Round, room: Room, shapes: Shapes, length: np.ndarray, kept: np.ndarray) -> tuple[int, int]:
    """Rows, and tokens of the trees."""
    used = np.ones(len(r.forest.targets), bool)
    made = plan(r.tables, length, kept, used, replace(shapes, rows=(1,)), whole_groups=room.whole_groups)
    return sum(len(batch.start) for batch in made.batches), made.metrics["pack/tree_tokens"]


def _made_up(rng, r: _Round, room: Room) -> tuple[np.ndarray, np.ndarray]:
    middle = np.log(room.completion_tokens / 2) - SPREAD**2 / 2
    length = np.clip(rng.lognormal(middle, SPREAD, r.jobs), 1, room.completion_tokens).astype(int)
    return length, rng.random(r.jobs) < KEPT


def _at_cap(r: _Round, room: Room) -> tuple[_Round, np.ndarray, np.ndarray]:
    return r, np.full(r.jobs, room.completion_tokens), np.ones(r.jobs, bool)


def _batch_rows(rounds: Sequence[float], room: Room, tokens: int) -> tuple[int, ...]:
    """Batch sizes: the smallest is a small share of a typical round, the largest fits memory.

    A round of few demonstrations has fewer, each four times the next, so that little is compiled; it then leaves more
    empty. Its largest is at most a round whose completions all reach the cap, which then is one batch or a few.

    Args:
      rounds: rows of a typical round, and of few demonstrations of one whose completions all reach the cap.
    """
    fits = max(room.batch_tokens // tokens // room.parts, 1) * room.parts
    few = room.demonstrations < FEW
    least = max(int(rounds[0] * (0.25 if few else SMALLEST) / room.parts), 1) * room.parts
    fits = min(fits, _up(rounds[-1], room.parts)) if few else fits
    sizes = [least * 2**k for k in (range(0, 5, 2) if few else range(MOST_ROWS)) if least * 2**k <= fits]
    return tuple(sizes[::-1]) or (fits,)


def _up(value: float, step: int) -> int:
    """The next multiple, at least one."""
    return max(-(-int(np.ceil(value)) // step), 1) * step
