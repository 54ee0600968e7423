"""Parameters to a folder that Transformers and vLLM load: config, safetensors with an index, tokenizer files beside."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.families import published_config, text_part
from jaxsrl.models.load import INDEX, SINGLE
from jaxsrl.models.names import Tensor, tensors
from jaxsrl.types import Params

DTYPES = ("float32", "bfloat16", "float16")


def save_weights(
    folder: Path, config: ModelConfig, params: Params, *, dtype: str, length: int = 32_768,
    source: Mapping[str, Any] | None = None, shard_bytes: int = 5 * 10**9,
) -> None:  # fmt: skip
    """Writes a new folder; it appears whole or not at all.

    Args:
      dtype: of the tensors in the files.
      length: `max_position_embeddings` where `source` does not say it.
      source: the `config.json` that the weights once came with; keys that describe no size, such as the ids of special
        tokens, are kept from it. Of a model of images and text, the text model is written.
      shard_bytes: size above which a further file is begun.
    Raises: FileExistsError if the folder exists; ValueError if no published family has the model's settings.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; name a new folder")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    kind = jnp.dtype(dtype)
    source = text_part(source or {})
    kept = {key: value for key, value in source.items() if key not in RESTATED}
    length = source.get("max_position_embeddings", length)
    said = kept | published_config(config, length) | {"torch_dtype": dtype}
    building = folder.with_name(folder.name + ".partial")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    (building / "config.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    shards = _shards(config, params, kind.itemsize, shard_bytes)
    listed: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        held = {theirs: _tensor(params, tensor, layer, kind) for theirs, tensor, layer in shard}
        save_file(held, building / name, metadata={"format": "pt"})
        listed |= dict.fromkeys(held, name)
    if len(shards) > 1:
        total = sum(_bytes(t, kind.itemsize) for shard in shards for _, t, _ in shard)
        index = {"metadata": {"total_size": total}, "weight_map": listed}
        (building / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    os.replace(building, folder)


# Said anew by `published_config`, in the older of two ways; the newer way must not contradict it.
RESTATED = (
    "rope_parameters", "layer_types", "dtype", "sliding_window_pattern", "_sliding_window_pattern",
    "original_max_position_embeddings", "partial_rotary_factor",
)  # fmt: skip


def _shards(config: ModelConfig, params: Params, item: int, most: int) -> list[list[tuple[str, Tensor, int | None]]]:
    shards: list[list[tuple[str, Tensor, int | None]]] = [[]]
    used = 0
    for tensor in tensors(config):
        for layer in range(config.layers) if tensor.stacked else [None]:
            size = _bytes(tensor, item)
            if shards[-1] and used + size > most:
                shards.append([])
                used = 0
            shards[-1].append((tensor.name.format(layer=layer), tensor, layer))
            used += size
    return shards


def _bytes(tensor: Tensor, item: int) -> int:
    return int(np.prod(tensor.shape)) * item


def _tensor(params: Params, tensor: Tensor, layer: int | None, dtype) -> np.ndarray:
    value: Any = params
    for key in tensor.path:
        value = value[key]
    value = np.asarray(jax.device_get(value if layer is None else value[layer])).astype(dtype)
    return np.ascontiguousarray(value.T if tensor.transposed else value)
