"""Groups beyond those that a step wants: which ones are left out, and that they are out of everything but the log."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxsrl.collect.device import at_most
from jaxsrl.collect.rollout_log import rollout_lines
from jaxsrl.collect.settings import Collect
from jaxsrl.data.chat import Template
from jaxsrl.data.layout import lay_out
from jaxsrl.types import BranchPoint
from tests.collect.by_hand import (
    BYTES,
    PAIR,
    SPREAD,
    demonstration,
    gather,
    in_order,
    kept,
    metrics_of,
    shapes_for,
    srl,
    weights,
)

pytestmark = pytest.mark.fast


def names(found):
    """(problem) of the groups that are kept."""
    owner = in_order(found, found.layout.jobs.demonstration)[np.array(kept(found), bool)]
    return sorted({found.layout.demonstrations[m].problem_id for m in owner})


def test_surplus_groups_are_out_of_every_mean():
    found, _ = gather(SPREAD, Collect(demonstrations=3, prompts=1), PAIR)
    wide, _ = gather(SPREAD, Collect(demonstrations=3), PAIR)
    (name,) = names(found)
    alone, _ = gather(SPREAD, Collect(demonstrations=1), [d for d in PAIR if d.problem_id == name])
    mine = np.array(kept(found))
    assert mine.sum() == 2
    np.testing.assert_array_equal(weights(found)[mine], weights(alone))
    assert weights(found).sum() == pytest.approx(1) and not weights(found)[~mine].any()
    # The control: without a bound the same rollouts share the mean with the others.
    assert all(kept(wide)) and weights(wide)[mine].sum() < 0.5
    # What a surplus group's rewards say is logged all the same, and that it was not kept.
    np.testing.assert_array_equal(weights(found, "advantage"), weights(wide, "advantage"))
    assert set(found.layout.order[mine].tolist()) == set(np.flatnonzero(found.carries).tolist())
    lines = [line for part in found.graded for line in rollout_lines(found, part, "srl", 1)]
    assert [line["kept"] for line in lines] == mine.tolist()
    wanted = [line["advantage"] for part in wide.graded for line in rollout_lines(wide, part, "srl", 1)]
    assert [line["advantage"] for line in lines] == wanted and all(wanted)
    assert metrics_of(found)["collect/kept_share"] == 1  # before surplus is left out, as its unit says


def test_surplus_leaves_the_weight_on_the_demonstrations_as_it_is():
    """An objective with weight on the trunk too: a step's demonstrations count whichever groups are left out."""

    class Both(type(srl())):
        def weigh(self, collected, reward, numbers):
            made = super().weigh(collected, reward, numbers)
            return replace(made, trunk=replace(made.trunk, nll=collected.target * 0.25))

    objective = Both(**{name: getattr(srl(), name) for name in ("reward", "policy", "group_size")})
    object.__setattr__(objective, "trunk", ("step",))
    found, _ = gather(SPREAD, Collect(demonstrations=3, prompts=1), PAIR, objective)
    target = found.whole.trunk.target
    np.testing.assert_array_equal(found.weighed.weights.trunk.nll, target * np.float32(0.25))
    assert len(names(found)) == 1 and found.trunk_used.tolist() == [True] * 3


def long(name: str, actions: int):
    return demonstration(name, *(f"{name}{k}" for k in range(actions)))


def laid_out(order, positions, turned=False):
    """Groups of demonstrations with eight branch points each, and (position, branch point) of each group."""
    given = [long("abcdefgh"[i], 9) for i in order]
    points = [[BranchPoint(after=k, samples=2) for k in range(8)][:: -1 if turned else 1]] * len(given)
    shapes = replace(
        shapes_for(len(given)), prompt_tokens=96, slots=16, groups=16, trunk_tokens=512, code_points=0
    )  # fmt: skip
    layout = lay_out(given, points, shapes, template=Template(), tokenizer=BYTES, positions=positions)
    groups, jobs = layout.groups, layout.jobs
    there = groups.present.any(axis=1)
    first = groups.member[:, 0]
    where = [(positions[jobs.demonstration[p]], int(jobs.branch[p])) for p in first]
    return groups, there, where


def used(choose, groups, there, where):
    chosen = np.asarray(choose(there, groups.hash))
    return {name for name, one in zip(where, chosen, strict=True) if one}


chosen = jax.jit(at_most, static_argnums=2)


def test_which_ones_are_left_out_depends_on_no_order():
    """Of branch points, of demonstrations, or of sheets."""
    by_hash = lambda there, hash: chosen(there, hash, 7)
    want = used(by_hash, *laid_out([0, 1], [5, 9]))
    assert len(want) == 7
    assert used(by_hash, *laid_out([0, 1], [5, 9], turned=True)) == want
    assert used(by_hash, *laid_out([1, 0], [9, 5])) == want
    assert used(by_hash, *laid_out([0, 1], [5, 10])) != want  # but on the address it does


def test_early_and_late_branch_points_are_used_alike():
    """Over 300 steps that want 10 of 16 groups. The control is the old rule: the first ones that carry weight."""
    shares = {"hash": np.zeros(8), "first": np.zeros(8)}
    rules = {
        "hash": lambda there, hash: chosen(there, hash, 10),
        "first": lambda there, hash: there & (np.cumsum(there) <= 10),
    }
    steps = 300
    for step in range(steps):
        made = laid_out([step % 7, 7], [2 * step, 2 * step + 1])
        for name, rule in rules.items():
            for _, after in used(rule, *made):
                shares[name][after] += 1 / (2 * steps)
    assert shares["hash"].sum() == pytest.approx(5) == pytest.approx(shares["first"].sum())
    # A share's standard deviation is about 0.02.
    assert np.abs(shares["hash"] - 10 / 16).max() < 0.08, shares
    assert np.ptp(shares["first"]) > 0.4, shares
