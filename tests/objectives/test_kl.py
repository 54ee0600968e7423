"""What the KL estimators estimate, by exact enumeration: expectations are sums over all tokens of a vocabulary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.objectives.kl import kl_estimate


def expected(policy, reference, estimator):
    """Mean of the estimate over tokens of the policy, nats."""
    return float(jnp.sum(policy * kl_estimate(jnp.log(policy), jnp.log(reference), estimator)))


def kl(policy, reference):
    return float(np.sum(policy * np.log(policy / reference)))


def near(policy, distance):
    """A reference whose logits lie `distance` from the policy's, in a fixed direction."""
    return np.asarray(jax.nn.softmax(jnp.log(policy) + distance * jnp.array([1.0, -0.5, 0.2, 0.0, -1.0])))


@pytest.mark.parametrize("seed", range(4))
def test_k2_does_not_estimate_the_kl(seed, x64):
    """k1 and k3 do, to 1e-12. k2 is half the mean squared log-ratio, which is another number."""
    policy, reference = np.random.default_rng(seed).dirichlet(np.ones(5), 2)
    for estimator in ("k1", "k3"):
        assert expected(policy, reference, estimator) == pytest.approx(kl(policy, reference), rel=1e-12)
    half = np.sum(policy * np.log(policy / reference) ** 2) / 2
    assert expected(policy, reference, "k2") == pytest.approx(half, rel=1e-12)
    assert abs(half / kl(policy, reference) - 1) > 0.05


def test_k2_comes_close_where_policies_are_close(x64):
    """Ten times closer, its share of error is ten times smaller."""
    policy = np.random.default_rng(0).dirichlet(np.ones(5))
    error = lambda d: abs(expected(policy, near(policy, d), "k2") / kl(policy, near(policy, d)) - 1)
    assert 5 < error(0.1) / error(0.01) < 20 and error(0.01) < 0.01 < error(1.0)


def test_the_example_of_the_file(x64):
    policy, reference = np.array([0.9, 0.1]), np.array([0.5, 0.5])
    assert expected(policy, reference, "k1") == pytest.approx(0.368, abs=5e-4)
    assert expected(policy, reference, "k2") == pytest.approx(0.285, abs=5e-4)
