"""DPO and KTO against NumPy, ragged and shuffled."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.objectives.dpo import DPO
from jaxsrl.objectives.kto import KTO
from jaxsrl.types import TokenWeights
from tests.objectives.ragged import collected, numbers, token_loss, weigh, weighed

LENGTHS, GROUP = [3, 1, 5, 2, 4, 4, 2, 1], [7, 2, 7, 7, 2, 2, 5, 5]
REWARD = np.array([0.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.3, 0.3])  # group 5 is all alike
NONE = np.zeros((1, 0), bool)
NO_TRUNK = TokenWeights(nll=np.zeros((1, 2)), pg=np.zeros((1, 2)), advantage=np.zeros((1, 2)))


def setup(make_rollouts, seed=0):
    rng = np.random.default_rng(seed)
    old, ref = -rng.uniform(0.2, 3.0, (8, 5)), -rng.uniform(0.2, 3.0, (8, 5))
    rollouts = replace(make_rollouts(GROUP, LENGTHS, logp=old), ref_logp=ref)
    return rollouts, old + rng.normal(size=old.shape), ref


def evaluate(objective, rollouts, logp, ref, lay_out):
    found = weighed(objective, rollouts, REWARD, NONE)
    weights = found.rollouts
    batch, flat, place = lay_out(rollouts, NO_TRUNK, weights, logp, trunk_logp=-np.ones((1, 2)), ref_logp=ref)
    group = np.where(batch.rollout >= 0, np.array(GROUP)[batch.rollout], -1)
    own = {name: np.where(batch.rollout >= 0, value[batch.rollout], 0) for name, value in found.extra.items()}
    batch = replace(batch, group=group, extra=own)
    (loss, metrics), grad = jax.value_and_grad(partial(token_loss, objective), has_aux=True)(jnp.asarray(flat), batch)
    return float(loss), np.where(rollouts.mask, np.asarray(grad).reshape(-1)[place], 0.0), metrics, weights


def total(x, p):
    return x[p, : LENGTHS[p]].sum()


def test_dpo(make_rollouts, lay_out, x64):
    """Pairs (2, 0) and (1, 4); each pair counts the same, however long."""
    rollouts, logp, ref = setup(make_rollouts)
    loss, grad, metrics, weights = evaluate(DPO(reward=None), rollouts, logp, ref, lay_out)
    margins = [0.1 * (total(logp - ref, w) - total(logp - ref, r)) for w, r in ((2, 0), (1, 4))]
    assert loss == pytest.approx(np.mean([np.log1p(np.exp(-m)) for m in margins]), rel=1e-10)
    want = np.zeros(rollouts.mask.shape)
    for (w, r), m in zip(((2, 0), (1, 4)), margins, strict=True):
        want[w], want[r] = -0.1 / (1 + np.exp(m)) / 2, 0.1 / (1 + np.exp(m)) / 2
    assert np.allclose(grad, want * rollouts.mask, rtol=1e-10, atol=1e-15)
    assert float(metrics["dpo/right_order"]) == pytest.approx(np.mean(np.array(margins) > 0))
    assert not weights.pg[[3, 5, 6, 7]].any() and weights.pg.sum() == pytest.approx(1)
    start = evaluate(DPO(reward=None), rollouts, ref, ref, lay_out)
    assert start[0] == pytest.approx(np.log(2)) and start[1].any()  # at the reference: log 2, and a gradient


def test_kto(make_rollouts, lay_out, x64):
    rollouts, logp, ref = setup(make_rollouts)
    objective = KTO(reward=None, desirable=1.5, undesirable=0.5)
    kl = np.mean([total(rollouts.behavior_logp - ref, p) for p in range(8)])
    for sign in (1, -1):  # z0 is clamped at 0
        now = rollouts if sign * kl > 0 else replace(rollouts, behavior_logp=2 * ref - rollouts.behavior_logp)
        z0 = max(np.mean([total(now.behavior_logp - ref, p) for p in range(8)]), 0.0)
        assert (z0 > 0) == (sign > 0)
        loss, grad, metrics, _ = evaluate(objective, now, logp, ref, lay_out)
        want, slopes = 0.0, np.zeros(rollouts.mask.shape)
        for p in range(8):
            y, scale = (1, 1.5) if REWARD[p] >= 1 else (-1, 0.5)
            value = 1 / (1 + np.exp(-y * 0.1 * (total(logp - ref, p) - z0)))
            want += scale * (1 - value) / 8
            slopes[p] = -scale * y * 0.1 * value * (1 - value) / 8
        assert loss == pytest.approx(want, rel=1e-10)
        assert np.allclose(grad, slopes * rollouts.mask, rtol=1e-10, atol=1e-15)
    with pytest.raises(ValueError, match="ref_logp"):
        weigh(objective, replace(rollouts, ref_logp=None), REWARD, NONE)


def test_what_kto_sends_with_its_rollouts(make_rollouts, x64):
    """Label and z0 are numbers of a completion; its weight is that of its side over the number of completions."""
    rollouts, _, ref = setup(make_rollouts)
    found = weighed(KTO(reward=None, desirable=1.5, undesirable=0.5), rollouts, REWARD, NONE)
    z0 = max(np.mean([total(rollouts.behavior_logp - ref, p) for p in range(8)]), 0.0)
    right = REWARD >= 1
    np.testing.assert_array_equal(found.extra["label"], np.where(right, 1.0, -1.0))
    assert found.extra.keys() == {"label", "z0"} and np.allclose(found.extra["z0"], z0, rtol=1e-10)
    assert np.allclose(found.rollouts.pg.sum(axis=1), np.where(right, 1.5, 0.5) / 8, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_reward_at_the_bound_is_desirable(dtype, make_rollouts, x64):
    """Rounded down or not, and float32 beside a bound in float64; a bare comparison would call both wrong."""
    objective, below = KTO(reward=None, success_threshold=0.7), np.nextafter(dtype(0.7), dtype(0))
    reward = jnp.asarray([0.699, *[dtype(0.7), below] * 3, 1.0], dtype)
    found = objective.weigh(collected(setup(make_rollouts)[0], NONE), reward, numbers(objective))
    assert found.extra["label"].tolist() == [-1.0] + [1.0] * 7 and below < 0.7 and float(np.float32(0.7)) < 0.7
