"""Estimates of KL(policy, reference) from single tokens, per token and in nats; d = ref_logp - logp.

As a value all three estimate the same KL. As a loss they differ: the gradient of k2 is unbiased on policy, that of
k1 has mean zero, that of k3 is biased (it is the gradient of the other direction's KL). Source: J. Schulman,
"Approximating KL divergence" (2020), for the values.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(logp: Float[Array, "R T"], ref_logp: Float[Array, "R T"], estimator: Estimator) -> Float[Array, "R T"]:
    """k1 = -d; k2 = d^2 / 2; k3 = exp(d) - d - 1.

    Raises: ValueError if the estimator is unknown.
    """
    d = ref_logp - logp
    match estimator:
        case "k1":
            return -d
        case "k2":
            return d * d / 2
        case "k3":
            return jnp.exp(d) - d - 1
        case unknown:
            raise ValueError(f"unknown KL estimator {unknown!r}; there are: k1, k2, k3")
