"""The optimizer steps of all members of a population as one program, over one device or spread over several."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsrl.collect.whole import Known, Taken, scan_steps
from jaxsrl.policy import Compiled
from jaxsrl.processes import fetch
from jaxsrl.stages.device_loop import DeviceLoop
from jaxsrl.studies.members import OwnNumbers
from jaxsrl.types import TrainState

By = Literal["map", "vmap"]
# One member after the other, or all at once. On a CPU, whose caches hold one small model and not eight, the first was
# faster (README); an accelerator waits for small matrices.
DEFAULT_BY: dict[str, By] = {"cpu": "map", "gpu": "vmap", "tpu": "vmap"}


@dataclass(frozen=True, kw_only=True)
class Together:
    """Takes steps of some members of a stage at once.

    Args:
      run: (states, known, keys, numbers of objective, reward and optimizer, temperature, *frozen) -> (states, Taken);
        what is a member's own has an axis of members before all others. Compiled; the states are used up.
      frozen: further arguments of the loss, which all members share.
      place: puts members where they are computed; `back` brings them to the first device.
    """

    run: Callable[..., tuple[TrainState, Taken]]
    keys: jax.Array
    numbers: OwnNumbers
    temperature: float
    frozen: tuple[Any, ...]
    place: Callable[[Any], Any]
    back: Callable[[Any], Any]
    stack: Callable[..., Any]
    unstack: Callable[..., Any]


def make_together(loops: Sequence[DeviceLoop], numbers: OwnNumbers, by: By, devices: int, once: Compiled) -> Together:
    """Of the members' loops, which differ in key and numbers alone.

    Args:
      devices: among which the members are divided; their number is a multiple of it.
    """
    first, count = loops[0], len(loops)
    mesh = Mesh(np.array(jax.devices()[:devices]), ("member",)) if devices > 1 else None

    def many(states: TrainState, known: Known, keys, objective, reward, optimizer, temperature, *frozen):
        def one(own):
            state, known, key, objective, reward, optimizer = own
            steps = scan_steps(first.step_with(reward, optimizer))
            return steps(state, known, key, temperature, objective, *frozen)

        own = (states, known, keys, objective, reward, optimizer)
        return jax.lax.map(one, own) if by == "map" else jax.vmap(one)(own)

    spread, whole = PartitionSpec("member"), PartitionSpec()
    if mesh is not None:
        specs = (*(spread,) * 6, *(whole,) * (1 + len(first.learner.frozen)))
        many = jax.shard_map(many, mesh=mesh, in_specs=specs, out_specs=spread, check_vma=False)
    names = tuple(tuple(own) for own in map(_names, (numbers.reward, numbers.optimizer)))
    run = once.once(
        ("population", first.run, count, by, devices, names), lambda: jax.jit(many, donate_argnums=0)
    )  # fmt: skip
    spread_out, first_device = (None, None) if mesh is None else (NamedSharding(mesh, spread), jax.devices()[0])
    everywhere = None if mesh is None else NamedSharding(mesh, whole)
    return Together(
        run=run, keys=jnp.stack([loop.key for loop in loops]), numbers=numbers, temperature=first.temperature,
        frozen=_placed(everywhere, first.learner.frozen), place=partial(_placed, spread_out),
        back=partial(_placed, first_device), stack=once.once(("stack",), lambda: jax.jit(_stacked)),
        unstack=once.once(("unstack", count), lambda: jax.jit(partial(_unstacked, count))),
    )  # fmt: skip


def _placed(where: Any, x: Any) -> Any:
    return x if where is None else jax.device_put(x, where)


def _stacked(*trees: Any) -> Any:
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def _unstacked(count: int, tree: Any) -> list[Any]:
    return [jax.tree.map(operator.itemgetter(m), tree) for m in range(count)]


def take_together(
    together: Together, states: Sequence[TrainState], known: Sequence[Sequence[Known]]
) -> tuple[list[TrainState], list[Taken]]:
    """The next optimizer steps of every member.

    Args:
      known: of each member, of each of its steps.
    Returns: the states, and what is told of the steps, on the host.
    """
    own = jax.tree.map(lambda *x: np.stack(x), *[jax.tree.map(lambda *x: np.stack(x), *steps) for steps in known])
    numbers = together.numbers
    given = together.place((
        together.stack(*states), own, together.keys, numbers.objective, numbers.reward, numbers.optimizer
    ))  # fmt: skip
    after, taken = together.run(*given, np.float32(together.temperature), *together.frozen)
    taken = fetch(taken)
    return together.unstack(together.back(after)), _unstacked(len(states), taken)


def devices_for(members: int, most: int | None = None) -> int:
    """Among how many devices so many members are divided: the most that divide their number."""
    there = min(most or jax.local_device_count(), jax.local_device_count())
    return max(n for n in range(1, there + 1) if members % n == 0)


def _names(numbers: Any) -> list[str]:
    """Of each number, with the settings that it stands within."""
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(numbers)]
