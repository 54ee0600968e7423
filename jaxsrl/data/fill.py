"""Runs to tokens, on the device: a batch is gathered from the trunk's pool, the completions and the weights."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxsrl.types import Batch, Completions, Segments, Trunk, Weights


class Places(NamedTuple):
    """What stands at each place of the rows."""

    run: Int[Array, "R T"]  # which run of its row; any number where there is none
    column: Int[Array, "R T"]  # tokens of the run before it
    rollout: Int[Array, "R T"]  # -1 on the trunk and where there is no token
    there: Bool[Array, "R T"]  # whether there is a token


def fill(
    segments: Segments,
    trunk: Trunk,
    completions: Completions,
    weights: Weights,
    row_tokens: int,
    *,
    group: Int[Array, "P"] | None = None,
) -> Batch:
    """The batch that the segments describe; jnp alone, no shape depends on a value.

    A place behind the end of its completion is padding, so one plan with room for the cap serves any lengths. The first
    token of a path has no weight: nothing stands before it to be scored from.

    Args:
      row_tokens: T; runs end before it.
      group: of each rollout, where the loss reads `Batch.group`.
    """
    at = places(segments, completions.length, row_tokens)
    of_run = lambda name: jnp.take_along_axis(getattr(segments, name), at.run, axis=1)
    own = at.rollout >= 0
    # Jobs and pools may be empty; then nothing is read from them.
    index = (jnp.maximum(at.rollout, 0), jnp.where(own, at.column, 0))
    token = jnp.where(own, _take(completions.token, index), _take(trunk.token, (of_run("source") + at.column,)))
    parent = jnp.where(at.column > 0, jnp.arange(row_tokens, dtype=jnp.int32)[None] - 1, of_run("parent"))
    scored = at.there & (parent >= 0)
    weigh = _weighing(weights, index, of_run("target"), at, scored)
    extra = {
        name: jnp.where(own & at.there, _take(value, index[:1]), 0).astype(value.dtype)
        for name, value in weights.extra.items()
    }
    return Batch(
        token=jnp.where(at.there, token, 0),
        position=jnp.where(at.there, of_run("position") + at.column, 0),
        enter=jnp.where(at.there, of_run("enter"), -1),
        leave=jnp.where(at.there, of_run("leave"), -1),
        parent=jnp.where(scored, parent, 0),
        rollout=at.rollout,
        nll_weight=weigh("nll"),
        pg_weight=weigh("pg"),
        advantage=weigh("advantage"),
        behavior_logp=jnp.where(own & scored, _take(completions.logp, index), 0),
        group=None if group is None else jnp.where(own, _take(group, index[:1]), -1),
        extra=extra,
    )


def places(segments: Segments, length: Int[Array, "P"], row_tokens: int) -> Places:
    """What each place of the rows holds, given how long the completions are."""
    rows = jnp.arange(segments.start.shape[0])[:, None]
    begins = jnp.zeros((segments.start.shape[0], row_tokens), jnp.int32)
    begins = begins.at[rows, segments.start].add(jnp.minimum(segments.length, 1), mode="drop")
    run = jnp.maximum(jnp.cumsum(begins, axis=1) - 1, 0)
    of_run = lambda value: jnp.take_along_axis(value, run, axis=1)
    column = jnp.arange(row_tokens, dtype=jnp.int32)[None] - of_run(segments.start)
    rollout = of_run(segments.rollout)
    there = (column >= 0) & (column < of_run(segments.length))
    there &= (rollout < 0) | (column < _take(length, (jnp.maximum(rollout, 0),)))
    column = jnp.where(there, column, 0)
    return Places(run, column, jnp.where(there, rollout, -1), there)


def unfill(
    value: Float[Array, "R T"], segments: Segments, length: Int[Array, "P"], completion_tokens: int
) -> Float[Array, "P C"]:
    """A number per token back to where its completion has it; 0 elsewhere, so the batches of a plan add up.

    Args:
      length: of the completions that the batch was filled with.
    """
    at = places(segments, length, value.shape[1])
    row = jnp.where(at.rollout >= 0, at.rollout, length.shape[0])  # out of bounds, hence dropped
    return jnp.zeros((length.shape[0], completion_tokens), value.dtype).at[row, at.column].set(value, mode="drop")


def _weighing(weights: Weights, index, target: Int[Array, "R T"], at: Places, scored: Bool[Array, "R T"]):
    """name -> [R T]: of a rollout's token, or of a target token."""
    wanted = (at.rollout < 0) & (target >= 0) & scored
    flat = jnp.where(wanted, target + at.column, 0)

    def weigh(name: str) -> Float[Array, "R T"]:
        of = lambda part: getattr(part, name)
        rollouts = jnp.where((at.rollout >= 0) & scored, _take(of(weights.rollouts), index), 0)
        return jnp.where(wanted, _take(of(weights.trunk).reshape(-1), (flat,)), rollouts)

    return weigh


def _take(value: Array, index: tuple[Array, ...]) -> Array:
    """value[index]; 0 of what is empty, where nothing can be read."""
    if value.size == 0:
        return jnp.zeros(index[0].shape, value.dtype)
    return value[index]
