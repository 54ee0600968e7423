"""The programs of a stage, made by the functions that a run makes them with, and the shapes that they are called with.

No data is read: shapes are those that the config fixes, or that the run's folder has saved.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxsrl.clusters.arrays import (
    StepShapes,
    key_shape,
    laid,
    prompt_shapes,
    sheet_shapes,
    step_shapes,
    token_bytes_of,
    weigh_call,
    zeros,
)  # fmt: skip
from jaxsrl.clusters.compile import Wanted, device_bytes
from jaxsrl.clusters.placed import Placed
from jaxsrl.clusters.queueing import Queued, queued
from jaxsrl.clusters.shapes import evaluation_call
from jaxsrl.collect.device import make_draw
from jaxsrl.models.lora import frozen, with_adapters
from jaxsrl.models.transformer import init_params, rollout_copy
from jaxsrl.objectives.numbers import as_arrays, numbers_of
from jaxsrl.policy import Compiled, Placement, make_policy, trained_shapes
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import RULES, make_reshard, spec, state_sharding
from jaxsrl.stages.functions import make_learner, stage_sampler
from jaxsrl.stages.material import Material
from jaxsrl.update import init_state, make_update, optimizer

# As the plan names them. A reward on the device is part of the program that samples.
PHASES = ("reshard", "sample", "weigh", "fill", "score", "gradient", "update", "evaluation")


def programs(placed: Placed) -> Iterator[Wanted]:
    """The programs of a stage's optimizer step and of its evaluation, in the order in which they run."""
    stage, shapes = placed.stage, placed.shapes
    held = _held(placed)
    learner, sampled, wanted = (
        held.learner,
        bool(shapes.of.jobs and shapes.sheets),
        partial(Wanted, stage=stage.name, mesh=placed.mesh),
    )
    state = device_bytes(held.state.opt_state)
    params = device_bytes(held.state.params)
    base = {"base": device_bytes(held.base)} if held.base is not None else {}
    always = {"optimizer": state, "reference": held.reference_bytes}
    if held.copy_run is not None:
        given, without = held.whole, {}
        if not placed.moves and held.base is not None:
            given, without = held.whole["layers"]["adapters"], {"base": device_bytes(held.base)}
        yield wanted(
            phase="reshard", run=held.copy_run, args=(("parameters", given),), beside=always | without,
            buffers={"sampler's copy": held.copy_bytes},
        )  # fmt: skip
    again = {"replayed state": params + state} if placed.config.survive.replay_every else {}
    whole = step_shapes(placed)
    if sampled:
        beside = always | ({"parameters": params} if held.copy_run is not None else {})
        yield _sample(placed, held, beside)
        yield _weigh(placed, held, whole, always | base | {"parameters": params})
    completions, weights = whole.completions, whole.weights
    step = {"completions": device_bytes((completions, weights))}
    segments = laid(whole.segments, NamedSharding(placed.mesh, PartitionSpec(RULES["rows"])))
    filling = (segments, whole.trunk, completions, weights, whole.groups.group)
    batch = jax.eval_shape(learner.fill, *filling)
    batch = laid(batch, NamedSharding(placed.mesh, PartitionSpec(RULES["rows"])))
    batches = shapes.batches
    yield wanted(
        phase="fill", run=learner.fill, times=batches,
        args=(("batch", segments), ("batch", whole.trunk), ("completions", completions), ("completions", weights),
              ("completions", whole.groups.group)),
        buffers={"batch": device_bytes(batch)}, beside=always | base | again | {"parameters": params},
    )  # fmt: skip
    scoring = learner.needs.reference + learner.needs.reference_to_weigh + (stage.behavior_logp == "recompute")
    others = {"batches": device_bytes(batch) * max(batches - 1, 0)}
    if scoring:
        given = (("parameters", held.whole), ("batch", batch))
        yield wanted(
            phase="score", run=learner.score, args=given, times=batches * scoring,
            beside=always | again | step | others,
        )  # fmt: skip
    if learner.needs.reference:
        batch = replace(batch, ref_logp=batch.behavior_logp)
    numbers = jax.tree.map(lambda x: jax.ShapeDtypeStruct((), x.dtype), as_arrays(numbers_of(stage.objective)))
    given = [("parameters", held.state.params), ("batch", batch), ("batch", numbers)]
    given += [("base", held.base)] if held.base is not None else []
    summed = {"gradient": params} if batches > 1 else {}
    yield wanted(
        phase="gradient", run=learner.gradient, args=tuple(given), times=batches * stage.updates_per_rollout,
        buffers={"gradient": params},
        beside=always | again | step | others | {"summed gradients": summed.get("gradient", 0)},
    )  # fmt: skip
    update = make_update(optimizer(stage.optimizer))
    opened = [("optimizer" if part == "opt_state" else "parameters", x) for part, x in vars(held.state).items()]
    yield wanted(
        phase="update", run=_Opened(update, held.state), times=stage.updates_per_rollout * stage.minibatches,
        args=(*opened, ("gradient", held.state.params)), beside={"reference": held.reference_bytes} | base | again,
    )  # fmt: skip
    yield from _evaluation(placed, held, always | ({"parameters": params} if held.copy_run is not None else {}))


