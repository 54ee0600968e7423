"""Advantages, filters and averages against NumPy and the published numbers."""

import numpy as np
import pytest

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.types import Demonstration
from tests.objectives.ragged import aggregate, group_advantage, group_std, weigh
from tests.objectives.ragged import rollouts_of as make_rollouts

REWARDS = np.array([0.2, 0.4, 0.4, 0.6, -1, 0.5, 0.3, 0.4])
ONE = np.zeros(8, int)
GOLDEN = {
    "population": (dict(ddof=0), [-0.0525, 0.3674, 0.3674, 0.7873, -2.5718, 0.5774, 0.1575, 0.3674]),
    "sample": (dict(ddof=1, epsilon=1e-6), [-0.0491, 0.3437, 0.3437, 0.7364, -2.4057, 0.5401, 0.1473, 0.3437]),
    "dr_grpo": (dict(std="none"), [-0.025, 0.175, 0.175, 0.375, -1.225, 0.275, 0.075, 0.175]),
    "rloo": (dict(baseline="leave_one_out", std="none"), [-0.0286, 0.2, 0.2, 0.4286, -1.4, 0.3143, 0.0857, 0.2]),
}


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden_advantages(name, precision):
    settings, want = GOLDEN[name]
    assert np.allclose(group_advantage(REWARDS, ONE, **settings), want, atol=5e-5)


def test_golden_statistics(precision):
    assert REWARDS.mean() == pytest.approx(0.225)
    assert group_std(REWARDS, ONE)[0] == pytest.approx(0.4763, abs=5e-5)
    binary = lambda right, of: np.array([1.0] * right + [0.0] * (of - right))
    for right, of, ddof, high, low in (
        (1, 8, 0, 2.6458, -0.378),
        (2, 8, 0, 1.732, -0.577),
        (1, 16, 0, 3.873, -0.258),
        (1, 8, 1, 2.475, None),
    ):
        advantage = group_advantage(binary(right, of), np.zeros(of, int), ddof=ddof)
        assert advantage[0] == pytest.approx(high, abs=5e-4)
        assert low is None or advantage[-1] == pytest.approx(low, abs=5e-4)
    one_bad = np.array([0.4] * 7 + [-1.0])
    assert group_std(one_bad, ONE)[0] == pytest.approx(0.463, abs=5e-5)
    assert np.allclose(group_advantage(one_bad, ONE), [0.378] * 7 + [-2.6458], atol=5e-5)


def slow_advantage(reward, group, ddof):
    out = np.zeros(len(reward))
    for g in set(group.tolist()):
        mine = [i for i in range(len(group)) if group[i] == g]
        values = [reward[i] for i in mine]
        mean = sum(values) / len(values)
        std = (sum((v - mean) ** 2 for v in values) / max(len(values) - ddof, 1)) ** 0.5
        for i in mine:
            out[i] = 0 if len(set(values)) == 1 else (reward[i] - mean) / (std + 1e-6)
    return out


