"""A policy as a value: parameters, the frozen base, their placement, and what samples and scores with them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.load import load_weights
from jaxsrl.models.lora import LoRA, init_adapters, with_adapters
from jaxsrl.models.transformer import init_params, rollout_copy
from jaxsrl.rollout.sampler import Sample, make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.rollout.slots import choose_slots
from jaxsrl.sharding import MeshShape, make_mesh, make_reshard, relayout, reshard_bytes, state_sharding
from jaxsrl.stores.copies import here
from jaxsrl.types import Params
from jaxsrl.update import make_scorer

TRAIN, EVALUATE, INIT, ADAPT = 0, 1, 2, 3  # first word of a key's address, after the stage


@dataclass(frozen=True)
class Compiled:
    """Compiled functions by what they depend on, so that stages share them, and runs that are given the same one."""

    made: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` returned when it was first asked for under this key."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The devices of a run, as the learner and as the sampler lay them out; None is one device."""

    mesh: jax.sharding.Mesh | None
    sampler_mesh: jax.sharding.Mesh | None
    moves: bool  # whether the sampler has a layout of its own


def make_placement(mesh: MeshShape, sampler: MeshShape) -> Placement:
    """Lays out the devices; `sampler` equal to `mesh` keeps parameters where they are."""
    made = make_mesh(mesh)
    return Placement(mesh=made, sampler_mesh=relayout(made, sampler), moves=sampler != mesh)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Parameters with what it takes to sample from them and to score with them.

    Args:
      params: those that are trained: the model's or, with `lora`, adapters; `base` are the parameters under them.
      sampler: (settings, completions of a row that grow at once, or None to have that chosen) -> compiled sampler. It
        is given `sampling_params`.
      scorer: temperature -> compiled (params, batch) -> log-probs [R T]. It is given `whole_params`.
    """

    model: ModelConfig
    params: Params
    base: Params | None
    lora: LoRA | None
    placement: Placement
    sampler: Callable[[Sampling, int | None], Sample]
    scorer: Callable[[float], Callable[..., Array]]
    compiled: Compiled


def make_policy(
    model: ModelConfig, params: Params, base: Params | None, lora: LoRA | None, placement: Placement,
    ends: tuple[int, ...], compiled: Compiled, make: Callable[[Sampling], Sample] | None = None,
    known: int | None = None,
) -> Policy:  # fmt: skip
    """Made once a stage; `replace(policy, params=...)` is the same policy after a step.

    Args:
      ends: the tokens that end a completion.
      make: makes what completions are drawn with; None draws from `model`.
      known: ids of the tokenizer; the model may have more, which are never drawn.
    """
    own, there = (model, placement.mesh, placement.sampler_mesh, ends), placement.sampler_mesh

    def sampler(sampling: Sampling, at_once: int | None = None) -> Sample:
        def drawn_from_model(sampling: Sampling) -> Sample:
            slots = at_once or partial(choose_slots, (model,), sampling.max_new_tokens, there)
            return make_sampler(model, sampling, ends, there, slots=slots, known=known)

        # Samplers that differ in temperature alone are one program.
        key = replace(sampling, temperature=1.0)
        made = make or drawn_from_model
        return compiled.once(("sample", *own, key, make, at_once, known), lambda: jax.jit(made(key)))

    def scorer(temperature: float) -> Callable[..., Array]:
        make = lambda: make_scorer(model, temperature, placement.mesh)
        return compiled.once(("score", *own, temperature), make)

    return Policy(
        model=model, params=params, base=base, lora=lora, placement=placement, sampler=sampler, scorer=scorer,
        compiled=compiled,
    )  # fmt: skip


def whole_params(policy: Policy, params: Params | None = None) -> Params:
    """The model's parameters from those that are trained: the policy's, or others of its kind."""
    params = policy.params if params is None else params
    return params if policy.base is None else with_adapters(policy.lora, policy.base, params)


def sampling_params(policy: Policy) -> tuple[Params, dict[str, float]]:
    """The model's parameters where the sampler wants them, and what bringing them there took."""
    params, placement, dtype = whole_params(policy), policy.placement, policy.model.dtype
    if not placement.moves:
        if dtype != "bfloat16":
            return params, {}
        copy = policy.compiled.once(("copy", policy.model), lambda: jax.jit(partial(rollout_copy, policy.model)))
        if policy.base is None:
            return copy(params), {}
        # The base is such a copy already, and a program that returned it would hold it twice.
        layers = params["layers"]
        return params | {"layers": layers | {"adapters": copy(layers["adapters"])}}, {}
    key = "reshard", placement.mesh, placement.sampler_mesh, dtype
    reshard = policy.compiled.once(key, lambda: make_reshard(placement.mesh, placement.sampler_mesh, dtype))
    start = time.monotonic()
    there = jax.block_until_ready(reshard(params))
    seconds = round(time.monotonic() - start, 4)
    return there, {"seconds": seconds, "bytes": reshard_bytes(params, placement.sampler_mesh, dtype)}


def copied_bytes(policy: Policy, sampled: Params) -> int:
    """Bytes of a device that `sampling_params` has made, beside the parameters that the policy has anyway."""
    own = {id(x) for x in jax.tree.leaves(whole_params(policy))}
    made = [x for x in jax.tree.leaves(sampled) if id(x) not in own]
    return sum(x.addressable_shards[0].data.nbytes for x in made)


def trained_shapes(model: ModelConfig, lora: LoRA | None) -> Params:
    """Of the parameters that are trained."""
    key = jax.random.key(0)
    if lora is not None:
        return jax.eval_shape(lambda: init_adapters(model, lora, key))
    return jax.eval_shape(lambda: init_params(model, key))


def load_base(
    model: ModelConfig, starts: Mapping[str, str | None], name: str, seed: int, weights: str | None,
    mesh: jax.sharding.Mesh | None,
) -> Params:  # fmt: skip
    """Loads the base under a stage's adapters: the initial parameters of the first stage in the `start_from` chain."""
    return first_params(model, seed, first_ancestor(starts, name), weights, mesh)


def first_params(
    model: ModelConfig, seed: int, index: int, weights: str | None, mesh: jax.sharding.Mesh | None = None
) -> Params:
    """What stage `index` starts from where it starts from no other: published parameters, or random ones of its own."""
    key = address(seed, index, INIT)
    like = jax.eval_shape(lambda: init_params(model, key))
    where = None if mesh is None else state_sharding(mesh, like)
    if weights is not None:
        return load_weights(Path(here(weights)), model, sharding=where)
    return jax.jit(init_params, static_argnums=0, out_shardings=where)(model, key)


def first_ancestor(starts: Mapping[str, str | None], name: str) -> int:
    """Number of the stage that starts from no other and that a stage goes back to; `starts` has each one's source."""
    while (source := starts[name]) is not None:
        name = source.partition(":")[0]
    return list(starts).index(name)


def address(seed: int, index: int, purpose: int) -> jax.Array:
    """The key of a purpose of stage `index`; what draws from it folds in its own numbers."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), index), purpose)
