"""One mesh for a run: which axis of an array lies on which axis of the devices. One table of rules, in one place.

Arrays are placed by `NamedSharding` and `jit` partitions the programs; kernels that must see whole rows run under
`shard_map`. Averages are weights in the batch, made before it is split, so no loss, gradient or metric knows the mesh.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import NamedSharding, PartitionSpec

from jaxsrl.old_names import moved

AXES = ("dcn", "data", "fsdp", "tensor")

Rules = Mapping[str, tuple[str, ...]]

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
# Adapters of a matrix (models/lora.py): A is cut where the matrix's input is, B where its output is.
PARAMETERS |= {
    f"{path}/{part}": (None, None, axes[2]) if part == "b" else (None, axes[1], None)
    for path, axes in PARAMETERS.items() if path.startswith("layers/") for part in "ab"
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MeshShape:
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
    def shape(self) -> tuple[int, int, int, int]:
        """Sizes of `AXES`."""
        return self.dcn, self.data, self.fsdp, self.tensor

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def row_parts(self) -> int:
        return self.size // self.tensor


def make_mesh(layout: MeshShape, devices: list[jax.Device] | None = None) -> jax.sharding.Mesh | None:
    """The mesh of the first `layout.size` devices; None for one device, whose programs have no partitioning at all.

    Every process sees the same mesh: JAX lists all devices in each, in one order.
    Raises: ValueError if there are fewer devices, or `arrange` cannot lay them out.
    """
    if layout.size == 1:
        return None
    devices = devices or jax.devices()
    if len(devices) < layout.size:
        raise ValueError(f"the mesh {layout} needs {layout.size} devices, there are {len(devices)}")
    return jax.sharding.Mesh(arrange(layout, devices[: layout.size]), AXES)


def relayout(mesh: jax.sharding.Mesh | None, layout: MeshShape) -> jax.sharding.Mesh | None:
    """Another mesh of the same devices in the same order, as one program must have them that uses both meshes."""
    return None if mesh is None else jax.sharding.Mesh(mesh.devices.reshape(layout.shape), AXES)


def arrange(layout: MeshShape, devices: list[jax.Device]) -> np.ndarray:
    """Devices [dcn data fsdp tensor], all of them: as listed, but TPUs so that a mesh axis runs along their torus.

    A slice of TPUs is one or more whole indices of `dcn`.
    Raises: ValueError if slices do not divide `dcn`, are not equally large, or one's devices are no block of its torus.
    """
    if devices[0].platform != "tpu":
        return np.array(devices).reshape(layout.shape)
    slices: dict[int, list[jax.Device]] = {}
    for device in devices:
        slices.setdefault(getattr(device, "slice_index", 0), []).append(device)
    if layout.dcn % len(slices):
        raise ValueError(f"these devices are {len(slices)} slices: mesh.dcn must be a multiple of it, got {layout.dcn}")
    each = (layout.dcn // len(slices), *layout.shape[1:])
    return np.concatenate([_on_torus(each, slices[index]) for index in sorted(slices)])


def _on_torus(shape: tuple[int, ...], devices: list[jax.Device]) -> np.ndarray:
    """TPUs of one slice: in JAX's arrangement for the shape, or as listed where neighbours are nearer.

    JAX lays few devices (4 or 8 of v5e and v6e) in one ring, and where a mesh folds it outer axes run diagonally.
    """
    places = np.array([(*device.coords, device.core_on_chip) for device in devices])
    box = tuple(int(size) for size in places.max(0) - places.min(0) + 1)
    if len(devices) != math.prod(shape):
        raise ValueError(f"a mesh of {shape} takes {math.prod(shape)} TPUs of each slice, one has {len(devices)}")
    if len(devices) != math.prod(box):
        raise ValueError(
            f"{len(devices)} TPUs are no block of their torus, but some of one of {box[:3]}: set mesh.dcn, data, fsdp "
            "and tensor so that they take all devices, or a number that fills a block (4 or 8, the first hosts)"
        )
    listed = np.array(devices).reshape(shape)
    return min(mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True), listed, key=_steps)


def _steps(devices: np.ndarray) -> int:
    """On the torus, between all neighbours on all mesh axes."""
    places = np.array([device.coords for device in devices.flat]).reshape(*devices.shape, -1)
    return sum(int(np.abs(np.diff(places, axis=axis)).sum()) for axis in range(devices.ndim))


def platform(mesh: jax.sharding.Mesh | None) -> str:
    """Of the devices that a program is for, which need not be there: those of its mesh, else the default ones."""
    return jax.default_backend() if mesh is None else mesh.devices.flat[0].platform


def spec(
    mesh: jax.sharding.Mesh, shape: tuple[int, ...], axes: tuple[str | None, ...], rules: Rules = RULES
) -> PartitionSpec:
    """The rules applied to an array; an axis that its devices do not divide stays whole."""
    parts = []
    for size, axis in zip(shape, axes, strict=True):
        names = rules[axis] if axis else ()
        parts.append(names if names and size % math.prod(mesh.shape[n] for n in names) == 0 else None)
    return PartitionSpec(*parts)


def parameter_spec(
    mesh: jax.sharding.Mesh, path: tuple[Any, ...], shape: tuple[int, ...], rules: Rules = RULES
) -> PartitionSpec:
    """Of a parameter, or of what an optimizer keeps for one, by the names on its path."""
    axes = parameter_axes(path)
    return PartitionSpec() if axes is None else spec(mesh, shape, axes, rules)


def parameter_axes(path: tuple[Any, ...]) -> tuple[str | None, ...] | None:
    """Logical axes by the names on a path; None for what lies whole."""
    names = [str(getattr(key, "key", "")) for key in path]
    return PARAMETERS.get("/".join(names[names.index("layers") :] if "layers" in names else names[-1:]))


def state_sharding(mesh: jax.sharding.Mesh, tree: Any, rules: Rules = RULES) -> Any:
    """Where every leaf of a state, of parameters or of gradients lies."""
    of = lambda path, x: NamedSharding(mesh, parameter_spec(mesh, path, x.shape, rules))
    return jax.tree_util.tree_map_with_path(of, tree)


def to_host(tree: Any) -> Any:
    """The same arrays, in the pinned memory of their devices' hosts.

    Raises: ValueError if the devices have none.
    """
    devices = {device for x in jax.tree.leaves(tree) for device in x.sharding.addressable_devices}
    kinds = {memory.kind for device in devices for memory in device.addressable_memories()}
    if "pinned_host" not in kinds:
        raise ValueError(f"these devices have no pinned_host memory, only: {', '.join(sorted(kinds)) or 'none'}")
    return jax.tree.map(lambda x: jax.device_put(x, x.sharding.with_memory_kind("pinned_host")), tree)


def to_device(tree: Any) -> Any:
    """What `to_host` put away, copied to the devices' own memory; what lies there already stays as it is."""
    back = lambda x: jax.device_put(x, x.sharding.with_memory_kind("device"))
    return jax.tree.map(lambda x: back(x) if x.sharding.memory_kind == "pinned_host" else x, tree)