@dataclass(frozen=True, kw_only=True)
class _Held:
    """Parameters and functions of a stage, as shapes with where they lie."""

    state: Any
    base: Any
    whole: Any  # the model's parameters where the learner has them
    sampled: Any  # where the sampler has them
    copy_run: Any  # what brings them there; None where nothing has to
    copy_bytes: int  # of what is no copy of an argument
    learner: Any
    policy: Any
    reference_bytes: int


@dataclass(frozen=True)
class _Opened:
    """A function of a state, lowered from the state's fields: each is a part of memory of its own."""

    run: Any
    state: Any

    def lower(self, *args):
        state = replace(self.state, **dict(zip(vars(self.state), args[:-1], strict=True)))
        return self.run.lower(state, args[-1], None, jax.ShapeDtypeStruct((), jnp.float32))


def _held(placed: Placed) -> _Held:
    config, stage, model, mesh, there = placed.config, placed.stage, placed.model, placed.mesh, placed.there
    at = lambda mesh, tree: laid(tree, state_sharding(mesh, tree))
    state = jax.eval_shape(lambda: init_state(zeros(trained_shapes(model, config.lora)), optimizer(stage.optimizer),
                                              jax.random.key(0)))  # fmt: skip
    state = at(mesh, state)
    base, whole = None, state.params
    if config.lora is not None:
        made = jax.eval_shape(lambda: frozen(model, init_params(model, jax.random.key(0))))
        base = at(mesh, made)
        whole = at(mesh, jax.eval_shape(partial(with_adapters, config.lora), base, state.params))
    run = None
    if placed.moves:
        run = make_reshard(mesh, there, model.dtype)
    elif model.dtype == "bfloat16":
        run = jax.jit(partial(rollout_copy, model))
    sampled = whole if run is None else at(there, jax.eval_shape(run, whole))
    same = lambda a, b: a.dtype == b.dtype and not placed.moves
    made = jax.tree.map(lambda a, b: 0 if same(a, b) else device_bytes(b), whole, sampled)
    if not placed.moves and not sum(jax.tree.leaves(made)):
        run = None
    policy = make_policy(
        model, None, base, config.lora, Placement(mesh=mesh, sampler_mesh=there, moves=placed.moves), (0,), Compiled(),
    )  # fmt: skip
    material = Material(
        model=model, tokenizer=None, token_bytes=token_bytes_of(model.vocab), placement=policy.placement,
        compiled=policy.compiled,
    )  # fmt: skip
    kept = stage.has_reference and stage.reference_on == "device"
    return _Held(
        state=state, base=base, whole=whole, sampled=sampled, copy_run=run, copy_bytes=sum(jax.tree.leaves(made)),
        learner=make_learner(config, stage, material, policy, placed.shapes.of), policy=policy,
        reference_bytes=device_bytes(state.params) if kept else 0,
    )  # fmt: skip


