"""The parameters that a stage starts from, and those it is compared with."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import jax

from jaxsrl.checkpoint import PolicyName, fingerprint
from jaxsrl.config.run import Config, ConfigError, Stage
from jaxsrl.models.lora import frozen, init_adapters
from jaxsrl.policy import (
    ADAPT,
    Policy,
    address,
    first_params,
    load_base,
    make_policy,
    trained_shapes,
    whole_params,
)
from jaxsrl.processes import broadcast_from_first
from jaxsrl.runs import Run, check_base
from jaxsrl.sharding import placed_shapes, state_sharding, to_device, to_host
from jaxsrl.stages.material import Material
from jaxsrl.types import Params


@dataclass(frozen=True, kw_only=True)
class Base:
    """What lies under the adapters of a run, and a hash of the parameters as they were read."""

    params: Params
    fingerprint: str | None  # None of a base that is made


def make_base(config: Config, index: int, material: Material) -> Base:
    """Reads or makes the base of stage `index`; runs with its weights, or with its seed, have the same."""
    model, starts = material.model, {one.name: one.start_from for one in config.stages}
    base = load_base(
        model, starts, config.stages[index].name, config.seed, config.weights, material.placement.mesh
    )  # fmt: skip
    found = fingerprint(base) if config.weights is not None else None
    return Base(params=frozen(model, base), fingerprint=found)


def make_start(run: Run, config: Config, index: int, material: Material, base: Base | None = None) -> Policy:
    """What a stage trains, as it starts: random or published, or what an earlier stage ended with or found best.

    Under LoRA it trains adapters, which are random or an earlier stage's, on a base that is given, made or read.
    """
    stage, model, mesh = config.stages[index], material.model, material.placement.mesh
    like = trained_shapes(model, config.lora)
    where, params = None if mesh is None else state_sharding(mesh, like), None
    reading = config.weights is not None and (stage.start_from is None or config.lora is not None) and base is None
    with run.console.wait(f"[{stage.name}] reading {config.weights}") if reading else nullcontext():
        if config.lora is not None:
            base = base or make_base(config, index, material)
            if config.weights is not None:
                check_base(run.folder, base.fingerprint, config.weights)
        elif stage.start_from is None:
            params = first_params(model, config.seed_of(index), index, config.weights, mesh)
    if stage.start_from is not None:
        name = start_name(run, PolicyName.parse(stage.start_from))
        params = run.checkpoints.restore_policy(name, placed_shapes(mesh, like))
    elif config.lora is not None:
        key = address(config.seed_of(index), index, ADAPT)
        params = jax.jit(init_adapters, static_argnums=(0, 1), out_shardings=where)(model, config.lora, key)
    return make_policy(
        model, params, None if base is None else base.params, config.lora, material.placement,
        material.tokenizer.ends, material.compiled, known=material.tokenizer.vocab_size,
    )  # fmt: skip


def start_name(run: Run, asked: PolicyName) -> PolicyName:
    """The policy that is there; the last one of a stage whose validation never found a best."""
    folders = broadcast_from_first(
        lambda: [p.folder for p in run.checkpoints.policies()]
    )  # all processes take the same
    there = [p for p in map(PolicyName.of_folder, folders) if (p.stage, p.which) == (asked.stage, asked.which)]
    return there[-1] if there else PolicyName(asked.stage, "last")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The frozen reference of a KL, as it waits; None where there is none. A call brings the model's parameters."""

    held: Params | None
    policy: Policy

    def __call__(self) -> Params:
        return None if self.held is None else whole_params(self.policy, to_device(self.held))


def hold_reference(stage: Stage, policy: Policy, put_away: Callable[[Params], Params] = to_host) -> Reference:
    """Holds what the stage started from, if it is the frozen reference of a KL: on the device or in host memory.

    Raises: ConfigError where the devices have no memory to put it away in.
    """
    alone = replace(policy, params=None)
    if not stage.has_reference:
        return Reference(held=None, policy=alone)
    initial = policy.params
    if stage.reference_on == "host":
        try:
            initial = put_away(initial)
        except ValueError as error:
            name = f"stages.{stage.name}.reference_on"
            raise ConfigError(f"{name}=host: {error}; set {name}=device") from error
    return Reference(held=initial, policy=alone)
