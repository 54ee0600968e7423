"""What is known of a round before a token is sampled: its prompts, its jobs, its groups and its trees as integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Int

from jaxsrl.data import tables as integers
from jaxsrl.data.chat import Template, Tokenizer
from jaxsrl.data.prompt_rows import place
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.sheets import Drawn, Seats, address, draw, experts, groups, groups_of_sheet, prompts, scatter, seat
from jaxsrl.data.tables import Forest, Tables, hang, tabulate
from jaxsrl.data.tree import build
from jaxsrl.types import BranchPoint, Demonstration, Form, Groups, Prompts, Sheet, Tree, Trunk


@dataclass(frozen=True, kw_only=True, eq=False)
class Jobs:
    """The rollouts of a layout, `P` of them, empty ones included."""

    demonstration: Int[np.ndarray, "P"]
    form: Int[np.ndarray, "P"]  # index into `sheets.FORMS`
    branch: Int[np.ndarray, "P"]  # expert actions given
    sample: Int[np.ndarray, "P"]  # 0..G-1 within the group, from its demonstration's offset on
    group: Int[np.ndarray, "P"]  # counted over all sheets; 0 where the job is empty
    active: Bool[np.ndarray, "P"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """A round, or the rounds of one optimizer step joined; NumPy alone. Job p of sheet s is job s * R * K + p."""

    sheets: tuple[Sheet, ...]
    trunk: Trunk
    demonstrations: tuple[Demonstration, ...]
    jobs: Jobs
    order: Int[np.ndarray, "J"]  # the jobs that there are, by demonstration, branch point and sample
    groups: Groups  # of all sheets as one: rollouts and groups are counted over the layout
    tables: Tables
    shapes: Shapes


def lay_out(
    demonstrations: Sequence[Demonstration],
    points: Sequence[Sequence[BranchPoint]],
    shapes: Shapes,
    *,
    template: Template,
    tokenizer: Tokenizer,
    trunk: Sequence[Form] = (),
    refill: int = 0,
    positions: Sequence[int] | None = None,
    offsets: Sequence[int] | None = None,
    sheets: int | None = None,
    held: Bool[np.ndarray, "R"] | None = None,
) -> Layout:
    """The layout of one round of at most `shapes.demonstrations` demonstrations.

    Args:
      points: branch points of each demonstration.
      trunk: forms in which the demonstrations are laid out to be trained on.
      refill: which round of the optimizer step it is.
      positions: of each demonstration in the data order, so that equal prompts draw different noise; None counts.
      offsets: of each demonstration, added to its samples' numbers; chains that are sampled apart keep apart addresses.
      sheets: exactly so many; None takes as many as are needed.
      held: rows of a sheet that this process places; prompts have these alone. None: all.
    Raises: ValueError that names the size to raise where something does not fit.
    """
    trees = [build(d, p, trunk, template, tokenizer) for d, p in zip(demonstrations, points, strict=True)]
    return lay_out_trees(
        demonstrations, trees, points, shapes, refill=refill, positions=positions, offsets=offsets, sheets=sheets,
        held=held,
    )  # fmt: skip


def lay_out_trees(
    demonstrations: Sequence[Demonstration],
    trees: Sequence[Tree],
    points: Sequence[Sequence[BranchPoint]],
    shapes: Shapes,
    *,
    refill: int = 0,
    positions: Sequence[int] | None = None,
    offsets: Sequence[int] | None = None,
    sheets: int | None = None,
    held: Bool[np.ndarray, "R"] | None = None,
) -> Layout:
    """`lay_out` of trees that are built already."""
    if len(trees) > shapes.demonstrations:
        raise ValueError(f"{len(trees)} demonstrations in a round of {shapes.demonstrations}: raise demonstrations")
    forest = tabulate(trees, shapes.targets)
    drawn = draw(trees, points, forest)
    samples = np.zeros(len(forest.nodes), int)
    np.add.at(samples, drawn.item, drawn.samples)
    placed = place(
        forest.nodes, samples, prompt_rows=shapes.prompt_rows, prompt_tokens=shapes.prompt_tokens, slots=shapes.slots,
        sheets=sheets,
    )  # fmt: skip
    positions = np.arange(len(trees)) if positions is None else np.asarray(positions)
    offsets = np.zeros(len(trees), int) if offsets is None else np.asarray(offsets)
    seats = seat(placed, drawn, shapes)
    words = address(drawn, seats, refill, positions, offsets)
    whole, number = groups(drawn, seats, placed.sheets, shapes, refill, positions)
    rows = prompts(forest, placed, seats, words, shapes, held)
    code, code_length = experts(demonstrations, drawn, number, placed.sheets, shapes)
    made = tuple(
        Sheet(
            prompts=Prompts(**{name: value[s] for name, value in rows.items()}),
            groups=groups_of_sheet(whole, s, shapes), expert=code[s], expert_length=code_length[s],
        ) for s in range(placed.sheets)
    )  # fmt: skip
    g = seats.group
    return Layout(
        sheets=made, trunk=_trunk(forest, shapes), demonstrations=tuple(demonstrations), groups=whole, shapes=shapes,
        jobs=_jobs(drawn, seats, offsets, whole), order=seats.job,
        tables=hang(forest.nodes, drawn.item[g], seats.job, number[g]),
    )  # fmt: skip


def _jobs(drawn: Drawn, seats: Seats, offsets: np.ndarray, whole: Groups) -> Jobs:
    spread = lambda value: scatter(seats.job, value[seats.group], whole.active.shape)
    return Jobs(
        demonstration=spread(drawn.demonstration), form=spread(drawn.form), branch=spread(drawn.after),
        sample=spread(offsets[drawn.demonstration]) + whole.column, group=whole.group, active=whole.active,
    )  # fmt: skip


def _trunk(forest: Forest, shapes: Shapes) -> Trunk:
    """Padded to the shapes of a round; more tokens take a multiple of the room, so that few programs are compiled."""
    token = np.zeros(-(-max(len(forest.token), 1) // shapes.trunk_tokens) * shapes.trunk_tokens, np.int32)
    token[: len(forest.token)] = forest.token
    counts = np.zeros(shapes.demonstrations, np.int32)
    counts[: len(forest.targets)] = forest.targets
    return Trunk(token=token, target=np.arange(shapes.targets)[None] < counts[:, None])


def join(layouts: Sequence[Layout]) -> Layout:
    """Rounds of one optimizer step as one layout, in order; what they count goes on from round to round.

    Raises: ValueError if a round before the last has fewer demonstrations than there is room for.
    """
    shapes = layouts[0].shapes
    for layout in layouts[:-1]:
        if len(layout.demonstrations) != shapes.demonstrations:
            raise ValueError(
                f"a round of {len(layout.demonstrations)} demonstrations is followed by another; it must have "
                f"demonstrations={shapes.demonstrations}"
            )
    sheets = np.cumsum([0, *(len(layout.sheets) for layout in layouts)])
    pools = np.cumsum([0, *(len(layout.trunk.token) for layout in layouts)])
    before = [
        {
            "demonstrations": k * shapes.demonstrations, "trunk": int(pools[k]), "jobs": int(sheets[k]) * shapes.jobs,
            "groups": int(sheets[k]) * shapes.groups, "targets": k * shapes.demonstrations * shapes.targets,
        } for k in range(len(layouts))
    ]  # fmt: skip
    together = list(zip(layouts, before, strict=True))
    whole = _concatenate(Groups, [_shift_groups(layout.groups, n) for layout, n in together])
    made = [sheet for layout in layouts for sheet in layout.sheets]
    jobs = [
        replace(
            layout.jobs, group=np.where(layout.jobs.active, layout.jobs.group + n["groups"], 0),
            demonstration=np.where(layout.jobs.active, layout.jobs.demonstration + n["demonstrations"], 0),
        ) for layout, n in together
    ]  # fmt: skip
    return Layout(
        sheets=tuple(replace(sheet, groups=groups_of_sheet(whole, s, shapes)) for s, sheet in enumerate(made)),
        trunk=_concatenate(Trunk, [layout.trunk for layout in layouts]),
        demonstrations=sum((layout.demonstrations for layout in layouts), ()), groups=whole, shapes=shapes,
        jobs=_concatenate(Jobs, jobs),
        order=np.concatenate([layout.order + n["jobs"] for layout, n in together]),
        tables=integers.join([(layout.tables, n) for layout, n in together]),
    )  # fmt: skip


def _concatenate(kind, values: Sequence):
    return kind(**{f.name: np.concatenate([getattr(value, f.name) for value in values]) for f in fields(kind)})


def _shift_groups(whole: Groups, before: Mapping[str, int]) -> Groups:
    there = whole.present.any(axis=1)
    return replace(
        whole, member=np.where(whole.present, whole.member + before["jobs"], 0),
        demonstration=np.where(there, whole.demonstration + before["demonstrations"], 0),
        group=np.where(whole.active, whole.group + before["groups"], 0),
    )  # fmt: skip
