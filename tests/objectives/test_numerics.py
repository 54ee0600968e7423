"""Numbers at the edges of float32, and what equal, single and broken rewards become."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.kl import kl_estimate
from jaxsrl.objectives.surrogate import LARGEST_LOG_RATIO
from tests.objectives.ragged import group_advantage, group_std, token_loss, weigh, whiten

REWARDS = np.array([0.2, 0.4, 0.4, 0.6, -1, 0.5, 0.3, 0.4])


def test_the_defaults_of_grpo(make_rollouts, make_batch, x64):
    """Two groups with ids in no order, ragged; advantages by population deviation + 1e-6, token mean, clip 0.2."""
    rollouts = make_rollouts([7, -1, 7, -1], [2, 1, 3, 4])
    trunk, weights = weigh(GRPO(), rollouts, np.array([0.0, 0.2, 1.0, 0.6]), np.zeros((1, 2), bool))
    assert not trunk.nll.any() and not trunk.pg.any() and not weights.nll.any()
    assert np.allclose(weights.pg, rollouts.mask / 10)
    assert np.allclose(weights.advantage[:, 0], [-0.999998, -0.999995, 0.999998, 0.999995], atol=1e-9)
    eight = weigh(GRPO(), make_rollouts([0] * 8, [1] * 8), REWARDS, np.zeros((1, 0), bool))[1].advantage[:, 0]
    assert np.allclose(eight, [-0.0525, 0.3674, 0.3674, 0.7873, -2.5718, 0.5774, 0.1575, 0.3674], atol=6e-5)
    logp = jnp.log(jnp.array([[1.5, 1.1, 0.5, 0.9]])) - 1.0
    batch = make_batch(pg_weight=np.full((1, 4), 0.25), advantage=[[2.0, 2.0, -1.0, -1.0]], behavior_logp=[[-1.0] * 4])
    loss, metrics = token_loss(GRPO(), logp, batch)
    assert float(loss) == pytest.approx(-(1.2 * 2 + 1.1 * 2 - 0.8 - 0.9) / 4, rel=1e-5)
    assert set(metrics) == {
        "pg/loss", "pg/ratio_mean", "pg/outside_clip_share", "pg/behavior_kl", "pg/weight",
    }  # fmt: skip
    assert float(metrics["pg/outside_clip_share"]) == pytest.approx(0.5)


@pytest.mark.parametrize("far", [60.0, 100.0, 3e38, -100.0])
@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("dual", [None, 3.0])
def test_a_ratio_beyond_float32_leaves_the_rest_of_the_step_alone(far, advantage, dual, make_batch):
    """exp(100) is inf in float32, and inf * 0 in the backward pass would make the whole step not finite."""
    batch = make_batch(pg_weight=[[0.5, 0.5]], advantage=[[advantage, 1.0]], behavior_logp=[[-far - 1.0, -1.0]])
    loss = lambda logp: token_loss(GRPO(dual_clip=dual), logp, batch)
    (value, metrics), grad = jax.value_and_grad(loss, has_aux=True)(jnp.array([[-1.0, -1.0]]))
    assert np.isfinite(value) and np.isfinite(grad).all() and np.isfinite(list(metrics.values())).all()
    assert grad[0, 0] == 0 and grad[0, 1] == pytest.approx(-0.5)
    naive = lambda logp: -jnp.minimum(jnp.exp(logp + 101.0) * advantage, 1.2 * advantage)
    assert advantage < 0 or not np.isfinite(jax.grad(naive)(jnp.float32(-1.0)))  # what it would have been


def test_the_bound_of_the_log_ratio_is_where_it_says(make_batch):
    """Below the bound the gradient is that of the ratio, above it there is none."""
    slope = lambda gap: float(jax.grad(
        lambda x: token_loss(GRPO(), x, make_batch(pg_weight=[[1.0]], advantage=[[-1.0]], behavior_logp=[[0.0]]))[0]
    )(jnp.array([[gap]]))[0, 0])  # fmt: skip
    assert slope(LARGEST_LOG_RATIO - 0.5) == pytest.approx(np.exp(LARGEST_LOG_RATIO - 0.5), rel=1e-5)
    assert slope(LARGEST_LOG_RATIO + 0.5) == 0


def test_k3_is_right_where_policies_agree_and_finite_where_they_do_not():
    k3 = lambda d: kl_estimate(jnp.float32(0), d, "k3")
    for d in (1e-6, 1e-4, -1e-3, 0.1, -2.0, 5.0):
        exact = np.expm1(np.float64(np.float32(d))) - np.float64(np.float32(d))
        assert float(jax.grad(k3)(jnp.float32(d))) == pytest.approx(float(np.expm1(np.float64(d))), rel=1e-6)
        assert float(k3(jnp.float32(d))) == pytest.approx(float(exact), rel=1e-2, abs=1e-12)
    naive = lambda d: jnp.exp(d) - d - 1
    assert float(jax.grad(naive)(jnp.float32(1e-6))) != pytest.approx(1e-6, rel=1e-2)
    assert np.isfinite(k3(jnp.float32(1000.0))) and float(jax.grad(k3)(jnp.float32(1000.0))) == pytest.approx(
        np.expm1(20.0), rel=1e-6
    )


def test_rewards_equal_but_for_rounding_have_no_advantage(make_rollouts, precision):
    """0.1 + 0.2 is not 0.3; a deviation of 1e-17 must not become an advantage of 1, with or without an epsilon."""
    reward, group = np.array([0.1 + 0.2, 0.3, 0.3]), np.zeros(3, int)
    assert not group_std(reward, group).any() and not group_advantage(reward, group, epsilon=0.0).any()
    assert not weigh(GRPO(filter_std=0.0), make_rollouts(group, [1, 1, 1]), reward, np.zeros((1, 0), bool))[1].pg.any()
    apart = np.array([0.3, 0.3 + 1e-6])
    # Small, but a difference; of which float32 keeps two digits.
    assert np.allclose(group_advantage(apart, group[:2]), [-1, 1], rtol=1e-6 if precision < 1e-6 else 0.05)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reward_that_takes_no_part_may_be_anything(bad, precision):
    reward = np.array([0.0, bad, 1.0])
    left_out = group_advantage(reward, np.zeros(3, int), include=np.array([True, False, True]))
    assert np.allclose(left_out, [-1, 0, 1])


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("std", ["group", "batch", "leave_one_out", "none"])
@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
def test_groups_of_one_beside_others(ddof, std, baseline, x64):
    """For every scale: finite everywhere, 0 for the lone one,
    its reward where that is asked for."""
    reward, group = np.array([0.7, 0.0, 1.0, 0.25]), np.array([9, 2, 2, 2])
    got = group_advantage(reward, group, baseline=baseline, std=std, ddof=ddof)
    assert got[0] == 0 and np.isfinite(got).all() and got[1] < 0 < got[2]
    raw = group_advantage(reward, group, baseline=baseline, std=std, ddof=ddof, singleton_advantage=1.0)
    assert raw[0] == 0.7 and np.array_equal(raw[1:], got[1:])


def test_whitening_counts_tokens(x64):
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool)
    got = whiten(np.array([[1.0], [-1.0]]) * mask, mask)
    values = np.array([1, 1, 1, -1])
    assert np.allclose(got[mask], (values - values.mean()) / values.std()) and not got[~mask].any()
    assert not whiten(np.ones((2, 4)) * 0.1 * mask, mask).any()  # all alike: none is above the others
    assert not whiten(np.zeros((0, 4)), np.zeros((0, 4), bool)).any()
