"""Published weights to parameters: safetensors, one file or sharded, read part by part into each device's share.

What a file may contain is checked against the model's own list before anything is read: names, shapes and dtypes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.families import MOST_BYTES, WeightsError, check_own, is_multimodal, read_json
from jaxsrl.models.names import HEAD, Tensor, tensors, text_name
from jaxsrl.types import Params

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
DTYPES = ("F64", "F32", "F16", "BF16")
SHOWN = 8  # names of a kind that an error lists
ROWS = 4096  # of a head that are compared with the embedding's at a time


def load_weights(folder: Path, config: ModelConfig, *, dtype: str = "float32", sharding: Any = None) -> Params:
    """Parameters of a checkpoint folder.

    Args:
      dtype: of the parameters; tensors are converted from the file's.
      sharding: a tree like the parameters', or one sharding for all; None puts everything on the first device. Each
        process reads the parts of its own devices; on the host there is what these hold of one parameter at a time.
    Raises: WeightsError that names every missing, unexpected and mis-shaped tensor, the file that is no safetensors, or
      the first tensor with a number that is not finite.
    """
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = tensors(config)
    parts = _held(Path(folder))
    _check(Path(folder), config, wanted, parts)
    params: Params = {}
    for tensor in wanted:
        own = sharding if isinstance(sharding, jax.sharding.Sharding) else _at(sharding, tensor.path)
        level = params
        for key in tensor.path[:-1]:
            level = level.setdefault(key, {})
        level[tensor.path[-1]] = _array(tensor, config.layers, parts, np.dtype(dtype), own)
    return params


@dataclass(frozen=True, kw_only=True)
class Held:
    """A tensor in a file. The file is mapped while a part is read and no longer: what was read would stay in memory."""

    path: Path
    stored: str
    shape: tuple[int, ...]
    dtype: str

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        with safe_open(self.path, "numpy") as file:
            return file.get_slice(self.stored)[index]


def _held(folder: Path) -> dict[str, Held]:
    """Every tensor by its name."""
    known = text_name if is_multimodal(read_json(folder / "config.json")) else str
    found: dict[str, Held] = {}
    for path, listed in _files(folder).items():
        _check_header(path)
        try:
            with safe_open(path, "numpy") as file:
                held = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
                kinds = {name: (tuple(x.get_shape()), x.get_dtype()) for name, x in held.items()}
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f"{path} is no readable safetensors file: {str(error)[:200]}") from error
        if listed is not None and (lost := sorted(set(listed) - set(kinds))):
            raise WeightsError(f"{folder / INDEX} says {path.name} holds {_some(lost)}, but it does not")
        for stored, (shape, dtype) in kinds.items():
            if (name := known(stored)) is None:
                continue
            if name in found:
                raise WeightsError(f"{path}: {_some([stored])} is also in another file of {folder}")
            found[name] = Held(path=path, stored=stored, shape=shape, dtype=dtype)
    return found


def _check_header(path: Path) -> None:
    """A file begins with the length of the JSON that describes it."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > MOST_BYTES:
        raise WeightsError(f"{path} is no readable safetensors file: a header of {size} bytes, more than {MOST_BYTES}")


def _files(folder: Path) -> dict[Path, list[str] | None]:
    """Files of a checkpoint, and what the index says is in each."""
    if (folder / INDEX).exists():
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, Mapping) or not listed or not all(isinstance(x, str) for x in listed.values()):
            raise WeightsError(f"{folder / INDEX} has no weight_map of tensor names to file names")
        found: dict[Path, list[str] | None] = {}
        for name, file in listed.items():
            if Path(file).name != file or not file.endswith(".safetensors") or "\\" in file or "\0" in file:
                raise WeightsError(f"{folder / INDEX}: {str(file)[:100]!r} is no safetensors file of this folder")
            found.setdefault(folder / file, []).append(name)
        if lost := [path.name for path in found if not path.is_file()]:
            raise WeightsError(f"{folder / INDEX} names files that are not there: {_some(lost)}")
        for path in found:
            check_own(path)
        return found
    if (folder / SINGLE).is_file():
        check_own(folder / SINGLE)
        return {folder / SINGLE: None}
    pickled = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    more = f"; {_some(pickled)} may run code when opened and is not read: convert it to safetensors" if pickled else ""
    raise WeightsError(f"{folder} has neither {SINGLE} nor {INDEX}{more}")


