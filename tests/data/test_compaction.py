"""Rows planned from lengths: the same tokens, paths and weights as trees packed on the host,
and little padding."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxsrl.data.compaction import compose, plan
from jaxsrl.data.fill import fill
from jaxsrl.data.layout import join, lay_out_trees
from jaxsrl.types import Node, Tree
from tests.data.forests import CAP, NOBODY, case, expected, random_tree, seen_by_order, seen_by_paths, shapes, weighed


def filled(c, *, length=None, kept=None, **how):
    layout = c.layout
    made = plan(
        layout.tables, c.completions.length if length is None else length, c.kept if kept is None else kept,
        c.trunk_used, layout.shapes, **how,
    )  # fmt: skip
    group = layout.groups.group if how.get("whole_groups") else None
    put = lambda segments: fill(segments, layout.trunk, c.completions, c.weights, layout.shapes.tokens, group=group)
    return made, [jax.device_get(put(segments)) for segments in made.batches]


def agree(batch) -> bool:
    """Whether both rules let every token see the same; what padding sees is never read."""
    there = batch.enter >= 0
    return np.array_equal(seen_by_order(batch)[there], seen_by_paths(batch)[there])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tokens", [48, 90, 400])
def test_every_token_with_weight_sees_its_path_as_if_trees_were_packed(seed, tokens):
    c = case(seed, tokens=tokens, nodes=[6, 14, 20][seed % 3])
    made, batches = filled(c)
    want, metrics = expected(c)
    assert weighed(batches) == want and len(weighed(batches)) > 20
    for name in ("pack/tree_tokens", "pack/dense_tokens"):
        assert made.metrics[name] == metrics[name]
    assert made.metrics["pack/tokens"] == sum(int((b.enter >= 0).sum()) for b in batches)
    assert made.metrics["pack/slots"] == sum(b.token.size for b in batches)
    if tokens == 400:
        assert made.metrics["pack/tokens"] == made.metrics["pack/tree_tokens"]
    deep = max(int(np.asarray(x.level).max()) for x in [c.layout.tables])
    assert deep >= 3


def test_levelled_rows_hold_the_same():
    levelled = 0
    for seed in range(6):
        c = case(seed, tokens=300, nodes=20, rows=(3,))
        one, _ = filled(c, rows=None)
        made, batches = filled(c, rows=None, parts=4)
        assert [len(b.start) for b in made.batches] == [len(b.start) for b in one.batches]
        want, metrics = expected(c)
        assert weighed(batches) == want and made.metrics["pack/tree_tokens"] == metrics["pack/tree_tokens"]
        fullest = [max(b.length.sum(axis=1).max() for b in m.batches) for m in (one, made)]
        levelled += fullest[1] < fullest[0]
    assert levelled >= 4


def test_a_process_lays_out_the_rows_that_it_holds():
    c = case(2, tokens=90, nodes=20, rows=(2,))
    held = lambda rows: np.arange(rows) >= rows // 2
    whole, own = filled(c)[0], filled(c, held=held)[0]
    assert own.metrics == whole.metrics and own.rows == whole.rows and len(own.batches) == len(whole.batches) > 1
    for mine, batch in zip(own.batches, whole.batches, strict=True):
        for name, value in vars(batch).items():
            assert np.array_equal(getattr(mine, name), value[held(len(batch.start))]), name


def test_trees_are_cut_where_a_row_is_too_short_and_weigh_once():
    c = case(1, tokens=48, nodes=20)
    made, batches = filled(c)
    assert made.metrics["pack/cut_trees"] > 1 and made.metrics["pack/tokens"] > made.metrics["pack/tree_tokens"]
    total = weighed(batches)
    assert max(total.values()) == 1
    # A control: were a repeated target a target again, its tokens would have their weight twice.
    first = {
        int(s): int(t)
        for b in made.batches
        for s, t in zip(b.source[b.target >= 0], b.target[b.target >= 0], strict=True)
    }
    again = lambda b: np.where(b.rollout < 0, np.vectorize(lambda s: first.get(int(s), -1))(b.source), -1)
    wrong = [replace(b, target=np.where(b.length > 0, again(b), -1)) for b in made.batches]
    counted = weighed(jax.device_get(fill(b, c.layout.trunk, c.completions, c.weights, 48)) for b in wrong)
    assert max(counted.values()) > 1 and counted.keys() == total.keys()


@pytest.mark.parametrize("tokens", [60, 400])
def test_both_rules_of_sight_agree(tokens):
    _, batches = filled(case(3, tokens=tokens))
    for batch in batches:
        assert agree(batch)
        assert not seen_by_paths(batch)[batch.enter < 0].any()
        assert not (seen_by_order(batch) & (batch.enter < 0)[:, None, :] & (batch.enter >= 0)[:, :, None]).any()
        assert not agree(jax.tree.map(lambda x: x[:, ::-1], batch))  # the order of places matters to one of them


def test_a_plan_with_room_for_the_cap_holds_any_lengths():
    c = case(4)
    cap = np.where(c.layout.jobs.active, CAP, 0)
    _, batches = filled(c, length=cap, kept=c.layout.jobs.active)
    assert weighed(batches) == weighed(filled(c)[1])
    for batch in batches:
        dead = batch.enter < 0
        for name, empty in (("leave", -1), ("rollout", -1), ("nll_weight", 0), ("pg_weight", 0), ("token", 0)):
            assert (getattr(batch, name)[dead] == empty).all()
        assert agree(batch)


def test_whole_groups_stay_in_one_row():
    parted = 0
    for c, whole in [(case(seed, tokens=44, nodes=6), whole) for seed in range(4) for whole in (True, False)]:
        _, batches = filled(c, kept=c.layout.jobs.active, whole_groups=whole)
        rows = [set(c.layout.groups.group[row[row >= 0]].tolist()) for b in batches for row in b.rollout]
        split = sum(len(row) for row in rows) - len(set().union(*rows))
        assert split == 0 or not whole
        parted += split
        if whole:
            assert all(((b.group >= 0) == (b.rollout >= 0)).all() for b in batches)
            for b in batches:
                assert np.array_equal(b.group[b.rollout >= 0], c.layout.groups.group[b.rollout[b.rollout >= 0]])
            kept = replace(c, kept=c.layout.jobs.active)
            assert weighed(batches) == expected(kept)[0]
    assert parted  # there was something to keep together


def test_what_does_not_fit_says_what_to_raise():
    c = case(0, tokens=20)
    with pytest.raises(ValueError, match="a path of .* does not fit a row of 20: raise tokens to at least"):
        filled(c)
    tree = Tree(nodes=(Node(token=np.arange(1, 9, dtype=np.int32)),), branch={("action", 0): 0})
    point = random_tree(np.random.default_rng(0), 1, 1)[1][0]
    layout = lay_out_trees((NOBODY,), [tree], [(point.__class__(after=0, samples=4),)], shapes(tokens=24))
    length = np.where(layout.jobs.active, 6, 0)
    plan(layout.tables, length, layout.jobs.active, np.zeros(5, bool), layout.shapes)
    with pytest.raises(ValueError, match="must not be parted, of 32 tokens .* raise tokens to at least 32"):
        plan(layout.tables, length, layout.jobs.active, np.zeros(5, bool), layout.shapes, whole_groups=True)
    with pytest.raises(ValueError, match="5 runs does not fit a row of 3: raise runs to at least 5"):
        plan(layout.tables, length, layout.jobs.active, np.zeros(5, bool), shapes(tokens=50, runs=3), whole_groups=True)
    with pytest.raises(ValueError, match="2 rows of 24 tokens are needed, and there are 1"):
        plan(layout.tables, length, layout.jobs.active, np.zeros(5, bool), layout.shapes, rows=(1,))


def test_nothing_wanted_is_no_batch_and_given_rows_are_filled_up():
    c = case(2)
    nothing = np.zeros_like(c.kept)
    made = plan(c.layout.tables, c.completions.length, nothing, c.trunk_used & False, c.layout.shapes)
    assert made.batches == () and made.metrics["pack/tokens"] == 0
    _, batches = filled(c, rows=(3, 3))
    assert [b.token.shape for b in batches] == [(3, 400)] * 2 and weighed(batches) == weighed(filled(c)[1])


def test_rounds_joined_are_planned_as_one():
    a, b = case(6), case(7)
    whole = join([a.layout, b.layout])
    assert len(whole.demonstrations) == 10 and len(whole.sheets) == len(a.layout.sheets) + len(b.layout.sheets)
    both = lambda x, y: jax.tree.map(lambda *z: np.concatenate(z), x, y)
    length = np.concatenate([a.completions.length, b.completions.length])
    kept, used = np.concatenate([a.kept, b.kept]), np.concatenate([a.trunk_used, b.trunk_used])
    made = plan(whole.tables, length, kept, used, whole.shapes)
    completions, weights = both(a.completions, b.completions), both(a.weights, b.weights)
    batches = [jax.device_get(fill(s, whole.trunk, completions, weights, 400)) for s in made.batches]
    without = lambda found: {(path, *numbers): n for (path, _, *numbers), n in found.items()}
    assert without(weighed(batches)) == without(weighed(filled(a)[1])) | without(weighed(filled(b)[1]))
    for s, sheet in enumerate(whole.sheets):
        again = np.flatnonzero(sheet.groups.active)
        assert np.array_equal(sheet.groups.member[sheet.groups.group[again], sheet.groups.column[again]], again)
        mine = whole.jobs.demonstration.reshape(len(whole.sheets), -1)[s][again]
        assert np.array_equal(sheet.groups.demonstration[sheet.groups.group[again]], mine)


def test_batches_are_composed_of_few_sizes():
    assert compose(31, (64, 32, 16, 8)) == (32,)
    assert compose(90, (64, 32, 16, 8)) == (64, 32)
    assert compose(1, (64, 32, 16, 8)) == (8,) and compose(0, (8,)) == ()
    for count in range(1, 200):
        made = compose(count, (16, 8, 4, 2))
        assert count <= sum(made) < count + 2 and set(made) <= {16, 8, 4, 2}