def make_reshard(source: jax.sharding.Mesh, target: jax.sharding.Mesh, dtype: Any):
    """Returns reshard(params) -> params laid out on `target`, which has the devices of `source` in the same order.

    Matrices are sent in `dtype`, that of the products they are used in; what `PARAMETERS` does not list stays as it is.
    """

    def narrow(path, x):
        return x.astype(dtype) if parameter_axes(path) and x.dtype == np.float32 else x

    def reshard(params):
        # Cast before resharding, so that fewer bytes are sent.
        params = constrain_state(source, jax.tree_util.tree_map_with_path(narrow, params))
        for mesh, rules in _ways(source, target):
            params = constrain_state(mesh, params, rules)
        return constrain_state(target, params)

    return jax.jit(reshard)


def _ways(source: jax.sharding.Mesh, target: jax.sharding.Mesh) -> list[tuple[jax.sharding.Mesh, Rules]]:
    """Places of parameters between those of two meshes, one after another; compilers asked for all at once gather all.

    On a mesh so fine that the axes of both are products of its axes: first what of the target's tensor axis holds
    copies is cut, then the rest of it is exchanged for parts of the width; that the width is gathered is left.
    None where there is no such mesh (2 x 3 and 3 x 2 devices), or the target cuts the width as well.
    """
    strides = lambda mesh: {axis: math.prod(mesh.devices.shape[i + 1 :]) for i, axis in enumerate(AXES)}
    cuts = sorted({*strides(source).values(), *strides(target).values(), source.size})
    if target.shape["fsdp"] > 1 or any(more % less for less, more in pairwise(cuts)):
        return []
    finer = {f"{less}": more // less for less, more in reversed(list(pairwise(cuts)))}
    mesh = jax.sharding.Mesh(source.devices.reshape(*finer.values()), tuple(finer))

    def part(of: jax.sharding.Mesh, axis: str) -> tuple[str, ...]:
        least = strides(of)[axis]
        return tuple(name for name in finer if least <= int(name) < least * of.shape[axis])

    def rules(width: tuple[str, ...], tensor: tuple[str, ...]) -> Rules:
        return {axis: width if "fsdp" in names else tensor for axis, names in RULES.items() if axis != "rows"}

    width, tensor = part(source, "fsdp"), part(target, "tensor")
    without = lambda axes, others: tuple(axis for axis in axes if axis not in others)
    return [(mesh, rules(width, without(tensor, width))), (mesh, rules(without(width, tensor), tensor))]


def reshard_bytes(params: Any, target: jax.sharding.Mesh, dtype: Any) -> int:
    """That the device which receives most must receive in `make_reshard`: what it will hold and does not hold."""
    received: dict[jax.Device, int] = {}
    for path, x in jax.tree_util.tree_leaves_with_path(params):
        narrow = parameter_axes(path) and x.dtype == np.float32
        size = np.dtype(dtype).itemsize if narrow else x.dtype.itemsize
        held = x.sharding.devices_indices_map(x.shape)
        there = NamedSharding(target, parameter_spec(target, path, x.shape))
        for device, wanted in there.devices_indices_map(x.shape).items():
            lacking = _volume(x.shape, wanted) - _volume(x.shape, wanted, held[device])
            received[device] = received.get(device, 0) + lacking * size
    return max(received.values())


def _volume(shape: tuple[int, ...], *parts: tuple[slice, ...]) -> int:
    """Numbers that lie in all of the parts of an array."""
    ranges = [[part[axis].indices(size)[:2] for part in parts] for axis, size in enumerate(shape)]
    return math.prod(max(0, min(end for _, end in axis) - max(start for start, _ in axis)) for axis in ranges)


def placed_shapes(mesh: jax.sharding.Mesh | None, shapes: Any) -> Any:
    """Shapes of parameters, with where each is to lie; without a mesh they say nothing of it."""
    if mesh is None:
        return shapes
    placed = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)
    return jax.tree.map(placed, shapes, state_sharding(mesh, shapes))


