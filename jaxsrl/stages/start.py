"""The parameters that a stage starts from, and those it is compared with."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import jax

from jaxsrl.checkpoint import PolicyName
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


def make_start(run: Run, config: Config, index: int, material: Material) -> Policy:
    """What a stage trains, as it starts: random or published, or what an earlier stage ended with or found best.

    Under LoRA it trains adapters, which are random or an earlier stage's, on a base that is made or read.
    """
    stage, model, mesh = config.stages[index], material.model, material.placement.mesh
    like = trained_shapes(model, config.lora)
    where = None if mesh is None else state_sharding(mesh, like)
    base = params = None
    reading = config.weights is not None and (stage.start_from is None or config.lora is not None)
    with run.console.wait(f"[{stage.name}] reading {config.weights}") if reading else nullcontext():
        if config.lora is not None:
            starts = {one.name: one.start_from for one in config.stages}
            base = load_base(model, starts, stage.name, config.seed, config.weights, mesh)
            if config.weights is not None:
                check_base(run.folder, base, config.weights)
            base = frozen(model, base)
        elif stage.start_from is None:
            params = first_params(model, config.seed, index, config.weights, mesh)
    if stage.start_from is not None:
        name = start_name(run, PolicyName.parse(stage.start_from))
        params = run.checkpoints.restore_policy(name, placed_shapes(mesh, like))
    elif config.lora is not None:
        key = address(config.seed, index, ADAPT)
        params = jax.jit(init_adapters, static_argnums=(0, 1), out_shardings=where)(model, config.lora, key)
    return make_policy(
        model, params, base, config.lora, material.placement, material.tokenizer.ends, material.compiled,
        known=material.tokenizer.vocab_size,
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