def _check(folder: Path, config: ModelConfig, wanted: tuple[Tensor, ...], parts: Mapping[str, Held]) -> None:
    shapes = {name: tensor.shape for tensor in wanted for name in _names(tensor, config.layers)}
    spare = {HEAD} if config.tied else set()  # some files repeat the embedding as the head
    missing = [name for name in shapes if name not in parts]
    unexpected = [n for n in parts if n not in shapes and n not in spare and not n.endswith("rotary_emb.inv_freq")]
    wrong, kinds = [], []
    for name in shapes:
        if name in parts:
            held = parts[name]
            if held.shape != shapes[name]:
                wrong.append(f"{name} is {list(held.shape)}, not {list(shapes[name])}")
            if held.dtype not in DTYPES:
                kinds.append(f"{name} is {held.dtype}")
    said = {"missing": missing, "unexpected": unexpected, "mis-shaped": wrong, "quantised": kinds}
    if any(said.values()):
        listed = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in said.items() if names)
        raise WeightsError(f"{folder} does not hold the model of its config.json. {listed}")
    if config.tied and HEAD in parts and not _same(parts[HEAD], parts[wanted[0].name]):
        raise WeightsError(
            f"{folder}: config.json ties the head to the embedding, but {HEAD} is another matrix; say "
            '"tie_word_embeddings": false to use it, or remove the tensor'
        )


def _same(one: Held, other: Held) -> bool:
    """Whether two matrices in files are equal, a few rows at a time."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    spans = ((slice(at, min(at + ROWS, one.shape[0])),) for at in range(0, one.shape[0], ROWS))
    return all(one[span].tobytes() == other[span].tobytes() for span in spans)


def _names(tensor: Tensor, layers: int) -> list[str]:
    return [tensor.name.format(layer=i) for i in range(layers)] if tensor.stacked else [tensor.name]


def _array(tensor: Tensor, layers: int, parts: Mapping[str, Held], dtype: np.dtype, sharding) -> jax.Array:
    names = _names(tensor, layers)
    shape = tensor.shape[::-1] if tensor.transposed else tensor.shape
    shape = (layers, *shape) if tensor.stacked else shape

    def read(name: str, index: tuple[slice, ...]) -> np.ndarray:
        part = parts[name][index[::-1] if tensor.transposed else index]
        with np.errstate(over="ignore"):  # a number that is too large becomes infinite, and is named below
            part = (part.T if tensor.transposed else part).astype(dtype, copy=False)
        if not (finite := np.isfinite(part)).all():
            raise WeightsError(
                f"{parts[name].path}: {_some([parts[name].stored])} has {finite.size - finite.sum()} of {finite.size} "
                f"numbers that are not finite in {dtype}; the file is damaged, or its model diverged: take another"
            )
        return part

    def part_of(index: tuple[slice, ...]) -> np.ndarray:
        index = tuple(slice(*i.indices(n)) for i, n in zip(index, shape, strict=True))
        if not tensor.stacked:
            return np.ascontiguousarray(read(names[0], index))
        own = names[index[0]]
        out = np.empty((len(own), *(i.stop - i.start for i in index[1:])), dtype)
        for row, name in enumerate(own):
            out[row] = read(name, index[1:])
        return out

    return jax.make_array_from_callback(shape, sharding, part_of)


def _at(tree: Any, path: tuple[str, ...]):
    for key in path:
        tree = tree[key]
    return tree


def _some(names: list[str]) -> str:
    names = [name[:200].encode("unicode_escape").decode() for name in names]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
