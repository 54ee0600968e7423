"""What an objective is given: log-probs at the right temperature, its numbers, the entropy where it needs it."""

from dataclasses import dataclass, replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.models.transformer import forward, head_matrix, init_params
from jaxsrl.types import Needs, Objective
from jaxsrl.update import batch_logp, make_gradient, make_loss, make_scorer
from tests.test_update import MODEL, largest_error, packed


@dataclass(frozen=True)
class Simple(Objective):
    """NLL and an entropy bonus: what the numbers and the extra fields of a batch are for."""

    coefficient: float = 0.3
    needs: Needs = Needs(entropy=True)

    def token_loss(self, logp, batch, numbers):
        weight = batch.nll_weight + batch.pg_weight
        bonus = numbers["coefficient"] * batch.extra["entropy"] if self.needs.entropy else 0.0
        return -jnp.sum(weight * (logp + bonus)), {"extra": float(len(batch.extra))}


def plainly(params, batch, temperature, coefficient):
    """`Simple` from all logits, in the dtype of `params`."""
    hidden = forward(MODEL, params, batch.token, batch.position, batch.enter, batch.leave)
    before = jnp.take_along_axis(hidden, batch.parent[:, :, None], axis=1)
    logits = before @ head_matrix(MODEL, params)
    logs = jax.nn.log_softmax(logits / jnp.where(batch.rollout >= 0, temperature, 1.0)[:, :, None], axis=-1)
    logp = jnp.take_along_axis(logs, batch.token[:, :, None], axis=-1)[:, :, 0]
    entropy = -jnp.sum(jnp.exp(logs) * logs, axis=-1)
    return -jnp.sum((batch.nll_weight + batch.pg_weight) * (logp + coefficient * entropy))


def test_a_loss_is_given_numbers_and_the_entropy():
    """Demonstrations and rollouts at their temperatures; gradients of log-prob and entropy, float64, 1e-10."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype(jnp.float64), init_params(MODEL, jax.random.key(0)))
        (batch,), _ = packed("mixed")
        (grads, metrics) = make_gradient(make_loss(MODEL, Simple(), 0.6))(params, batch, {"coefficient": 0.3})
        want = lambda *rest: jax.jit(jax.value_and_grad(plainly))(params, batch, *rest)
        value, expected = want(0.6, 0.3)
        assert largest_error(grads, expected) < 1e-10 and float(metrics["loss"]) == pytest.approx(float(value), 1e-12)
        # The controls: another temperature, and no bonus.
        assert min(largest_error(want(*wrong)[1], expected) for wrong in ((1.0, 0.3), (0.6, 0.0))) > 1e-2
        without = make_loss(MODEL, Simple(needs=Needs()), 0.6)
        assert jax.eval_shape(without, params, batch, {})[1]["extra"].shape == ()


def test_the_temperature_divides_float32_logits():
    """In a bfloat16 model too: 1e-5 nats. The control divides hidden states in their own dtype, as was done once."""
    config = replace(MODEL, dtype="bfloat16")
    params = init_params(config, jax.random.key(0))
    params |= {"embedding": params["embedding"] * 5}  # logits as large as after training
    (batch,), _ = packed("srl")
    hidden = forward(config, params, batch.token, batch.position, batch.enter, batch.leave)
    before = jnp.take_along_axis(hidden, batch.parent[:, :, None], axis=1)
    head, scored = head_matrix(config, params).astype(jnp.bfloat16), batch.pg_weight != 0
    logits = lambda before: jnp.matmul(before, head, preferred_element_type=jnp.float32)
    chosen = lambda logs: jnp.take_along_axis(jax.nn.log_softmax(logs), batch.token[:, :, None], axis=-1)[:, :, 0]
    got = jax.jit(lambda: batch_logp(config, params, batch, 0.6))()
    off = lambda want: np.abs(np.asarray(got - want))[scored].max()
    assert off(chosen(logits(before) / 0.6)) < 1e-5 and off(chosen(logits(before * jnp.bfloat16(1 / 0.6)))) > 1e-2


def test_numbers_and_temperature_may_be_traced():
    """One program for all of them, and a population by vmap: each member is what it is alone."""
    params = init_params(MODEL, jax.random.key(0))
    (batch,), _ = packed("mixed")
    run = chex.assert_max_traces(lambda t, c: make_loss(MODEL, Simple(), t)(params, batch, {"coefficient": c})[0], n=2)
    temperature, coefficient = jnp.array([0.6, 1.0, 1.4]), jnp.array([0.0, 0.3, 0.3])
    together = jax.jit(jax.vmap(run))(temperature, coefficient)
    one = jax.jit(run)
    alone = [one(t, c) for t, c in zip(temperature, coefficient, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    fixed = make_loss(MODEL, Simple(), 0.6)(params, batch, {"coefficient": 0.0})[0]
    np.testing.assert_allclose(together[0], fixed, rtol=1e-6)
    scored = jax.jit(lambda t: make_scorer(MODEL, t)(params, batch))(0.6)
    np.testing.assert_allclose(scored, make_scorer(MODEL, 0.6)(params, batch), rtol=1e-6, atol=1e-6)
    assert len(set(together.tolist())) == 3
