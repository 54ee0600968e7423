"""What objectives ask of a step's material: shapes checked at the door, and weights that are nothing."""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsrl.types import Batch, Collected, TokenWeights


def check_shapes(collected: Collected, reward: Float[Array, "P"]) -> None:
    """Raises AssertionError, when a program is made, for arrays that do not belong together."""
    groups, jobs = collected.groups, collected.mask.shape[0]
    chex.assert_equal_shape([collected.mask, collected.behavior_logp])
    if collected.ref_logp is not None:
        chex.assert_equal_shape([collected.mask, collected.ref_logp])
    chex.assert_shape([reward, collected.truncated, groups.group, groups.column, groups.active], (jobs,))
    chex.assert_equal_shape([groups.member, groups.present])
    chex.assert_shape([groups.demonstration, groups.hash], groups.member.shape[:1])
    chex.assert_rank([collected.target, collected.step], [2, 0])


def check_batch(logp: Float[Array, "R T"], batch: Batch) -> None:
    """Raises AssertionError, when a program is made, unless everything is there for every token."""
    every = [logp, batch.rollout, batch.nll_weight, batch.pg_weight, batch.advantage, batch.behavior_logp]
    every += [value for value in (batch.ref_logp, batch.group) if value is not None]
    chex.assert_equal_shape([*every, *batch.extra.values()])


def no_weight(shape: tuple[int, ...], dtype) -> TokenWeights:
    """Tokens that do not count."""
    zero = jnp.zeros(shape, dtype)
    return TokenWeights(nll=zero, pg=zero, advantage=zero)


def wide(reward: Float[Array, "P"]) -> Float[Array, "P"]:
    """In float32 at least."""
    return reward.astype(jnp.promote_types(reward.dtype, jnp.float32))


def reference(collected: Collected) -> Float[Array, "P C"]:
    """Log-probs under the frozen reference.

    Raises: ValueError where they were not made: the objective did not say that it needs them.
    """
    if collected.ref_logp is None:
        raise ValueError("Collected.ref_logp is missing: the objective needs Needs(reference_to_weigh=True)")
    return collected.ref_logp
