"""A run's programs compiled for TPUs that are not there: do they fit, and what do they send between devices.

Only shapes go in. libtpu's compiler is the judge of memory; what else of the run lies in memory while a program runs
is added here.
"""

import importlib.util
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsrl.clusters.collectives import Collective, collectives
from jaxsrl.collect import BatchShapes
from jaxsrl.models.config import ModelConfig, parameter_count
from jaxsrl.models.transformer import init_params
from jaxsrl.objectives.numbers import numbers_of
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import AXES, RULES, MeshShape, arrange, make_reshard, relayout, state_sharding
from jaxsrl.types import Batch, Objective, Prompts
from jaxsrl.update import (
    AdamW,
    init_state,
    learning_rate,
    make_apply,
    make_gradient,
    make_loss,
    optimizer,
)

# What libtpu's compiler gives a program on one device, in GiB (asked of libtpu 0.0.42.1 with a program too large).
HBM = {"TPU v5 lite": 15.75, "TPU v5": 95.74, "TPU v6 lite": 31.25, "TPU7x": 94.75}
GIB = 2**30
# libtpu's own effort levels: `quick` compiles several times as fast, and its memory may differ by a GiB or two.
EFFORT = {"quick": 9, "full": 29}


class DoesNotFit(ValueError):
    """A program needs more memory than a device has; the message says how much, and what to change."""


