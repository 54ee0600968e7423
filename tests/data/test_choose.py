"""How little of a learner's batches is empty with shapes that are chosen, and what bounds them."""

from dataclasses import replace

import numpy as np
import pytest

from jaxsrl.bench.flops import SHAPES
from jaxsrl.data.choose import Room, choose_shapes
from jaxsrl.data.compaction import compose, plan
from jaxsrl.data.tables import hang, tabulate
from jaxsrl.types import BranchPoint, Node, Tree

ROUND = 64


def tree_of(shape):
    """One demonstration of a shape, and its branch points."""
    actions = [Node(token=np.zeros(shape.action, np.int32), parent=k) for k in range(shape.points - 1)]
    points = tuple(BranchPoint(after=k, samples=shape.samples) for k in range(shape.points))
    branch = {(point.form, point.after): point.after for point in points}
    return Tree(nodes=(Node(token=np.zeros(shape.prompt, np.int32)), *actions), branch=branch), points


@pytest.mark.parametrize("name", ["math", "long", "agent", "grpo"])
def test_little_of_a_batch_is_empty(name):
    """Over the tokens of the trees: empty places, empty rows and repeated trunks, in 200 rounds of lengths drawn anew.

    A round of math's 64 trees, which vary by a tenth, is 1.3 % more or less: eight of them would not tell.
    """
    shape = SHAPES[name]
    tree, points = tree_of(shape)
    room = Room(demonstrations=ROUND, completion_tokens=shape.completion)
    chosen = choose_shapes([tree] * ROUND, [points] * ROUND, room)
    assert chosen.tokens * max(chosen.rows) <= room.batch_tokens
    forest = tabulate([tree] * ROUND)
    at = np.repeat(np.concatenate(forest.place), shape.samples)
    jobs = np.arange(len(at))
    tables = hang(forest.nodes, at, jobs, jobs // shape.samples)
    rng, slots, useful, sizes = np.random.default_rng(1), 0, 0, set()
    for _ in range(200):
        drawn = rng.lognormal(np.log(shape.completion / 2) - 0.18, 0.6, len(jobs))
        length, kept = np.clip(drawn, 1, shape.completion).astype(int), rng.random(len(jobs)) < 0.4
        made = plan(tables, length, kept, np.zeros(ROUND, bool), chosen)
        slots, useful = slots + made.metrics["pack/slots"], useful + made.metrics["pack/tree_tokens"]
        sizes |= {len(batch.start) for batch in made.batches}
    assert slots <= 1.05 * useful, slots / useful
    assert sizes <= set(chosen.rows) and len(chosen.rows) <= 4


def test_rows_of_all_parts_are_one_batch_at_most():
    """Eight devices have a row each: what a row may grow to is an eighth of a batch, unless a path is longer."""
    shape = SHAPES["grpo"]
    tree, points = tree_of(replace(shape, completion=200))
    room = Room(demonstrations=8, completion_tokens=200, parts=8, batch_tokens=8 * 1024)
    chosen = choose_shapes([tree] * 8, [points] * 8, room)
    assert chosen.tokens <= 1024 and all(rows % 8 == 0 for rows in chosen.rows)
    crowded = choose_shapes([tree] * 8, [points] * 8, replace(room, batch_tokens=8 * 64))
    assert crowded.tokens >= 400 and crowded.rows == (8,)


@pytest.mark.parametrize("prompt", [10, 17, 24])
def test_a_small_round_at_the_cap_is_one_batch_with_little_empty(prompt):
    """A model that has not learned to end fills every completion. Rows for shorter ones alone left 17 % empty."""
    tree, points = tree_of(replace(SHAPES["grpo"], prompt=prompt, completion=64))
    room = Room(demonstrations=16, completion_tokens=64)
    chosen = choose_shapes([tree] * 16, [points] * 16, room)
    useful = 16 * (prompt + 8 * 64)
    assert chosen.round_rows * chosen.tokens <= 1.06 * useful
    assert compose(chosen.round_rows, chosen.rows) in {(16,), (16, 16)} and len(chosen.rows) <= 3
    assert chosen.sheets == 1 and chosen.jobs <= 1.1 * 16 * 8  # 128 completions together: weights are read once


def test_a_round_of_many_completions_is_several_sheets():
    tree, points = tree_of(replace(SHAPES["grpo"], prompt=20, completion=64))
    chosen = choose_shapes([tree] * 64, [points] * 64, Room(demonstrations=64, completion_tokens=64))
    assert 4 <= chosen.sheets <= 8 and chosen.jobs >= 64
