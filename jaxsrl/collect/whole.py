"""A whole optimizer step as one function of a state and what is known beforehand, and a scan over such steps.

Nothing is asked of the host in between, so rows are the layout's own, every completion as long as its cap, and the
device rewards. The same phases as the host's loop, in the same order: on a CPU the bits are the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from jaxsrl.collect.collect import Whole, no_completions
from jaxsrl.collect.device import CARRIES
from jaxsrl.types import Completions, Mean, Metrics, Numbers, Params, Scores, Segments, Sheet, TrainState


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Known:
    """An optimizer step before a token is sampled; in a scan every array has an axis of steps before these."""

    sheets: Sheet | None  # [S …]
    whole: Whole
    rows: Segments  # [N R Z]: N batches


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Taken:
    """What is told of a step that was taken."""

    metrics: Metrics
    means: dict[str, Mean]
    length: Int[Array, "P"]
    flags: UInt8[Array, "P"]
    token: Int[Array, "P C"]
    scores: Scores | None
    first_advantage: Float[Array, "P"]


def make_step(
    draw: Callable[..., tuple[Completions, Scores]], weigh: Callable[..., Any], fill: Callable[..., Any],
    gradient: Callable[..., Any], apply: Callable[..., Any],
    sampling: Callable[[Params], Params], max_new_tokens: int,
):  # fmt: skip
    """Returns step(state, known, key, numbers, *frozen) -> (state, Taken): pure, and without callbacks.

    Args:
      draw, weigh, fill: as the host's loop calls them; `draw` is None where nothing is sampled. gradient, apply: see
        update.py.
      sampling: trained parameters -> what is sampled from.
      max_new_tokens: C.
      key: of the stage's training; the step's own is folded in here.
    """

    def step(state: TrainState, known: Known, key, temperature, numbers: Numbers, *frozen: Params):
        own = jax.random.fold_in(key, state.step)
        whole = known.whole
        if draw is None:
            completions, scores, reward = *no_completions(max_new_tokens), jnp.zeros(0)
        else:
            params = sampling(state.params, *frozen)
            drawn = jax.lax.map(lambda sheet: draw(params, sheet, own, temperature), known.sheets)
            completions, scores = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), drawn)
            reward = scores.reward
        weighed = weigh(
            completions, whole.groups, whole.trunk.target, reward, scores, whole.expert_length, state.step, numbers
        )
        grads, metrics = _summed(lambda rows: gradient(
            state.params, fill(rows, whole.trunk, completions, weighed.weights, whole.groups.group), numbers, *frozen
        ), known.rows)  # fmt: skip
        moved, more = apply(state, grads, metrics["loss"])
        anything = jnp.any(weighed.flags & CARRIES != 0) | jnp.any(weighed.trunk_used)
        still = replace(state, step=state.step + 1)  # nothing carried weight: a step that moves nothing
        moved = jax.tree.map(lambda new, old: jnp.where(anything, new, old), moved, still)
        taken = Taken(
            metrics=metrics | more | {"update/skipped": moved.skipped, "step/moved": anything}, means=weighed.means,
            length=completions.length, flags=weighed.flags, token=completions.token, scores=scores,
            first_advantage=weighed.first_advantage,
        )  # fmt: skip
        return moved, taken

    return step


def _summed(one: Callable[[Any], Any], parts: Any) -> Any:
    """The sum of `one` over the leading axis, in its order."""
    first = one(jax.tree.map(lambda x: x[0], parts))
    rest = jax.tree.map(lambda x: x[1:], parts)
    if not jax.tree.leaves(rest)[0].shape[0]:
        return first
    return jax.lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, one(part)), None), first, rest)[0]


def scan_steps(step):
    """Returns steps(state, known, key, temperature, numbers, *frozen): one program over the leading axis of `known`."""

    def steps(state: TrainState, known: Known, *rest: Any) -> tuple[TrainState, Taken]:
        return jax.lax.scan(lambda state, one: step(state, one, *rest), state, known)

    return steps
