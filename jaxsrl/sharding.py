"""One mesh for a run: which axis of an array lies on which axis of the devices. One table of rules, in one place.

Arrays are placed by `NamedSharding` and `jit` partitions the programs; kernels that must see whole rows run under
`shard_map`. Averages are weights in the batch, made before it is split, so no loss, gradient or metric knows the mesh.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

AXES = ("dcn", "data", "fsdp", "tensor")

# Logical axis -> mesh axes. Rows of a batch are cut over everything that holds copies or parts of the parameters.
RULES: dict[str, tuple[str, ...]] = {
    "rows": ("dcn", "data", "fsdp"),
    "width": ("fsdp",),
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
}

# Logical axes of a parameter by its path; those of layers are stacked. What is not listed is small and lies whole.
PARAMETERS: dict[str, tuple[str | None, ...]] = {
    "embedding": ("vocab", "width"),
    "head": ("width", "vocab"),
    "layers/query": (None, "width", "heads"),
    "layers/key": (None, "width", "heads"),
    "layers/value": (None, "width", "heads"),
    "layers/out": (None, "heads", "width"),
    "layers/gate": (None, "width", "mlp"),
    "layers/up": (None, "width", "mlp"),
    "layers/down": (None, "mlp", "width"),
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How many devices each mesh axis has.

    Args:
      data: copies of the parameters, each with rows of its own.
      fsdp: parameters and optimizer state are cut in so many parts, gathered layer by layer; rows are cut too.
      tensor: heads, MLP and vocabulary are cut; rows are not.
      dcn: slices joined by the data-centre network; only gradients cross it.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1
    dcn: int = 1

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"mesh.{name} must be >= 1, got {value}")

    @property
    def size(self) -> int:
        return self.data * self.fsdp * self.tensor * self.dcn

    @property
    def row_parts(self) -> int:
        return self.size // self.tensor


def make_mesh(layout: Layout, devices: list[jax.Device] | None = None) -> jax.sharding.Mesh | None:
    """The mesh of the first `layout.size` devices; None for one device, whose programs have no partitioning at all.

    Raises: ValueError if there are fewer devices.
    """
    if layout.size == 1:
        return None
    devices = devices or jax.devices()
    if len(devices) < layout.size:
        raise ValueError(f"the mesh {layout} needs {layout.size} devices, there are {len(devices)}")
    shape = (layout.dcn, layout.data, layout.fsdp, layout.tensor)
    return jax.sharding.Mesh(np.array(devices[: layout.size]).reshape(shape), AXES)


def spec(mesh: jax.sharding.Mesh, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> PartitionSpec:
    """The rules applied to an array; an axis that its devices do not divide stays whole."""
    parts = []
    for size, axis in zip(shape, axes, strict=True):
        names = RULES[axis] if axis else ()
        parts.append(names if names and size % math.prod(mesh.shape[n] for n in names) == 0 else None)
    return PartitionSpec(*parts)


def parameter_spec(mesh: jax.sharding.Mesh, path: tuple[Any, ...], shape: tuple[int, ...]) -> PartitionSpec:
    """Of a parameter, or of what an optimizer keeps for one, by the names on its path."""
    names = [str(getattr(key, "key", "")) for key in path]
    axes = PARAMETERS.get("/".join(names[names.index("layers") :] if "layers" in names else names[-1:]))
    return PartitionSpec() if axes is None else spec(mesh, shape, axes)


def state_sharding(mesh: jax.sharding.Mesh, tree: Any) -> Any:
    """Where every leaf of a state, of parameters or of gradients lies."""
    of = lambda path, x: NamedSharding(mesh, parameter_spec(mesh, path, x.shape))
    return jax.tree_util.tree_map_with_path(of, tree)


def placed_shapes(mesh: jax.sharding.Mesh | None, shapes: Any) -> Any:
    """Shapes of parameters, with where each is to lie; without a mesh they say nothing of it."""
    if mesh is None:
        return shapes
    placed = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    return jax.tree.map(placed, shapes, state_sharding(mesh, shapes))


def constrain_state(mesh: jax.sharding.Mesh | None, tree: Any) -> Any:
    """The same values, laid out as parameters are."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, state_sharding(mesh, tree))


def constrain(mesh: jax.sharding.Mesh | None, x: jax.Array, *axes: str | None) -> jax.Array:
    """The same values, laid out by logical axes."""
    if mesh is None:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec(mesh, x.shape, axes)))


def place_rows(mesh: jax.sharding.Mesh | None, batch: Any) -> Any:
    """A batch of host arrays [R …] on the devices that work on its rows; each process places those of its own.

    Raises: ValueError if the rows do not divide.
    """
    if mesh is None:
        return batch
    parts = math.prod(mesh.shape[name] for name in RULES["rows"])
    rows = {x.shape[0] for x in jax.tree.leaves(batch)}
    if any(r % parts for r in rows):
        raise ValueError(f"batches of {sorted(rows)} rows do not divide among {parts} groups of devices")
    where = NamedSharding(mesh, PartitionSpec(RULES["rows"]))
    if where.is_fully_addressable:
        return jax.device_put(batch, where)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, where, lambda own: x[own]), batch)


def place_state(mesh: jax.sharding.Mesh | None, state: Any) -> Any:
    """A state, of which some lies in place already, committed to its devices: of one device where there is no mesh."""
    if mesh is None:
        return jax.device_put(state, jax.devices()[0])
    where = state_sharding(mesh, state)
    if all(s.is_fully_addressable for s in jax.tree.leaves(where)):
        return jax.device_put(state, where)
    return jax.jit(lambda x: x, out_shardings=where)(state)
