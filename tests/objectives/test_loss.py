"""Losses of log-probs: by hand, on the clip grid, and where gradients are zero."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.kl import kl_estimate
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.surrogate import clipped_surrogate
from jaxsrl.types import Batch
from tests.objectives.ragged import token_loss


def make_batch(**fields):
    shape = np.shape(next(iter(fields.values())))
    whole = {name: np.zeros(shape, np.int32) for name in ("token", "position", "enter", "leave", "parent", "rollout")}
    whole |= {name: np.zeros(shape, np.float32) for name in ("nll_weight", "pg_weight", "advantage", "behavior_logp")}
    return Batch(**whole | {name: np.asarray(value, np.float32) for name, value in fields.items()})


def test_two_tokens_by_hand():
    """Ratios 1.5 and 0.5; the first is clipped at 1.2 (A > 0), the second at 0.8 (A < 0)."""
    logp = jnp.log(jnp.array([[0.3, 0.1]]))
    batch = make_batch(pg_weight=[[0.5, 0.5]], advantage=[[2.0, -1.0]], behavior_logp=np.log([[0.2, 0.2]]))
    loss, metrics = token_loss(GRPO(), logp, batch)
    assert float(loss) == pytest.approx(-(0.5 * 1.2 * 2 - 0.5 * 0.8 * 1), rel=1e-5)
    assert float(metrics["pg/outside_clip_share"]) == pytest.approx(1.0)
    sft = make_batch(nll_weight=[[0.25, 0.75]])
    assert float(token_loss(SFT(), logp, sft)[0]) == pytest.approx(-(0.25 * np.log(0.3) + 0.75 * np.log(0.1)), rel=1e-5)


@pytest.mark.parametrize("ratio", [0.7, 0.9, 1.0, 1.1, 1.3, 4.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_gradient_on_the_clip_grid(ratio, advantage):
    """The bound that holds follows the advantage's sign: bounds 0.8 and 1.28, dual clip at 3."""
    loss = lambda r, dual: clipped_surrogate(r, jnp.float32(advantage), clip_low=0.2, clip_high=0.28, dual_clip=dual)
    slope = lambda dual: float(jax.grad(loss)(jnp.float32(ratio), dual))
    flat = ratio > 1.28 if advantage > 0 else ratio < 0.8
    assert slope(None) == pytest.approx(0.0 if flat else -advantage)
    assert slope(3.0) == pytest.approx(0.0 if flat or (advantage < 0 and ratio > 3) else -advantage)


def test_on_policy_ratio_is_one_and_the_gradient_is_not_zero():
    logp = jnp.array([[-1.0, -2.0]])
    batch = make_batch(pg_weight=[[0.5, 0.5]], advantage=[[1.0, -2.0]], behavior_logp=logp)
    grad, metrics = jax.grad(lambda x: token_loss(GRPO(), x, batch), has_aux=True)(logp)
    assert np.allclose(grad, [[-0.5, 1.0]]) and float(metrics["pg/ratio_mean"]) == 1.0
    assert float(metrics["pg/outside_clip_share"]) == 0 and float(metrics["pg/behavior_kl"]) == 0


@pytest.mark.parametrize("objective", [GRPO(kl_coef=0.1), SFT()])
def test_places_without_weight_may_hold_anything(objective):
    weight = np.array([[0.5, 0.0, 0.5]])
    fields = dict(pg_weight=weight, nll_weight=weight, advantage=np.where(weight, 1.0, np.nan))
    fields |= dict(behavior_logp=np.where(weight, -1.0, np.inf), ref_logp=np.where(weight, -1.5, np.nan))
    batch = make_batch(**fields)
    logp = jnp.array([[-1.1, jnp.nan, -0.4]])
    (loss, _), grad = jax.value_and_grad(partial(token_loss, objective), has_aux=True)(logp, batch)
    assert np.isfinite(loss) and np.isfinite(grad).all() and grad[0, 1] == 0 and grad[0, 0] != 0


def test_padding_and_halves():
    """Padding changes nothing, and halves add up to the whole, metrics too."""
    rng = np.random.default_rng(0)
    draw = lambda: rng.normal(size=(4, 6)).astype(np.float32)
    fields = dict(pg_weight=np.abs(draw()), advantage=draw(), behavior_logp=draw(), ref_logp=draw())
    logp, objective = draw(), GRPO(kl_coef=0.3, kl="k2")
    whole, metrics = token_loss(objective, jnp.asarray(logp), make_batch(**fields))
    halves = [
        token_loss(objective, jnp.asarray(logp[s]), make_batch(**{k: v[s] for k, v in fields.items()}))
        for s in (slice(0, 2), slice(2, 4))
    ]
    assert float(whole) == pytest.approx(float(halves[0][0] + halves[1][0]), rel=1e-5)
    for name, value in metrics.items():
        assert float(value) == pytest.approx(float(halves[0][1][name] + halves[1][1][name]), rel=1e-5)
    wide = {name: np.pad(value, [(0, 0), (0, 3)]) for name, value in fields.items()}
    padded, _ = token_loss(objective, jnp.asarray(np.pad(logp, [(0, 0), (0, 3)])), make_batch(**wide))
    assert float(padded) == pytest.approx(float(whole), rel=1e-6)


def test_kl_estimates_and_their_gradients():
    """Exactly on a 3-token vocabulary: expectations are sums over the policy's tokens."""
    logits, reference = jnp.array([0.2, -0.5, 1.0]), jax.nn.log_softmax(jnp.array([1.0, 0.3, -0.4]))
    true = lambda x: jnp.sum(jax.nn.softmax(x) * (jax.nn.log_softmax(x) - reference))
    policy = jax.lax.stop_gradient(jax.nn.softmax(logits))
    expected = lambda x, name: jnp.sum(policy * kl_estimate(jax.nn.log_softmax(x), reference, name))
    for name in ("k1", "k3"):
        assert float(expected(logits, name)) == pytest.approx(float(true(logits)), rel=1e-5)
    assert float(expected(logits, "k2")) != pytest.approx(float(true(logits)), rel=1e-2)  # biased as a value
    want = jax.grad(true)(logits)
    assert np.allclose(jax.grad(expected)(logits, "k2"), want, atol=1e-6)
    assert np.allclose(jax.grad(expected)(logits, "k1"), 0, atol=1e-6)
    reverse = jax.grad(lambda x: jnp.sum(jnp.exp(reference) * (reference - jax.nn.log_softmax(x))))(logits)
    assert np.allclose(jax.grad(expected)(logits, "k3"), reverse, atol=1e-6) and not np.allclose(
        reverse, want, atol=1e-2
    )
    with pytest.raises(ValueError, match="k4"):
        kl_estimate(logits, reference, "k4")
