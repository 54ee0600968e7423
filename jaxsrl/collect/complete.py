"""Completions of given prompts, for evaluation and for a person to look at."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from jaxsrl.collect.share import Share
from jaxsrl.data.chat import Template, Tokenizer, prefill
from jaxsrl.data.layout import Layout, lay_out_trees
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.sheets import FORMS
from jaxsrl.processes import any_process, fetch, from_all
from jaxsrl.types import BranchPoint, Completions, Params, Rollouts, Tree


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A compiled sampler with everything that stays the same between its calls.

    Args:
      sample: (params, prompts, key, temperature) -> Completions.
      rows, row_tokens, slots: shape of a call: prompt rows, their length, and completions a row. Where several
        processes share an evaluation, the rows are those that this one holds.
      share: of an evaluation, what this process asks.
    """

    sample: Callable[..., Completions]
    tokenizer: Tokenizer
    template: Template
    rows: int
    row_tokens: int
    slots: int
    max_new_tokens: int
    share: Share = Share()


def complete(
    sampler: Sampler,
    params: Params,
    key: jax.Array,
    temperature: float,
    trees: Sequence[Tree],
    points: Sequence[Sequence[BranchPoint]],
) -> Rollouts:
    """Samples every branch point of every tree. Rollouts come ordered by tree, branch point and sample.

    The address of a completion counts how often its prompt occurred before: what else is asked does not matter.
    """
    if not any_process(any(points)):
        return no_rollouts(sampler.max_new_tokens)
    layout, tree = lay_out_prompts(sampler, trees, points)
    if sampler.share.count > 1:  # all make as many calls, the last of them perhaps for others
        calls = int(from_all(np.array([len(layout.sheets)])).max())
        layout, tree = lay_out_prompts(sampler, trees, points, calls)
    held = sampler.share.jobs(sampler.slots)
    calls = (sampler.sample(params, sheet.prompts, key, np.float32(temperature)) for sheet in layout.sheets)
    parts = list(_fetched(calls))
    token, length = (np.concatenate([getattr(part, name)[held] for part in parts]) for name in ("token", "length"))
    if not any(points):
        return no_rollouts(sampler.max_new_tokens)
    jobs = layout.jobs
    place = [{(FORMS.index(point.form), point.after): i for i, point in enumerate(some)} for some in points]
    which = np.array([
        (tree[m], place[tree[m]][form, after]) for m, form, after in zip(
            jobs.demonstration[layout.order], jobs.form[layout.order].tolist(), jobs.branch[layout.order].tolist(),
            strict=True,
        )
    ])  # fmt: skip
    sample = jobs.sample[layout.order]
    order = np.lexsort((sample, which[:, 1], which[:, 0]))
    job, which = layout.order[order], which[order]
    group = np.cumsum((np.diff(which, axis=0, prepend=which[:1]) != 0).any(axis=1))
    return _rollouts(sampler, layout, job, token[job].astype(np.int32), length[job], which[:, 0], group)


def lay_out_prompts(
    sampler: Sampler, trees: Sequence[Tree], points: Sequence[Sequence[BranchPoint]], calls: int | None = None
) -> tuple[Layout, list[int]]:
    """The prompts of calls of the sampler's shape, and whose tree each demonstration of the layout is.

    A tree of which a branch point wants more completions than a row has slots is laid out several times.

    Args:
      calls: exactly so many; None takes as many as are needed.
    """
    tree, parts, offsets = [], [], []
    for t, some in enumerate(points):
        for first in range(0, max((point.samples for point in some), default=0), sampler.slots):
            tree.append(t)
            offsets.append(first)
            left = [replace(point, samples=min(point.samples - first, sampler.slots)) for point in some]
            parts.append([point for point in left if point.samples > 0])
    before = _occurrences(trees)
    shapes = Shapes(
        prompt_rows=sampler.rows, prompt_tokens=sampler.row_tokens, slots=sampler.slots, group_size=sampler.slots,
        groups=sampler.rows * sampler.slots, code_points=0, sheets=0, trunk_tokens=1, demonstrations=max(len(tree), 1),
        targets=0, tokens=1, runs=1, rows=(1,), round_rows=1,
    )  # fmt: skip
    chosen = [trees[t] for t in tree]
    positions = [before[t] for t in tree]
    return lay_out_trees((), chosen, parts, shapes, positions=positions, offsets=offsets, sheets=calls), tree


def _occurrences(trees: Sequence[Tree]) -> list[int]:
    """How many trees before each begin as it does: two with one prompt draw different noise."""
    seen: dict[bytes, int] = {}
    out = []
    for tree in trees:
        root = tree.nodes[0].token.tobytes() if tree.nodes else b""
        out.append(seen.get(root, 0))
        seen[root] = out[-1] + 1
    return out


def _fetched(calls: Iterable[Any]) -> Iterator[Any]:
    """What calls return, on the host. The next one is on its way meanwhile, but no more: each may be the last."""
    before = None
    for now in calls:
        if before is not None:
            yield fetch(before)
        before = now
    yield fetch(before)


def _rollouts(sampler: Sampler, layout: Layout, job, token, length, tree, group) -> Rollouts:
    ended = np.isin(token[np.arange(len(job)), np.maximum(length, 1) - 1], sampler.tokenizer.ends)
    given = sampler.tokenizer.decode(prefill(sampler.template, sampler.tokenizer))
    text = (given + sampler.tokenizer.decode(t[: n - e].tolist()) for t, n, e in zip(token, length, ended, strict=True))
    jobs = layout.jobs
    return Rollouts(
        token=token, mask=np.arange(sampler.max_new_tokens) < length[:, None], demonstration=tree,
        form=tuple(FORMS[i] for i in jobs.form[job]), branch=jobs.branch[job], sample=jobs.sample[job], group=group,
        truncated=~ended, text=tuple(text),
    )  # fmt: skip


def no_rollouts(max_new_tokens: int) -> Rollouts:
    """What is sampled where nothing branches off."""
    empty, none = np.zeros((0, max_new_tokens)), np.zeros(0, int)
    return Rollouts(
        token=empty.astype(np.int32), mask=empty.astype(bool), demonstration=none, form=(), branch=none, sample=none,
        group=none, truncated=none.astype(bool), text=(),
    )  # fmt: skip


def join_rollouts(parts: Sequence[Rollouts]) -> Rollouts:
    """Rollouts of several rounds, in order."""
    values = {}
    for name in vars(parts[0]):
        column = [getattr(part, name) for part in parts]
        values[name] = sum(column, ()) if name in ("form", "text") else np.concatenate(column)
    return Rollouts(**values)