def _sample(placed: Placed, held: _Held, beside: dict[str, int]) -> Wanted:
    """A call of the sampler, with the reward where it is on the device."""
    stage, shapes, there = placed.stage, placed.shapes, placed.there
    reward, tokens = stage.objective.device_reward, token_bytes_of(placed.model.vocab)
    sampler = stage_sampler(placed.config, stage, held.policy)
    draw = make_draw(sampler, reward, tokens, shapes.rooms if reward else None, there)
    sheet = sheet_shapes(placed)
    rows, asked = shapes.of.prompt_rows, (stage.rows or placed.config.rows).at_once
    queue = queued(
        placed.config, rows=rows, tokens=shapes.of.prompt_tokens, jobs=shapes.of.slots,
        cap=stage.sampling.max_new_tokens, at_once=asked,
    )  # fmt: skip
    return Wanted(
        stage=stage.name, phase="sample", mesh=there,
        run=jax.jit(draw, out_shardings=NamedSharding(there, PartitionSpec())),
        args=(("sampler's parameters", held.sampled), ("prompts", sheet), ("prompts", key_shape(there)),
              ("prompts", jax.ShapeDtypeStruct((), jnp.float32))),
        buffers=sampler_buffers(placed, rows, shapes.of.prompt_tokens, queue),
        beside=beside, turns=queue.turns, times=shapes.sheets * shapes.rounds,
    )  # fmt: skip


def sampler_buffers(placed: Placed, rows: int, tokens: int, queue: Queued) -> dict[str, int]:
    """Part -> bytes on a device: keys and values of prompts and of slots, and completions as they grow."""
    c, there = placed.model, placed.there
    size = jnp.dtype(c.dtype).itemsize
    cut = lambda shape, *axes: NamedSharding(there, spec(there, shape, axes)).shard_shape(shape)
    prompt = cut((c.layers, rows, c.kv_heads, tokens, c.head_width), None, "rows", "heads", None, None)
    own = cut((c.layers, rows, c.kv_heads, queue.columns, c.head_width), None, "rows", "heads", None, None)
    written = cut((rows, queue.written), "rows", None)
    return {
        "prompt cache": 2 * size * math.prod(prompt), "slots' cache": 2 * size * math.prod(own),
        "completions": 8 * math.prod(written),
    }  # fmt: skip


def _evaluation(placed: Placed, held: _Held, beside: dict[str, int]) -> Iterator[Wanted]:
    """The largest call of the evaluation: of all modes, that which holds most."""
    stage, shapes, there = placed.stage, placed.shapes, placed.there
    rows, call = shapes.evaluate_rows, evaluation_call(stage, shapes)
    if call is None:
        return
    queue = queued(placed.config, rows=rows, tokens=call.tokens, jobs=call.jobs, cap=call.cap)
    yield Wanted(
        stage=stage.name, phase="evaluation", mesh=there, run=held.policy.sampler(Sampling(max_new_tokens=call.cap)),
        args=(("sampler's parameters", held.sampled), ("prompts", prompt_shapes(there, rows, call.tokens, call.jobs)),
              ("prompts", key_shape(there)), ("prompts", jax.ShapeDtypeStruct((), jnp.float32))),
        buffers=sampler_buffers(placed, rows, call.tokens, queue), beside=beside, turns=queue.turns,
        times=math.ceil(stage.validate.problems / rows),
    )  # fmt: skip


def _weigh(placed: Placed, held: _Held, whole: StepShapes, beside: dict[str, int]) -> Wanted:
    run, given = weigh_call(placed, whole)
    everywhere = NamedSharding(placed.mesh, PartitionSpec())
    return Wanted(
        stage=placed.stage.name, phase="weigh", mesh=placed.mesh, run=jax.jit(run, out_shardings=everywhere),
        args=tuple(("completions", x) for x in given),
        buffers={"completions": device_bytes(whole.weights)}, beside=beside, times=placed.shapes.rounds,
    )  # fmt: skip
