"""Silent corruption on a device: a step is computed twice from the same state, and its bits are compared."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32

from jaxsrl.processes import fetch
from jaxsrl.types import TrainState


class Corrupted(RuntimeError):
    """A device computed or kept other bits than it should have; the message names it."""


def copied(state: TrainState) -> TrainState:
    """A state with arrays of its own, where they lie: a step uses up the one it is given."""
    one = lambda x: jnp.array(x, copy=True)
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda x: jax.random.wrap_key_data(one(jax.random.key_data(x))) if is_key(x) else one(x), state)


def check_replay(state: TrainState, again: TrainState, where: str) -> None:
    """Compares what a step came to with what it came to again, and each device's copies with its replicas'.

    Raises: Corrupted naming the devices that differ.
    """
    devices, first = device_sums(state)
    _, second = device_sums(again)
    changed = [d for d, a, b in zip(devices, first, second, strict=True) if a != b]
    if changed:
        raise Corrupted(
            f"{where}: computed twice from the same state, {_named(changed)} came to other bits. Take that machine "
            "out; the same command goes on elsewhere from the last checkpoint"
        )
    _check_replicas(state, devices, first, where)


def check_replicas(state: TrainState, where: str) -> None:
    """Raises Corrupted where devices that hold the same part of a state hold other bits."""
    _check_replicas(state, *device_sums(state), where)


def _check_replicas(state: TrainState, devices: list[jax.Device], sums: np.ndarray, where: str) -> None:
    groups: dict[Any, list[int]] = {}
    for number, held in enumerate(_held(state, devices)):
        groups.setdefault(held, []).append(number)
    wrong = []
    for members in groups.values():
        most, _ = Counter(int(sums[m]) for m in members).most_common(1)[0]
        wrong += [devices[m] for m in members if int(sums[m]) != most]
    if wrong:
        raise Corrupted(
            f"{where}: {_named(wrong)} holds other bits than its replicas. Take that machine out; the same command "
            "goes on elsewhere from the last checkpoint"
        )


def device_sums(state: TrainState) -> tuple[list[jax.Device], UInt32[np.ndarray, "D"]]:
    """Devices and, of each, a sum over the bits that it holds itself; one program, nothing but sums leaves a device."""
    leaves = [_words(x) for x in jax.tree.leaves(state)]
    mesh = next((x.sharding.mesh for x in leaves if isinstance(x.sharding, NamedSharding)), None)
    if mesh is None:
        return [next(iter(leaves[0].devices()))], np.asarray(jax.device_get(jax.jit(_sum)(leaves)))
    specs = tuple(x.sharding.spec if isinstance(x.sharding, NamedSharding) else PartitionSpec() for x in leaves)
    return list(mesh.devices.flat), np.asarray(fetch(_sums(leaves, mesh, specs)))


@partial(jax.jit, static_argnums=(1, 2))
def _sums(
    leaves: Sequence[Array], mesh: jax.sharding.Mesh, specs: tuple[PartitionSpec, ...]
) -> UInt32[Array, "D"]:  # fmt: skip
    """Compiled once for a state, however often it is asked."""
    return jax.shard_map(
        _sum, mesh=mesh, in_specs=(list(specs),), out_specs=PartitionSpec(mesh.axis_names), check_vma=False
    )(leaves)


def _words(x: Array) -> Array:
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def _sum(leaves: Sequence[Array]) -> UInt32[Array, "1"]:
    """Bits times odd numbers of their place, modulo 2^32: any one that flips changes it."""
    total = jnp.zeros(1, jnp.uint32)
    for number, leaf in enumerate(leaves):
        bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")).reshape(-1)
        place = jax.lax.iota(jnp.uint32, bits.size)
        total = total * 31 + jnp.sum(bits.astype(jnp.uint32) * (2 * place + 2 * number + 1), dtype=jnp.uint32)
    return total


def _held(state: TrainState, devices: Sequence[jax.Device]) -> list[tuple[str, ...]]:
    """Which part of every array a device holds."""
    maps = [x.sharding.devices_indices_map(x.shape) for x in map(_words, jax.tree.leaves(state))]
    return [tuple(str(of.get(device)) for of in maps) for device in devices]


def _named(devices: Sequence[jax.Device]) -> str:
    return ", ".join(f"device {d.id} ({d.device_kind}, process {d.process_index})" for d in devices)