def constrain_state(mesh: jax.sharding.Mesh | None, tree: Any, rules: Rules = RULES) -> Any:
    """The same values, laid out as parameters are."""
    return tree if mesh is None else jax.lax.with_sharding_constraint(tree, state_sharding(mesh, tree, rules))


def constrain(mesh: jax.sharding.Mesh | None, x: jax.Array, *axes: str | None) -> jax.Array:
    """The same values, laid out by logical axes."""
    if mesh is None:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec(mesh, x.shape, axes)))


def place_rows(mesh: jax.sharding.Mesh | None, batch: Any, held: Sequence[bool] | None = None) -> Any:
    """A batch of host arrays [R …] on the devices that work on its rows; each process places those of its own.

    Args:
      held: [R] where the arrays have only some of the rows: which those are. Among them must be all of this process.
    Raises: ValueError if the rows do not divide.
    """
    if mesh is None:
        return batch
    parts = math.prod(mesh.shape[name] for name in RULES["rows"])
    rows = {len(held)} if held is not None else {x.shape[0] for x in jax.tree.leaves(batch)}
    if any(r % parts for r in rows):
        raise ValueError(f"batches of {sorted(rows)} rows do not divide among {parts} groups of devices")
    where = NamedSharding(mesh, PartitionSpec(RULES["rows"]))
    if held is None and where.is_fully_addressable:
        return jax.device_put(batch, where)
    at = np.arange(*rows) if held is None else np.cumsum(held) - 1

    def put(x):
        return jax.make_array_from_callback((len(at), *x.shape[1:]), where, lambda own: x[at[own[0]]])

    return jax.tree.map(put, batch)


