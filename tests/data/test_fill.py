"""Runs to tokens on the device, against a loop over runs and tokens."""

import jax
import numpy as np
import pytest

from jaxsrl.data.compaction import plan
from jaxsrl.data.fill import fill, unfill
from jaxsrl.data.tables import select
from jaxsrl.types import Completions, TokenWeights, Weights
from tests.data.forests import CAP, case


def slowly(segments, c, row_tokens):
    """What `fill` says, run by run and token by token."""
    rows, trunk, weights = len(segments.start), c.layout.trunk, c.weights
    ints = {name: np.zeros((rows, row_tokens), np.int32) for name in ("token", "position", "parent")}
    ints |= {name: np.full((rows, row_tokens), -1, np.int32) for name in ("enter", "leave", "rollout", "group")}
    floats = {
        name: np.zeros((rows, row_tokens), np.float32)
        for name in ("nll_weight", "pg_weight", "advantage", "behavior_logp", "label")
    }
    for r in range(rows):
        for z in range(segments.start.shape[1]):
            run = {name: int(value[r, z]) for name, value in vars(segments).items()}
            p = run["rollout"]
            for k in range(run["length"] if p < 0 else min(run["length"], c.completions.length[p])):
                t = run["start"] + k
                ints["token"][r, t] = trunk.token[run["source"] + k] if p < 0 else c.completions.token[p, k]
                ints["position"][r, t] = run["position"] + k
                parent = t - 1 if k else run["parent"]
                for name in ("enter", "leave", "rollout"):
                    ints[name][r, t] = run[name]
                if p >= 0:
                    ints["group"][r, t] = c.layout.groups.group[p]
                    floats["label"][r, t] = weights.extra["label"][p]
                if parent < 0:
                    continue
                ints["parent"][r, t] = parent
                if p >= 0:
                    floats["behavior_logp"][r, t] = c.completions.logp[p, k]
                for name, of in (("nll", "nll_weight"), ("pg", "pg_weight"), ("advantage", "advantage")):
                    if p >= 0:
                        floats[of][r, t] = getattr(weights.rollouts, name)[p, k]
                    elif run["target"] >= 0:
                        floats[of][r, t] = getattr(weights.trunk, name).reshape(-1)[run["target"] + k]
    return ints | floats


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("compacted", [True, False])
def test_fill_is_the_loop_over_runs(seed, compacted):
    c = case(seed, tokens=90)
    cap = np.where(c.layout.jobs.active, CAP, 0)
    length, kept = (c.completions.length, c.kept) if compacted else (cap, c.layout.jobs.active)
    made = plan(c.layout.tables, length, kept, c.trunk_used, c.layout.shapes)
    run = jax.jit(fill, static_argnames="row_tokens")
    for segments in made.batches:
        batch = run(segments, c.layout.trunk, c.completions, c.weights, row_tokens=90, group=c.layout.groups.group)
        want = slowly(segments, c, 90)
        got = vars(batch) | batch.extra
        for name, value in want.items():
            assert np.array_equal(np.asarray(got[name]), value), name
            assert got[name].dtype == value.dtype, name
        assert batch.ref_logp is None


def test_the_first_token_of_a_path_has_no_weight():
    c = case(1, used=1.1)
    one = lambda x: TokenWeights(**{name: np.ones_like(value) for name, value in vars(x).items()})
    ones = Weights(trunk=one(c.weights.trunk), rollouts=one(c.weights.rollouts))
    made = plan(c.layout.tables, c.completions.length, c.kept, c.trunk_used, c.layout.shapes)
    firsts = 0
    for segments in made.batches:
        batch = fill(segments, c.layout.trunk, c.completions, ones, 400)
        first = (np.asarray(batch.position) == 0) & (np.asarray(batch.enter) >= 0)
        assert not np.asarray(batch.nll_weight)[first].any()
        firsts += int((first & (np.asarray(segments.target).max() >= 0)).sum())
    assert firsts


@pytest.mark.parametrize("compacted", [True, False])
def test_unfill_puts_every_token_back(compacted):
    c = case(2, tokens=90)
    cap = np.where(c.layout.jobs.active, CAP, 0)
    length = c.completions.length if compacted else cap
    made = plan(c.layout.tables, length, c.layout.jobs.active, c.trunk_used & False, c.layout.shapes)
    total, tokens = 0, 0
    for segments in made.batches:
        batch = fill(segments, c.layout.trunk, c.completions, c.weights, 90)
        total += np.asarray(unfill(batch.behavior_logp, segments, c.completions.length, CAP))
        tokens += np.asarray(unfill(batch.token, segments, c.completions.length, CAP))
    has_parent = c.completions.token * 0 + 1
    for p in np.flatnonzero(c.layout.jobs.active):
        node = c.trees[c.layout.jobs.demonstration[p]].branch["action", int(c.layout.jobs.branch[p])]
        if not any(len(c.trees[c.layout.jobs.demonstration[p]].nodes[i].token) for i in above(c, p, node)):
            has_parent[p, 0] = 0
    assert np.array_equal(tokens, c.completions.token)
    assert np.array_equal(total, c.completions.logp * has_parent)


def above(c, p, node):
    nodes = c.trees[c.layout.jobs.demonstration[p]].nodes
    while node >= 0:
        yield node
        node = nodes[node].parent


def test_without_rollouts_or_targets_nothing_is_read():
    c = case(3)
    none = np.zeros((0, CAP), np.float32)
    empty = TokenWeights(nll=none, pg=none, advantage=none)
    nobody = Completions(token=none.astype(np.int32), logp=none, length=np.zeros(0, np.int32))
    no_jobs = c.layout.tables.job < 0
    trunk, _ = select(c.layout.tables, no_jobs)
    made = plan(trunk, np.zeros(0, int), np.zeros(0, bool), np.ones(5, bool), c.layout.shapes)
    batch = fill(made.batches[0], c.layout.trunk, nobody, Weights(trunk=c.weights.trunk, rollouts=empty), 400)
    assert (np.asarray(batch.rollout) == -1).all() and np.asarray(batch.nll_weight).any()
    untrained = np.zeros((5, 0), np.float32)
    weights = Weights(trunk=TokenWeights(nll=untrained, pg=untrained, advantage=untrained), rollouts=c.weights.rollouts)
    made = plan(c.layout.tables, c.completions.length, c.kept, np.zeros(5, bool), c.layout.shapes)
    batch = fill(made.batches[0], c.layout.trunk, c.completions, weights, 400)
    assert np.asarray(batch.pg_weight).any()
