"""Which runs may be members of one population, and the numbers that they differ in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

import jax
import numpy as np

from jaxsrl.config.overrides import to_dict
from jaxsrl.config.run import Config, ConfigError, Stage
from jaxsrl.objectives.numbers import as_arrays, numbers_of
from jaxsrl.objectives.rollout_objective import Sampled
from jaxsrl.stages.device_loop import needs_host
from jaxsrl.studies.identity import PLACES, difference
from jaxsrl.types import Numbers

OWN = (*PLACES, "seed")  # fields of a config in which members differ as they like


@dataclass(frozen=True, kw_only=True)
class OwnNumbers:
    """Numbers of a stage, each an array [M]. Of reward and optimizer only those that differ among the M members: what
    is equal stays a constant of the program, as in the run alone."""

    objective: Numbers
    reward: Numbers
    optimizer: Numbers


def fixed(config: Config) -> dict[str, Any]:
    """What the members of a population have in common: their settings without places, seed and numbers.

    Of a number that may switch something off, whether it is 0 stays: that is another program.
    """
    out = {name: value for name, value in to_dict(config).items() if name not in OWN}
    out["stages"] = [_fixed_stage(stage, told) for stage, told in zip(config.stages, out["stages"], strict=True)]
    return out


def _fixed_stage(stage: Stage, told: dict[str, Any]) -> dict[str, Any]:
    objective = _without(told["objective"], numbers_of(stage.objective), switches=None)
    if is_dataclass(reward := stage.objective.device_reward):
        objective["reward"] = _without(objective["reward"], numbers_of(reward), switches=())
    optimizer = _without(told["optimizer"], numbers_of(stage.optimizer), switches=("clip_norm",))
    return told | {"objective": objective, "optimizer": optimizer}


def _without(told: dict[str, Any], numbers: Numbers, switches: Sequence[str] | None) -> dict[str, Any]:
    """`switches`: the numbers of which 0 switches something off; None takes all."""
    out = dict(told)
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            out[name] = _without(told[name], value, switches)
        else:
            zero = value == 0 and (switches is None or name in switches)
            out[name] = "0" if zero else "a number"
    return out


def check_members(configs: Sequence[Config]) -> None:
    """Raises ConfigError where these runs cannot be one population, naming run, setting and what to change."""
    if len(configs) < 2:
        raise ConfigError(f"a population has two members or more, got {len(configs)}; run one alone")
    first, names = configs[0], [(config.runs, config.name) for config in configs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two members are named {twice[1]!r} in {twice[0]}: each has a run folder of its own")
    common = fixed(first)
    for config in configs[1:]:
        if changes := difference(common, fixed(config)):
            key, a, b = changes[0]
            raise ConfigError(
                f"{first.name} and {config.name} differ in {key} ({a} and {b}): members of a population differ in seed "
                "and in numbers of an objective, a device reward or an optimizer, and 0 stays 0 where it switches a "
                "term off. Make two populations, or run one alone"
            )
    if reason := unfit(first):
        raise ConfigError(f"{first.name} cannot be a member of a population: {reason}")
    if first.lora is not None and first.weights is None and len({config.seed for config in configs}) > 1:
        raise ConfigError(
            "members train adapters on one frozen base, and without `weights` each seed makes a base of its own; set "
            "weights to a checkpoint's folder, or give all members one seed"
        )


def unfit(config: Config) -> str | None:
    """Why runs of this config can be in no population, with what to change; None where they can be."""
    if jax.process_count() > 1:
        return f"it is one process, and here are {jax.process_count()}"
    if config.mesh.size > 1 or config.sampler_mesh.size > 1:
        return f"its members are spread over devices whole, and {config.mesh} cuts each of them; set the mesh to 1"
    if config.mirrors:
        return f"mirrors={config.mirrors} take one run a process; set mirrors=()"
    for stage in config.stages:
        if not stage.device_steps and stage.steps:
            return (
                f"stages.{stage.name}.device_steps=0, and only steps that ask nothing of the host are one program: set "
                "device_steps above 0 with compact=false, and a reward on the device, as "
                "ActionSimilarity(where='device')"
            )
        if stage.steps and (reason := needs_host(stage, isinstance(stage.objective, Sampled))):
            return f"stages.{stage.name}: {reason}"
    return None


def own_numbers(stages: Sequence[Stage]) -> OwnNumbers:
    """Of one stage of each member, in their order."""
    rewards = [one.objective.device_reward for one in stages]
    of_rewards = [numbers_of(reward) if is_dataclass(reward) else {} for reward in rewards]
    optimizers = [numbers_of(one.optimizer) for one in stages]
    stacked = lambda all: jax.tree.map(lambda *x: np.stack(x), *map(as_arrays, all))
    return OwnNumbers(
        objective=stacked([numbers_of(one.objective) for one in stages]),
        reward=stacked(_differing(of_rewards)), optimizer=stacked(_differing(optimizers)),
    )  # fmt: skip


def _differing(numbers: Sequence[Numbers]) -> list[dict[str, Any]]:
    """Of each member the numbers that are not the same for all."""
    out: list[dict[str, Any]] = [{} for _ in numbers]
    for name in numbers[0]:
        values = [own[name] for own in numbers]
        inner = _differing(values) if isinstance(values[0], Mapping) else values
        if isinstance(values[0], Mapping) and not inner[0] or all(value == inner[0] for value in inner):
            continue
        for own, value in zip(out, inner, strict=True):
            own[name] = value
    return out
