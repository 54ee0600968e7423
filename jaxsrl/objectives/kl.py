"""Estimates of KL(policy, reference) from single tokens, per token and in nats; d = ref_logp - logp.

They are good for different things. The means below are over tokens that the policy itself sampled.

| estimator | mean of its value | mean of its gradient as a loss |
| --- | --- | --- |
| k1 | KL(policy, reference) | 0: it teaches nothing |
| k2 | half the mean squared log-ratio: not the KL, near it for near policies | that of KL(policy, reference) |
| k3 | KL(policy, reference) | that of the other direction, KL(reference, policy) |

For example, policy (0.9, 0.1) and reference (0.5, 0.5): the KL is 0.368 nats, the mean of k2 is 0.285.
Source: J. Schulman, "Approximating KL divergence" (2020), for the values.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Estimator = Literal["k1", "k2", "k3"]
LARGEST = 20.0  # nats


def kl_estimate(logp: Float[Array, "R T"], ref_logp: Float[Array, "R T"], estimator: Estimator) -> Float[Array, "R T"]:
    """k1 = -d; k2 = d^2 / 2; k3 = exp(d) - d - 1, beyond d = 20 continued by its tangent.

    Raises: ValueError if the estimator is unknown.
    """
    d = ref_logp - logp
    match estimator:
        case "k1":
            return -d
        case "k2":
            return d * d / 2
        case "k3":
            return _k3(d)
        case unknown:
            raise ValueError(f"unknown KL estimator {unknown!r}; there are: k1, k2, k3")


@jax.custom_jvp
def _k3(d: Float[Array, "R T"]) -> Float[Array, "R T"]:
    """exp(d) - d - 1 without its faults in float32: cancellation near 0, where policies agree, and overflow."""
    bounded = jnp.minimum(d, LARGEST)
    return jnp.expm1(bounded) - bounded + (d - bounded) * math.expm1(LARGEST)


@_k3.defjvp
def _k3_jvp(primals, tangents):
    # Left to itself, the derivative would be (expm1 + 1) - 1: rounded to 6e-8 however small it is.
    return _k3(*primals), jnp.expm1(jnp.minimum(primals[0], LARGEST)) * tangents[0]