@dataclass(frozen=True, kw_only=True)
class Slices:
    """TPU devices by name.

    Args:
      topology: of one slice: `v5e:4x4`, `v5p:2x2x2`.
      count: slices, joined by the data-centre network.
    """

    topology: str
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Program:
    """What the compiler says of one program, per device.

    Args:
      peak_bytes: the most it holds at once, arguments and results included; all it would need where it was refused.
      argument_bytes, temp_bytes: of its inputs, and of what it makes on the way.
      resident_bytes: of arrays of the run that lie in memory beside it: while gradients are computed, the optimizer's,
        and a frozen reference.
      refused: the compiler's words where it found no way to fit the program, which then has no collectives.
    """

    name: Literal["gradient", "apply", "reshard", "sample"]
    peak_bytes: int
    argument_bytes: int
    temp_bytes: int
    resident_bytes: int
    collectives: tuple[Collective, ...] = ()
    refused: str = ""

    @property
    def needed_bytes(self) -> int:
        return self.peak_bytes + self.resident_bytes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Whether a run fits its devices. `programs` is empty where the state alone does not."""

    device: str
    hbm_bytes: int
    state_bytes: int
    programs: tuple[Program, ...]
    advice: str

    @property
    def needed_bytes(self) -> int:
        return max([self.state_bytes, *(p.needed_bytes for p in self.programs)])

    @property
    def missing_bytes(self) -> int:
        return max(0, self.needed_bytes - self.hbm_bytes)

    def check(self) -> None:
        """Raises: DoesNotFit, naming the program that needs the most, the GiB that are missing, and what to change."""
        if not self.missing_bytes:
            return
        worst = max(self.programs, key=lambda p: p.needed_bytes, default=None)
        what = "parameters, gradients and optimizer state need" if worst is None else f"program {worst.name!r} needs"
        raise DoesNotFit(
            f"{what} {self.needed_bytes / GIB:.2f} GiB on each {self.device}, which has "
            f"{self.hbm_bytes / GIB:.2f}: {self.missing_bytes / GIB:.2f} GiB are missing; {self.advice}"
        )


def plan(
    model: ModelConfig, layout: MeshShape, slices: Slices, objective: Objective, *, rows: BatchShapes,
    sampling: Sampling, settings: AdamW, sampler_layout: MeshShape | None = None, batches: int = 1,
    effort: Literal["quick", "full"] = "full",
) -> Plan:  # fmt: skip
    """Compiles the learner step (gradient of a batch, update) and the sampler of a run, from shapes.

    Args:
      sampler_layout: of the same devices, where parameters are sent to be sampled from; None is `layout`.
      batches: of one optimizer step; with more than one, gradients add up in memory.
      effort: of the compiler.
    Raises: ValueError if the layout does not fit the devices or they are unknown; nothing where memory is short, which
      `Plan.check` raises.
    """
    devices = _devices(slices)
    for each in (layout, sampler_layout or layout):
        _check_use(each, slices, devices)
    # A mesh of one device too, for it names the platform.
    mesh, device = Mesh(arrange(layout, devices), AXES), devices[0].device_kind
    if device not in HBM:
        raise ValueError(f"the memory of a {device!r} is not in aot_plan.HBM; there are: {', '.join(HBM)}")
    tx, temperature = optimizer(settings), jax.ShapeDtypeStruct((), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda key: init_state(init_params(model, key), tx, key), key)
    state = _placed(state, state_sharding(mesh, state))
    params, whole = _bytes(state.params), _bytes(state)
    reference = params if objective.needs.reference or objective.needs.reference_to_weigh else 0
    beside = whole - params + reference  # what a program that reads the parameters does not see
    hbm, smallest = int(HBM[device] * GIB), whole + params + reference
    result = lambda programs: Plan(
        device=device, hbm_bytes=hbm, state_bytes=smallest, programs=programs,
        advice=_advice(model, layout, rows, smallest, hbm),
    )  # fmt: skip
    if smallest > hbm:
        return result(())
    loss = make_loss(model, objective, sampling.temperature, mesh)
    numbers = jax.tree.map(lambda _: temperature, numbers_of(objective))  # scalars like it
    summed = params if batches > 1 else 0
    compiled = lambda *args: _compiled(*args, mesh=mesh, effort=effort, turns=sampling.max_new_tokens)
    programs = [
        compiled("gradient", make_gradient(loss, mesh), (state.params, _batch(mesh, rows), numbers), beside + summed),
        compiled("apply", make_apply(tx, learning_rate(settings, 1)), (state, state.params), reference),
    ]
    sampled, there, resident = state.params, mesh, beside
    if sampler_layout is not None:
        there, resident = relayout(mesh, sampler_layout), beside + params
        reshard = make_reshard(mesh, there, model.dtype)
        programs.append(compiled("reshard", reshard, (state.params,), beside))
        sampled = jax.eval_shape(reshard, state.params)
        sampled = _placed(sampled, state_sharding(there, sampled))
    sample = jax.jit(make_sampler(model, sampling, (0,), there))
    rest = _prompts(there, rows), _placed(key, NamedSharding(there, PartitionSpec())), temperature
    return result((*programs, compiled("sample", sample, (sampled, *rest), resident)))


def _devices(slices: Slices) -> list[jax.Device]:
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("compiling for TPUs needs libtpu: install the extra `tpu`")
    # libtpu reads these when it is loaded: it is to ask no metadata server, and to mind no other process with it.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    more = {"num_slices": slices.count} if slices.count > 1 else {}
    return topologies.get_topology_desc(platform="tpu", topology_name=slices.topology, **more).devices


def _check_use(layout: MeshShape, slices: Slices, devices: list[jax.Device]) -> None:
    if layout.size != len(devices) or layout.dcn % slices.count:
        raise ValueError(
            f"{slices.count} x {slices.topology} are {len(devices)} devices in {slices.count} slices: the mesh "
            f"{layout} of {layout.size} must use them all, and mesh.dcn must be a multiple of the slices"
        )


def _placed(tree: Any, sharding: Any) -> Any:
    """Shapes, with where they lie: one sharding for all, or one for each."""
    if not isinstance(sharding, NamedSharding):
        return jax.tree.map(_placed, tree, sharding)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _bytes(tree: Any) -> int:
    """That one device holds of placed shapes."""
    of = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * (x.dtype.itemsize if x.dtype != key_dtype else 8)
    key_dtype = jax.eval_shape(lambda: jax.random.key(0)).dtype
    return sum(of(x) for x in jax.tree.leaves(tree))


def _batch(mesh: Mesh, rows: BatchShapes) -> Batch:
    whole = lambda dtype: jax.ShapeDtypeStruct((rows.rows, rows.tokens), dtype)
    ids, numbers = whole(jnp.int32), whole(jnp.float32)
    batch = Batch(
        token=ids, position=ids, enter=ids, leave=ids, parent=ids, rollout=ids, nll_weight=numbers, pg_weight=numbers,
        advantage=numbers, behavior_logp=numbers,
    )  # fmt: skip
    return _placed(batch, NamedSharding(mesh, PartitionSpec(RULES["rows"])))


def _prompts(mesh: Mesh, rows: BatchShapes) -> Prompts:
    ids = jax.ShapeDtypeStruct((rows.prompt_rows, rows.prompt_tokens), jnp.int32)
    slot = lambda dtype, *more: jax.ShapeDtypeStruct((rows.prompt_rows, rows.slots, *more), dtype)
    prompts = Prompts(
        token=ids, position=ids, enter=ids, leave=ids, slot_parent=slot(jnp.int32), slot_enter=slot(jnp.int32),
        slot_active=slot(jnp.bool_), slot_address=slot(jnp.uint32, 6),
    )  # fmt: skip
    return _placed(prompts, NamedSharding(mesh, PartitionSpec(RULES["rows"])))


def _compiled(name: str, program: Callable, args: tuple, resident: int, *, mesh: Mesh, effort: str, turns: int):
    lowered = program.lower(*args)
    given = sum(_bytes(x) for x in jax.tree.leaves(args) if x.sharding is not None)
    try:
        compiled = lowered.compile(compiler_options={"optimization_level": EFFORT[effort]})
    except jax.errors.JaxRuntimeError as error:
        return Program(
            name=name, peak_bytes=_asked_for(error), argument_bytes=given, temp_bytes=_asked_for(error) - given,
            resident_bytes=resident, refused=str(error).splitlines()[0],
        )  # fmt: skip
    said = compiled.memory_analysis()
    return Program(
        name=name, peak_bytes=said.peak_memory_in_bytes, argument_bytes=said.argument_size_in_bytes,
        temp_bytes=said.temp_size_in_bytes, resident_bytes=resident,
        collectives=collectives(compiled.as_text(), mesh.size, turns),
    )  # fmt: skip


REFUSALS = (
    re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM"),
    re.compile(r"Used ([\d.]+)([KMGT])i?B? of [\d.]+[KMGT]i?B? hbm"),
)


def _asked_for(error: jax.errors.JaxRuntimeError) -> int:
    """Bytes that a refused program would need. Raises the error again where it is about something else."""
    if "RESOURCE_EXHAUSTED" in str(error):
        for pattern in REFUSALS:
            if found := pattern.search(str(error)):
                return int(float(found[1]) * 2 ** (10 * (1 + "KMGT".index(found[2]))))
    raise error


def _advice(model: ModelConfig, layout: MeshShape, rows: BatchShapes, state_bytes: int, hbm: int) -> str:
    """What would help, the cheapest first."""
    parts = layout.fsdp * layout.tensor
    if state_bytes > hbm / 2:
        least = math.ceil(state_bytes * parts / (hbm / 2))
        return (
            f"{parameter_count(model) / 1e9:.1f} billion parameters in {parts} parts take {state_bytes / GIB:.2f} GiB "
            f"of each device: cut them into {least} or more (mesh.fsdp * mesh.tensor), on a larger slice if need be"
        )
    more = []
    if model.remat != "full":
        more.append("set model.remat=full")
    if rows.rows > layout.row_parts:
        more.append(f"lower rows.rows={rows.rows}, down to {layout.row_parts} at the least (more batches, same step)")
    more.append(f"lower rows.prompt_rows={rows.prompt_rows}, rows.slots={rows.slots} or rows.tokens={rows.tokens}")
    return "; ".join(more) + "; or cut the parameters into more parts (mesh.fsdp, mesh.tensor)"
