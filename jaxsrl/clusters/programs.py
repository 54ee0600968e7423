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
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsrl.clusters.compile import Wanted, device_bytes
from jaxsrl.clusters.shapes import StageShapes, evaluation_call
from jaxsrl.collect.device import make_draw, make_weigh
from jaxsrl.config.run import Config, Stage
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.lora import frozen, with_adapters
from jaxsrl.models.transformer import init_params, rollout_copy
from jaxsrl.objectives.numbers import as_arrays, numbers_of
from jaxsrl.policy import Compiled, Placement, make_policy, trained_shapes
from jaxsrl.rewards.similarity import DEFAULT_WHERE, ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import AXES, RULES, arrange, make_reshard, relayout, spec, state_sharding
from jaxsrl.stages.functions import make_learner
from jaxsrl.stages.material import Material
from jaxsrl.types import Completions, Groups, Objective, Prompts, Scores, Segments, Sheet, TokenBytes, Trunk
from jaxsrl.update import init_state, learning_rate, make_apply, optimizer

# As the plan names them. A reward on the device is part of the program that samples.
PHASES = ("reshard", "sample", "weigh", "fill", "score", "gradient", "update", "evaluation")
BYTES_A_TOKEN = 6  # of UTF-8, in the table of what tokens spell


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A stage on its devices, before a program is made of it."""

    config: Config
    stage: Stage
    shapes: StageShapes
    mesh: Mesh
    there: Mesh  # the sampler's
    moves: bool

    @property
    def model(self) -> ModelConfig:
        return self.config.model


def place(config: Config, stage: Stage, shapes: StageShapes, devices: list[jax.Device]) -> Placed:
    """Lays a stage out on devices, of which one is a mesh too, for it names the platform.

    Raises: ValueError if the mesh does not take them all, with the settings that would.
    """
    layout = config.mesh
    if layout.size != len(devices):
        raise ValueError(
            f"these are {len(devices)} devices and the config's mesh takes {layout.size}: --set mesh.fsdp="
            f"{len(devices)}, or cut it otherwise with mesh.data, mesh.tensor and mesh.dcn"
        )
    mesh = Mesh(arrange(layout, devices), AXES)
    objective = on_platform(stage.objective, devices[0].platform)
    moves = config.layout_to_sample != layout
    return Placed(
        config=config, stage=replace(stage, objective=objective), shapes=shapes, mesh=mesh,
        there=relayout(mesh, config.layout_to_sample), moves=moves,
    )  # fmt: skip


def on_platform(objective: Objective, platform: str) -> Objective:
    """The objective with a reward that is computed where it would be on that platform.

    On the device it is compiled with the backend `xla`, as the Pallas kernels refuse where their device is not there.
    """
    platform = "gpu" if platform == "cuda" else platform
    sampled = vars(objective).get("reward")
    if not isinstance(sampled, ActionSimilarity) or sampled.where is not None or DEFAULT_WHERE[platform] == "host":
        return objective
    try:
        there = replace(sampled, where="device", backend="xla")
    except ValueError:  # compares in a way that only the host can
        return objective
    return replace(objective, reward=there)


def programs(placed: Placed) -> Iterator[Wanted]:
    """The programs of a stage's optimizer step and of its evaluation, in the order in which they run."""
    stage, shapes = placed.stage, placed.shapes
    held = _held(placed)
    learner, sampled, wanted = held.learner, bool(shapes.of.jobs and shapes.sheets), partial(Wanted, stage=stage.name)
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
    whole = _step_shapes(placed)
    if sampled:
        beside = always | ({"parameters": params} if held.copy_run is not None else {})
        yield _sample(placed, held, beside)
        yield _weigh(placed, held, whole, always | base | {"parameters": params})
    completions, weights = whole.completions, whole.weights
    step = {"completions": device_bytes((completions, weights))}
    segments = _placed(whole.segments, NamedSharding(placed.mesh, PartitionSpec(RULES["rows"])))
    filling = (segments, whole.trunk, completions, weights, whole.groups.group)
    batch = jax.eval_shape(learner.fill, *filling)
    batch = _placed(batch, NamedSharding(placed.mesh, PartitionSpec(RULES["rows"])))
    batches = shapes.batches
    yield wanted(
        phase="fill", run=learner.fill, times=batches,
        args=(("batch", segments), ("batch", whole.trunk), ("completions", completions), ("completions", weights),
              ("completions", whole.groups.group)),
        buffers={"batch": device_bytes(batch)}, beside=always | base | {"parameters": params},
    )  # fmt: skip
    scoring = learner.needs.reference + learner.needs.reference_to_weigh + (stage.behavior_logp == "recompute")
    others = {"batches": device_bytes(batch) * max(batches - 1, 0)}
    if scoring:
        given = (("parameters", held.whole), ("batch", batch))
        yield wanted(
            phase="score", run=learner.score, args=given, times=batches * scoring, beside=always | step | others
        )
    if learner.needs.reference:
        batch = replace(batch, ref_logp=batch.behavior_logp)
    numbers = jax.tree.map(lambda x: jax.ShapeDtypeStruct((), x.dtype), as_arrays(numbers_of(stage.objective)))
    given = [("parameters", held.state.params), ("batch", batch), ("batch", numbers)]
    given += [("base", held.base)] if held.base is not None else []
    summed = {"gradient": params} if batches > 1 else {}
    yield wanted(
        phase="gradient", run=learner.gradient, args=tuple(given), times=batches * stage.updates_per_rollout,
        buffers={"gradient": params}, beside=always | step | others | {"summed gradients": summed.get("gradient", 0)},
    )  # fmt: skip
    apply = make_apply(optimizer(stage.optimizer), learning_rate(stage.optimizer, stage.steps))
    opened = [("optimizer" if part == "opt_state" else "parameters", x) for part, x in vars(held.state).items()]
    yield wanted(
        phase="update", run=_Opened(apply, held.state), times=stage.updates_per_rollout * stage.minibatches,
        args=(*opened, ("gradient", held.state.params)), beside={"reference": held.reference_bytes} | base,
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
        return self.run.lower(replace(self.state, **dict(zip(vars(self.state), args[:-1], strict=True))), args[-1])


def _held(placed: Placed) -> _Held:
    config, stage, model, mesh, there = placed.config, placed.stage, placed.model, placed.mesh, placed.there
    at = lambda mesh, tree: _placed(tree, state_sharding(mesh, tree))
    state = jax.eval_shape(lambda: init_state(_zeros(trained_shapes(model, config.lora)), optimizer(stage.optimizer),
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
        model=model, tokenizer=None, token_bytes=_token_bytes(model.vocab), placement=policy.placement,
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
    reward, tokens = stage.objective.device_reward, _token_bytes(placed.model.vocab)
    draw = make_draw(held.policy.sampler(stage.sampling), reward, tokens, shapes.rooms if reward else None, there)
    sheet = _sheet(placed)
    rows, slots, cap = shapes.of.prompt_rows, shapes.of.slots, stage.sampling.max_new_tokens
    return Wanted(
        stage=stage.name, phase="sample",
        run=jax.jit(draw, out_shardings=NamedSharding(there, PartitionSpec())),
        args=(("sampler's parameters", held.sampled), ("prompts", sheet), ("prompts", _key(there)),
              ("prompts", jax.ShapeDtypeStruct((), jnp.float32))),
        buffers=sampler_buffers(placed, rows, shapes.of.prompt_tokens, slots, cap),
        beside=beside, turns=cap - 1, times=shapes.sheets * shapes.rounds,
    )  # fmt: skip


def sampler_buffers(placed: Placed, rows: int, tokens: int, slots: int, cap: int) -> dict[str, int]:
    """Part -> bytes on a device: keys and values of prompts and of slots, and completions as they grow."""
    c, there = placed.model, placed.there
    size = jnp.dtype(c.dtype).itemsize
    cut = lambda shape, *axes: NamedSharding(there, spec(there, shape, axes)).shard_shape(shape)
    prompt = cut((c.layers, rows, c.kv_heads, tokens, c.head_width), None, "rows", "heads", None, None)
    own = cut((c.layers, rows, c.kv_heads, slots, cap, c.head_width), None, "rows", "heads", None, None, None)
    written = cut((rows, slots, cap), "rows", None, None)
    return {
        "prompt cache": 2 * size * math.prod(prompt), "slots' cache": 2 * size * math.prod(own),
        "completions": 8 * math.prod(written),
    }  # fmt: skip


def _evaluation(placed: Placed, held: _Held, beside: dict[str, int]) -> Iterator[Wanted]:
    """The largest call of the evaluation: of all modes, that which holds most."""
    stage, shapes, there = placed.stage, placed.shapes, placed.there
    rows, tokens, call = shapes.evaluate_rows, shapes.of.prompt_tokens, evaluation_call(stage, shapes)
    if call is None:
        return
    slots, cap = call
    yield Wanted(
        stage=stage.name, phase="evaluation", run=held.policy.sampler(Sampling(max_new_tokens=cap)),
        args=(("sampler's parameters", held.sampled), ("prompts", _prompts(there, rows, tokens, slots)),
              ("prompts", _key(there)), ("prompts", jax.ShapeDtypeStruct((), jnp.float32))),
        buffers=sampler_buffers(placed, rows, tokens, slots, cap), beside=beside, turns=cap - 1,
        times=math.ceil(stage.validate.problems / rows),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _StepShapes:
    groups: Groups
    trunk: Trunk
    expert_length: Any
    completions: Completions
    weights: Any
    segments: Segments


def _step_shapes(placed: Placed) -> _StepShapes:
    """Of a whole optimizer step, whole on every device but for its rows."""
    stage, shapes, mesh = placed.stage, placed.shapes, placed.mesh
    of, sheets = shapes.of, shapes.sheets * shapes.rounds
    everywhere = NamedSharding(mesh, PartitionSpec())
    jobs, cap = of.jobs * sheets, stage.sampling.max_new_tokens
    groups = _placed(_groups(of.groups * sheets, of.group_size, jobs), everywhere)
    array = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype, sharding=everywhere)
    trunk = Trunk(
        token=array(jnp.int32, of.trunk_tokens * shapes.rounds),
        target=array(jnp.bool_, of.demonstrations * shapes.rounds, of.targets),
    )
    completions = Completions(
        token=array(jnp.int32, jobs, cap), logp=array(jnp.float32, jobs, cap), length=array(jnp.int32, jobs)
    )
    known = _StepShapes(
        groups=groups, trunk=trunk, expert_length=array(jnp.int32, of.groups * sheets), completions=completions,
        weights=None, segments=None,
    )  # fmt: skip
    run, given = _weigh_call(placed, known)
    weights = _placed(jax.eval_shape(run, *given).weights, everywhere)
    runs = {name: jax.ShapeDtypeStruct((max(of.rows), of.runs), jnp.int32) for name in Segments.__dataclass_fields__}
    return replace(known, weights=weights, segments=Segments(**runs))


def _weigh_call(placed: Placed, known: _StepShapes):
    stage, mesh = placed.stage, placed.mesh
    objective = stage.objective
    everywhere = NamedSharding(mesh, PartitionSpec())
    reward = objective.device_reward
    numbers = _placed(jax.eval_shape(lambda: as_arrays(numbers_of(objective))), everywhere)
    jobs = known.completions.length
    one = jax.ShapeDtypeStruct(jobs.shape, jnp.float32, sharding=everywhere)
    run = make_weigh(objective, (0,), stage.collect.prompts, reward, unfit_on_host=not stage.device_steps)
    scores = None
    if reward is not None:
        scores = _scores(one)
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


def _weigh(placed: Placed, held: _Held, whole: _StepShapes, beside: dict[str, int]) -> Wanted:
    run, given = _weigh_call(placed, whole)
    everywhere = NamedSharding(placed.mesh, PartitionSpec())
    return Wanted(
        stage=placed.stage.name, phase="weigh", run=jax.jit(run, out_shardings=everywhere),
        args=tuple(("completions", x) for x in given),
        buffers={"completions": device_bytes(whole.weights)}, beside=beside, times=placed.shapes.rounds,
    )  # fmt: skip


def _sheet(placed: Placed) -> Sheet:
    of, there = placed.shapes.of, placed.there
    everywhere = NamedSharding(there, PartitionSpec())
    rest = (_groups(of.groups, of.group_size, of.jobs), jax.ShapeDtypeStruct((of.groups, of.code_points), jnp.int32),
            jax.ShapeDtypeStruct((of.groups,), jnp.int32))  # fmt: skip
    groups, expert, length = _placed(rest, everywhere)
    prompts = _prompts(there, of.prompt_rows, of.prompt_tokens, of.slots)
    return Sheet(prompts=prompts, groups=groups, expert=expert, expert_length=length)


def _groups(count: int, size: int, jobs: int) -> Groups:
    of = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype)
    return Groups(
        member=of(jnp.int32, count, size), present=of(jnp.bool_, count, size), demonstration=of(jnp.int32, count),
        hash=of(jnp.uint32, count), group=of(jnp.int32, jobs), column=of(jnp.int32, jobs), active=of(jnp.bool_, jobs),
    )  # fmt: skip


def _prompts(mesh: Mesh, rows: int, tokens: int, slots: int) -> Prompts:
    ids = jax.ShapeDtypeStruct((rows, tokens), jnp.int32)
    slot = lambda dtype, *more: jax.ShapeDtypeStruct((rows, slots, *more), dtype)
    prompts = Prompts(
        token=ids, position=ids, enter=ids, leave=ids, slot_parent=slot(jnp.int32), slot_enter=slot(jnp.int32),
        slot_active=slot(jnp.bool_), slot_address=slot(jnp.uint32, 6),
    )  # fmt: skip
    return _placed(prompts, NamedSharding(mesh, PartitionSpec(RULES["rows"])))


def _key(mesh: Mesh):
    return _placed(jax.eval_shape(lambda: jax.random.key(0)), NamedSharding(mesh, PartitionSpec()))


def _token_bytes(vocab: int) -> TokenBytes:
    """Of a tokenizer that is not read: as large as a real one's."""
    start = np.arange(vocab + 1, dtype=np.int32) * BYTES_A_TOKEN
    return TokenBytes(spelled=np.zeros(vocab * BYTES_A_TOKEN, np.uint8), start=start, ends=(0,))


def _zeros(shapes: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _placed(tree: Any, sharding: Any) -> Any:
    """Shapes, with where they lie: one sharding for all, or one for each."""
    if not isinstance(sharding, NamedSharding):
        return jax.tree.map(_placed, tree, sharding)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