def place_state(mesh: jax.sharding.Mesh | None, state: Any) -> Any:
    """A state, of which some lies in place already, committed to its devices: of one device where there is no mesh."""
    if mesh is None:
        return jax.device_put(state, jax.devices()[0])
    where = state_sharding(mesh, state)
    if all(s.is_fully_addressable for s in jax.tree.leaves(where)):
        return jax.device_put(state, where)
    return jax.jit(lambda x: x, out_shardings=where)(state)


def rows_sharding(mesh: jax.sharding.Mesh | None) -> NamedSharding | None:
    """Of arrays [R …] that are cut by rows."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(RULES["rows"]))


def whole_sharding(mesh: jax.sharding.Mesh | None) -> NamedSharding | None:
    """Of arrays that every device has whole."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec())


def place_whole(mesh: jax.sharding.Mesh | None, tree: Any) -> Any:
    """Host arrays, the same in every process, whole on every device; arrays that lie on devices are left there."""
    where = whole_sharding(mesh)
    if where is None:
        return tree
    put = lambda x: x if isinstance(x, jax.Array) else jax.make_array_from_callback(x.shape, where, lambda i: x[i])
    return jax.tree.map(put, tree)


def place_sheet(mesh: jax.sharding.Mesh | None, sheet: Any, held: Sequence[bool] | None = None) -> Any:
    """A sheet where the sampler works on it: prompts, see `place_rows`, are cut by rows, the rest is whole."""
    if mesh is None:
        return sheet
    return replace(place_whole(mesh, replace(sheet, prompts=None)), prompts=place_rows(mesh, sheet.prompts, held))


def held_rows(mesh: jax.sharding.Mesh | None, rows: int) -> dict[int, tuple[bool, ...]]:
    """Process -> which rows of arrays cut by rows lie on its devices."""
    if mesh is None:
        return {jax.process_index(): (True,) * rows}
    held = {device.process_index: np.zeros(rows, bool) for device in mesh.devices.flat}
    for device, (part, *_) in rows_sharding(mesh).devices_indices_map((rows,)).items():
        held[device.process_index][part] = True
    return {process: tuple(mask.tolist()) for process, mask in held.items()}


def rows_held_here(mesh: jax.sharding.Mesh | None) -> Callable[[int], tuple[bool, ...]] | None:
    """(rows) -> which of them lie on this process; None where all do."""
    if mesh is None or rows_sharding(mesh).is_fully_addressable:
        return None
    return lambda rows: held_rows(mesh, rows)[jax.process_index()]


def place_held_rows(mesh: jax.sharding.Mesh | None, batch: Any, rows: int) -> Any:
    """Rows [r …] of which every process gives those that it holds, as one batch of `rows`, cut by rows."""
    where = rows_sharding(mesh)
    put = lambda x: jax.make_array_from_process_local_data(where, x, (rows, *x.shape[1:]))
    return jax.tree.map(put, batch)


def own_rows(mesh: jax.sharding.Mesh | None, rows: int) -> np.ndarray:
    """[rows] bool: of arrays cut by rows, those that this process reads; each row has one reader."""
    if mesh is None:
        return np.ones(rows, bool)
    reader = np.full(rows, np.iinfo(np.int64).max)
    for device, (part, *_) in rows_sharding(mesh).devices_indices_map((rows,)).items():
        reader[part] = np.minimum(reader[part], device.process_index)
    return reader == jax.process_index()


def __getattr__(name: str):
    return moved(name, __name__, {"Layout": MeshShape})
