"""GRPO's relatives against NumPy, on ragged rollouts in shuffled order, on policy and after an update."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.objectives import presets
from jaxsrl.objectives.cispo import CISPO
from jaxsrl.objectives.gmpo import GMPO
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.gspo import GSPO
from jaxsrl.objectives.reinforce import Reinforce
from jaxsrl.types import TokenWeights
from tests.objectives.ragged import token_loss, weigh

LENGTHS = [3, 1, 5, 2, 4, 4, 2]
GROUP = [4, 9, 4, 4, 9, 9, 1]  # ids in no order; one group of one
REWARD = np.array([0.0, 1.0, 1.0, 0.25, 0.5, 0.0, 0.7])
NONE = np.zeros((1, 0), bool)


def slow(policy, rollouts, weights, logp):
    """Loss and gradient per token, written out rollout by rollout. Returns (loss, gradient [P, C])."""
    loss, grad = 0.0, np.zeros(rollouts.mask.shape)
    for p in range(len(rollouts)):
        n = int(rollouts.mask[p].sum())
        new, old = logp[p, :n], rollouts.behavior_logp[p, :n]
        ratio, w, a = np.exp(new - old), weights.pg[p, :n], weights.advantage[p, :n]
        low, high = 1 - policy.clip_low, 1 + policy.clip_high
        if isinstance(policy, GSPO):
            s = np.prod(ratio) ** (1 / n)
            blocked = s > high if a[0] > 0 else s < low
            loss -= np.sum(w * a) * (np.clip(s, low, high) if blocked else s)
            grad[p, :n] = 0.0 if blocked else -np.sum(w * a) * s / n
        elif isinstance(policy, GMPO):
            blocked = ratio > np.exp(policy.clip_high) if a[0] > 0 else ratio < np.exp(-policy.clip_low)
            kept = np.where(blocked, np.exp(policy.clip_high) if a[0] > 0 else np.exp(-policy.clip_low), ratio)
            geometric = np.prod(kept) ** (1 / n)
            loss -= np.sum(w * a) * geometric
            grad[p, :n] = np.where(blocked, 0.0, -np.sum(w * a) * geometric / n)
        elif isinstance(policy, CISPO):
            weight = np.clip(ratio, low, high)
            loss -= np.sum(w * weight * a * new)
            grad[p, :n] = -w * weight * a
        elif isinstance(policy, Reinforce):
            loss -= np.sum(w * a * new)
            grad[p, :n] = -w * a
        else:
            loss -= np.sum(w * np.minimum(ratio * a, np.clip(ratio, low, high) * a))
            blocked = np.where(a > 0, ratio > high, ratio < low) & (a != 0)
            grad[p, :n] = np.where(blocked, 0.0, -w * a * ratio)
    return loss, grad


FAMILY = {
    "grpo": GRPO(), "printed": presets.grpo_printed(kl_coef=0.0), "dr_grpo": presets.dr_grpo(8), "dapo": presets.dapo(),
    "gspo": GSPO(), "gspo_wide": GSPO(clip_low=0.1, clip_high=0.1),
    "gmpo": GMPO(), "gmpo_narrow": GMPO(clip_low=0.05, clip_high=0.05),
    "cispo": CISPO(), "cispo_narrow": CISPO(clip_low=0.2, clip_high=0.1), "rloo": presets.rloo(),
    "rpp": presets.reinforce_plus_plus(), "rpp_baseline": presets.reinforce_plus_plus_baseline(),
    "lite": presets.lite_ppo(),
}  # fmt: skip


def gradients(policy, rollouts, weights, logp, lay_out, **kwargs):
    none = TokenWeights(nll=np.zeros((2, 3)), pg=np.zeros((2, 3)), advantage=np.zeros((2, 3)))
    batch, flat, place = lay_out(rollouts, none, weights, logp, trunk_logp=np.full((2, 3), -1.0), **kwargs)
    (loss, metrics), grad = jax.value_and_grad(partial(token_loss, policy), has_aux=True)(jnp.asarray(flat), batch)
    grad = np.asarray(grad).reshape(-1)
    assert np.delete(grad, place[place >= 0]).any() == 0  # nothing on trunk or padding
    return float(loss), np.where(rollouts.mask, grad[place], 0.0), metrics


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", list(FAMILY))
def test_loss_and_gradient_after_an_update(name, seed, make_rollouts, lay_out, x64):
    policy, rng = FAMILY[name], np.random.default_rng(seed)
    old = -rng.uniform(0.2, 3.0, (7, 5))
    rollouts = make_rollouts(GROUP, LENGTHS, logp=old)
    weights = weigh(policy, rollouts, REWARD, NONE)[1]
    for distance in (0.0, 0.3, 3.0):  # on policy, near, far
        logp = old + distance * rng.normal(size=old.shape)
        want = slow(policy, rollouts, weights, logp)
        loss, grad, _ = gradients(policy, rollouts, weights, logp, lay_out, seed=seed)
        assert loss == pytest.approx(want[0], rel=1e-10, abs=1e-12)
        assert np.allclose(grad, want[1], rtol=1e-10, atol=1e-12)


def test_on_policy_they_differ_by_their_average_alone(make_rollouts, lay_out, x64):
    """And after an update by more: the first update cannot tell surrogate, CISPO and REINFORCE, or GSPO and GMPO."""
    rng = np.random.default_rng(0)
    old = -rng.uniform(0.2, 3.0, (7, 5))
    rollouts = make_rollouts(GROUP, LENGTHS, logp=old)

    def grad(policy, logp):
        return gradients(policy, rollouts, weigh(policy, rollouts, REWARD, NONE)[1], logp, lay_out)[1]

    moved = old + 0.6 * rng.normal(size=old.shape)
    moved[1, 0] = old[1, 0] + np.log(1.25)  # between the upper bounds of GRPO and DAPO, with an advantage above 0
    token_means = [GRPO(), CISPO(), Reinforce(), presets.dapo(filter_std=None)]
    sequence_means = [GRPO(aggregation="sequence_mean"), GSPO(), GMPO()]
    for family in (token_means, sequence_means):
        first = [grad(policy, old) for policy in family]
        assert all(np.allclose(g, first[0], atol=1e-12) for g in first) and first[0].any()
        later = [grad(policy, moved) for policy in family]
        for i in range(len(later)):
            for j in range(i):
                assert not np.allclose(later[i], later[j], atol=1e-3), (family[i], family[j])
    assert not np.allclose(first[0], grad(GRPO(), old), atol=1e-3)
    # No token loses its gradient in CISPO; in the surrogate those beyond the clip do.
    weighed = rollouts.mask & (REWARD != 0.7)[:, None]
    advantage = weigh(GRPO(), rollouts, REWARD, NONE)[1].advantage
    assert (grad(CISPO(), moved)[weighed & (advantage != 0)] != 0).all()
    assert (grad(GRPO(), moved)[weighed & (advantage != 0)] == 0).any()


@pytest.mark.parametrize("ratio", [0.7, 0.9, 1.0, 1.1, 1.3, 4.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_gradients_on_the_clip_grid(ratio, advantage, make_batch):
    """Which side of the ratio is clipped, for every relative; single tokens, so sequences are tokens."""
    batch = make_batch(pg_weight=[[1.0]], advantage=[[advantage]], behavior_logp=[[-5.0]], rollout=[[0]])
    slope = lambda policy: float(
        jax.grad(lambda x: token_loss(policy, x, batch)[0])(jnp.array([[np.log(ratio) - 5.0]], jnp.float32))[0, 0]
    )
    up = advantage > 0
    expected = {
        presets.dapo(): 0.0 if (ratio > 1.28 if up else ratio < 0.8) else -advantage * ratio,
        GSPO(): 0.0 if (ratio > 1.0004 if up else ratio < 1 - 3e-4) else -advantage * ratio,
        GMPO(): 0.0 if (ratio > np.exp(0.4) if up else ratio < np.exp(-0.4)) else -advantage * ratio,
        CISPO(clip_low=0.2, clip_high=0.28): -advantage * np.clip(ratio, 0.8, 1.28),
        Reinforce(): -advantage,
        presets.verl(): 0.0 if (ratio > 1.2 if up else ratio < 0.8 or ratio > 3) else -advantage * ratio,
    }
    for policy, want in expected.items():
        assert slope(policy) == pytest.approx(want, rel=1e-5), policy


def test_losses_of_parts_add_up(make_rollouts, lay_out, x64):
    """Sequence-level losses too: packing cuts no completion, so batches only add."""
    rng = np.random.default_rng(3)
    old = -rng.uniform(0.2, 3.0, (7, 5))
    rollouts, logp = make_rollouts(GROUP, LENGTHS, logp=old), old + 0.1 * rng.normal(size=(7, 5))
    none = TokenWeights(nll=np.zeros((1, 0)), pg=np.zeros((1, 0)), advantage=np.zeros((1, 0)))
    for policy in (GSPO(), GMPO(), CISPO()):
        weights = weigh(policy, rollouts, REWARD, NONE)[1]
        batch, flat, _ = lay_out(rollouts, none, weights, logp, trunk_logp=np.zeros((1, 0)))
        whole = float(token_loss(policy, jnp.asarray(flat), batch)[0])
        rows = [jax.tree.map(lambda x, r=r: x[r : r + 1], (flat, batch)) for r in range(3)]
        parts = [float(token_loss(policy, jnp.asarray(f), b)[0]) for f, b in rows]
        assert sum(parts) == pytest.approx(whole, rel=1e-12)
