"""Shapes of the arrays that a stage's programs are called with, and where they lie."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsrl.clusters.placed import Placed
from jaxsrl.collect.device import make_weigh
from jaxsrl.objectives.numbers import as_arrays, numbers_of
from jaxsrl.sharding import RULES
from jaxsrl.types import Completions, Groups, Prompts, Scores, Segments, Sheet, TokenBytes, Trunk

BYTES_A_TOKEN = 6  # of UTF-8, in the table of what tokens spell


@dataclass(frozen=True, kw_only=True)
class StepShapes:
    groups: Groups
    trunk: Trunk
    expert_length: Any
    completions: Completions
    weights: Any
    segments: Segments


def step_shapes(placed: Placed) -> StepShapes:
    """Of a whole optimizer step, whole on every device but for its rows."""
    stage, shapes, mesh = placed.stage, placed.shapes, placed.mesh
    of, sheets = shapes.of, shapes.sheets * shapes.rounds
    everywhere = NamedSharding(mesh, PartitionSpec())
    jobs, cap = of.jobs * sheets, stage.sampling.max_new_tokens
    groups = laid(_groups(of.groups * sheets, of.group_size, jobs), everywhere)
    array = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype, sharding=everywhere)
    trunk = Trunk(
        token=array(jnp.int32, of.trunk_tokens * shapes.rounds),
        target=array(jnp.bool_, of.demonstrations * shapes.rounds, of.targets),
    )
    completions = Completions(
        token=array(jnp.int32, jobs, cap), logp=array(jnp.float32, jobs, cap), length=array(jnp.int32, jobs)
    )
    known = StepShapes(
        groups=groups, trunk=trunk, expert_length=array(jnp.int32, of.groups * sheets), completions=completions,
        weights=None, segments=None,
    )  # fmt: skip
    run, given = weigh_call(placed, known)
    weights = laid(jax.eval_shape(run, *given).weights, everywhere)
    runs = {name: jax.ShapeDtypeStruct((max(of.rows), of.runs), jnp.int32) for name in Segments.__dataclass_fields__}
    return replace(known, weights=weights, segments=Segments(**runs))


def weigh_call(placed: Placed, known: StepShapes) -> tuple[Any, tuple[Any, ...]]:
    """What weighs a whole step, not jitted, and the shapes that it is called with."""
    stage, mesh = placed.stage, placed.mesh
    objective = stage.objective
    everywhere = NamedSharding(mesh, PartitionSpec())
    reward = objective.device_reward
    numbers = laid(jax.eval_shape(lambda: as_arrays(numbers_of(objective))), everywhere)
    jobs = known.completions.length
    one = jax.ShapeDtypeStruct(jobs.shape, jnp.float32, sharding=everywhere)
    run = make_weigh(objective, (0,), stage.collect.prompts, reward, unfit_on_host=not stage.device_steps)
    scores = None if reward is None else _scores(one)
    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    ref = known.completions.logp if objective.needs.reference_to_weigh else None
    return run, (
        known.completions,
        known.groups,
        known.trunk.target,
        one,
        scores,
        known.expert_length,
        step,
        numbers,
        ref,
    )


def _scores(one) -> Scores:
    of = lambda dtype: jax.ShapeDtypeStruct(one.shape, dtype, sharding=one.sharding)
    return Scores(
        reward=one, matched=of(jnp.int32), total=of(jnp.int32), formed=of(jnp.bool_), fits=of(jnp.bool_)
    )  # fmt: skip


def sheet_shapes(placed: Placed) -> Sheet:
    """Of a call of the sampler: prompts by rows, all else whole."""
    of, there = placed.shapes.of, placed.there
    everywhere = NamedSharding(there, PartitionSpec())
    rest = (_groups(of.groups, of.group_size, of.jobs), jax.ShapeDtypeStruct((of.groups, of.code_points), jnp.int32),
            jax.ShapeDtypeStruct((of.groups,), jnp.int32))  # fmt: skip
    groups, expert, length = laid(rest, everywhere)
    prompts = prompt_shapes(there, of.prompt_rows, of.prompt_tokens, of.slots)
    return Sheet(prompts=prompts, groups=groups, expert=expert, expert_length=length)


def _groups(count: int, size: int, jobs: int) -> Groups:
    of = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype)
    return Groups(
        member=of(jnp.int32, count, size), present=of(jnp.bool_, count, size), demonstration=of(jnp.int32, count),
        hash=of(jnp.uint32, count), group=of(jnp.int32, jobs), column=of(jnp.int32, jobs), active=of(jnp.bool_, jobs),
    )  # fmt: skip


def prompt_shapes(mesh: Mesh, rows: int, tokens: int, slots: int) -> Prompts:
    return laid(prompts_of(rows, tokens, slots), NamedSharding(mesh, PartitionSpec(RULES["rows"])))


def prompts_of(rows: int, tokens: int, slots: int) -> Prompts:
    """Shapes of a call's prompts, wherever they lie."""
    ids = jax.ShapeDtypeStruct((rows, tokens), jnp.int32)
    slot = lambda dtype, *more: jax.ShapeDtypeStruct((rows, slots, *more), dtype)
    return Prompts(
        token=ids, position=ids, enter=ids, leave=ids, slot_parent=slot(jnp.int32), slot_enter=slot(jnp.int32),
        slot_active=slot(jnp.bool_), slot_address=slot(jnp.uint32, 6),
    )  # fmt: skip


def key_shape(mesh: Mesh):
    return laid(jax.eval_shape(lambda: jax.random.key(0)), NamedSharding(mesh, PartitionSpec()))


def token_bytes_of(vocab: int) -> TokenBytes:
    """Of a tokenizer that is not read: as large as a real one's."""
    start = np.arange(vocab + 1, dtype=np.int32) * BYTES_A_TOKEN
    return TokenBytes(spelled=np.zeros(vocab * BYTES_A_TOKEN, np.uint8), start=start, ends=(0,))


def zeros(shapes: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def laid(tree: Any, sharding: Any) -> Any:
    """Shapes, with where they lie: one sharding for all, or one for each."""
    if not isinstance(sharding, NamedSharding):
        return jax.tree.map(laid, tree, sharding)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