@pytest.mark.parametrize("ddof", [0, 1])
def test_ragged_groups_in_any_order(ddof, precision):
    """Ids decide, not neighbourhood; permuted rows have permuted advantages."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat([5, -2, 900, 7, 8], [4, 2, 8, 1, 3]))
    reward = rng.choice([0.0, 0.25, 0.5, 1.0], len(group))
    got = group_advantage(reward, group, ddof=ddof, epsilon=1e-6)
    assert np.allclose(got, slow_advantage(reward, group, ddof), rtol=precision, atol=precision)
    order = rng.permutation(len(group))
    assert np.allclose(
        group_advantage(reward[order], group[order], ddof=ddof, epsilon=1e-6), got[order], rtol=precision
    )
    in_a_row = group_advantage(reward, np.sort(group), ddof=ddof, epsilon=1e-6)
    assert not np.allclose(got, in_a_row)  # the wrong grouping would show


@pytest.mark.parametrize("size", [3, 7, 8])
def test_equal_rewards_have_no_advantage(size, precision):
    """0.1 summed eight times is not 0.8."""
    same = np.full(size, 0.1)
    assert (group_advantage(same, np.zeros(size, int), epsilon=0.0) == 0).all() and (
        group_std(same, np.zeros(size, int)) == 0
    ).all()


def test_nearly_equal_rewards_are_full_size_without_a_filter(x64):
    """The filter is what keeps noise from being scaled up."""
    reward, group = np.array([0.500, 0.501]), np.zeros(2, int)
    assert np.abs(group_advantage(reward, group)).max() == pytest.approx(1.0)
    weights = weigh(GRPO(filter_std=0.05), make_rollouts(group, [2, 2]), reward, np.zeros((1, 0), bool))[1]
    assert not weights.pg.any()


def test_a_group_of_one_gets_nothing(x64):
    assert group_advantage(np.array([0.7]), np.array([3])).tolist() == [0.0]
    assert group_advantage(np.array([0.7]), np.array([3]), baseline="leave_one_out", std="none").tolist() == [0.0]


def test_an_excluded_sibling_is_in_no_mean(x64):
    reward, include = np.array([0.0, 1.0, 100.0]), np.array([True, True, False])
    got = group_advantage(reward, np.zeros(3, int), include=include)
    assert np.allclose(got, [-1, 1, 0])


MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]], bool)


def test_averages_by_hand(x64):
    """The constant is no width; an empty row counts nowhere."""
    assert np.allclose(aggregate(MASK, "token_mean"), MASK / 6)
    assert np.allclose(aggregate(MASK, "sequence_mean").sum(axis=1), [1 / 3, 1 / 3, 0, 1 / 3])
    fixed = aggregate(MASK, "fixed_length", length=4)
    assert np.allclose(fixed, MASK / 12) and fixed.sum() == pytest.approx(0.5)
    by_group = aggregate(MASK, "group_mean", group=np.array([4, 4, 4, 9]))
    assert by_group[:3].sum() == pytest.approx(0.5) and by_group[3].sum() == pytest.approx(0.5)
    assert np.allclose(by_group[0, :3], 1 / 8) and np.allclose(by_group[1, 0], 1 / 8)
    wider = np.pad(MASK, [(0, 0), (0, 9)])
    for how in ("token_mean", "sequence_mean", "group_mean", "fixed_length"):
        settings = dict(group=np.array([4, 4, 4, 9]), length=4)
        assert np.allclose(aggregate(wider, how, **settings)[:, :4], aggregate(MASK, how, **settings))
        assert not np.isnan(aggregate(np.zeros((2, 3), bool), how, group=np.zeros(2, int), length=4)).any()
    with pytest.raises(ValueError, match="unknown aggregation"):
        aggregate(MASK, "mean")


def test_length_bias_is_what_the_name_says(x64):
    """Lengths 10 and 100."""
    mask = np.arange(100) < np.array([[10], [100]])
    first = lambda weights: (weights[0, 0], weights[1, 0])
    assert first(aggregate(mask, "token_mean")) == pytest.approx((1 / 110, 1 / 110))
    assert first(aggregate(mask, "sequence_mean")) == pytest.approx((1 / 20, 1 / 200))
    assert first(aggregate(mask, "fixed_length", length=128)) == pytest.approx((1 / 256, 1 / 256))


def test_dropped_groups_are_in_no_average(x64):
    reward = np.array([0.4, 0.4, 0.1, 0.9])
    rollouts = make_rollouts([0, 0, 1, 1], [3, 2, 1, 4])
    weights = weigh(GRPO(filter_std=0.05), rollouts, reward, np.zeros((1, 0), bool))[1]
    assert not weights.pg[:2].any() and weights.pg.sum() == pytest.approx(1.0) and np.allclose(weights.pg[2, 0], 1 / 5)


def test_truncated_rollouts_leave_numerator_and_denominator(x64):
    reward, target = np.array([0.0, 1.0, 0.3, 0.5]), np.zeros((1, 0), bool)
    settings = GRPO(mask_truncated=True)
    cut = make_rollouts([0, 0, 0, 0], [3, 2, 4, 1], truncated=[False, False, True, False])
    rest = make_rollouts([0, 0, 0], [3, 2, 1], width=4)
    keep = [0, 1, 3]
    got, want = weigh(settings, cut, reward, target)[1], weigh(settings, rest, reward[keep], target)[1]
    assert np.allclose(got.pg[keep], want.pg) and not got.pg[2].any()
    assert np.allclose(got.advantage[keep], want.advantage)
    counted = weigh(GRPO(mask_truncated=False), cut, reward, target)[1]
    assert counted.pg[2].any() and not np.allclose(counted.advantage[keep], want.advantage)


def test_advantage_stays_on_its_own_tokens(x64):
    """Steps of unequal length."""
    rollouts = make_rollouts([0, 0, 1, 1], [1, 3, 2, 4])
    weights = weigh(GRPO(), rollouts, np.array([0.0, 1.0, 1.0, 0.0]), np.zeros((1, 0), bool))[1]
    assert np.allclose(np.sign(weights.advantage), np.sign([[-1], [1], [1], [-1]]) * rollouts.mask)


def demonstration(actions=4):
    return Demonstration(problem_id="p", problem="x", actions=tuple(f"a{i}" for i in range(actions)))


def test_branch_points():
    srl = SRL(reward=None)
    assert [p.after for p in srl.branch_points(demonstration(4), 0)] == [0, 1, 2]  # N-1, the last is no target
    assert {(p.form, p.samples) for p in srl.branch_points(demonstration(4), 0)} == {("action", 8)}
    assert srl.branch_points(demonstration(1), 0) == ()
    few = SRL(reward=None, max_branch_points=2)
    drawn = [tuple(p.after for p in few.branch_points(demonstration(9), step)) for step in range(20)]
    assert all(len(d) == 2 and d == tuple(sorted(d)) for d in drawn) and len(set(drawn)) > 5
    assert few.branch_points(demonstration(9), 3) == few.branch_points(demonstration(9), 3)
    (at_problem,) = RLVR(reward=None, group_size=4).branch_points(demonstration(), 0)
    assert (at_problem.after, at_problem.form, at_problem.samples) == (0, "solve", 4)
    assert SFT().branch_points(demonstration(), 0) == ()


def test_sft_weighs_targets_only(x64):
    target = np.array([[True, True, False], [True, False, False]])
    trunk, none = weigh(SFT(), make_rollouts([], []), np.zeros(0), target)
    assert np.allclose(trunk.nll, target / 3) and none.pg.shape[0] == 0
    by_demonstration = weigh(SFT(aggregation="sequence_mean"), make_rollouts([], []), np.zeros(0), target)[0]
    assert np.allclose(by_demonstration.nll, [[0.25, 0.25, 0], [0.5, 0, 0]])
    with pytest.raises(RuntimeError):
        SFT().reward(make_rollouts([], []), [])


@pytest.mark.parametrize("make, name", [
    (lambda: GRPO(ddof=2), "ddof"), (lambda: GRPO(clip_low=1.5), "clip_low"), (lambda: GRPO(kl="k4"), "kl"),
    (lambda: GRPO(dual_clip=0.5), "dual_clip"), (lambda: GRPO(filter_std=-1.0), "filter_std"),
    (lambda: SRL(reward=None, group_size=1), "group_size"), (lambda: RLVR(reward=None, trunk=("solve",)), "trunk"),
    (lambda: SFT(trunk=("chat",)), "trunk"),
])  # fmt: skip
def test_bad_settings_name_themselves(make, name):
    with pytest.raises(ValueError, match=name):
        make()
