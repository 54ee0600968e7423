"""Checkpoint folders of tiny random models, and the logits that Transformers computed for them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from jaxsrl.models.families import model_config
from jaxsrl.models.load import INDEX, SINGLE
from jaxsrl.models.names import tensors

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("make_reference", HERE / "make_reference.py")
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)
CASES = tuple(reference.CASES)


def golden(case: str) -> dict[str, np.ndarray]:
    """`ids` [B T], `length` [B], `logits` [B T V]."""
    with np.load(HERE / "golden" / f"{case}.npz") as file:
        return dict(file)


def drawn(case: str) -> dict[str, np.ndarray]:
    """Every tensor of a case by its published name."""
    config = model_config(reference.published(case))
    found = {}
    for tensor in tensors(config):
        for layer in range(config.layers if tensor.stacked else 1):
            name = tensor.name.format(layer=layer)
            found[name] = reference.draw(case, name, tensor.shape)
    return found


def checkpoint(folder: Path, case: str, *, files: int = 1) -> Path:
    """Writes a case as one file, or as several with an index."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(reference.published(case)))
    held = drawn(case)
    if files == 1:
        save_file(held, folder / SINGLE, metadata={"format": "pt"})
        return folder
    listed = {}
    for n in range(files):
        names, file = list(held)[n::files], f"model-{n + 1:05d}-of-{files:05d}.safetensors"
        save_file({name: held[name] for name in names}, folder / file, metadata={"format": "pt"})
        listed |= dict.fromkeys(names, file)
    (folder / INDEX).write_text(json.dumps({"weight_map": listed}))
    return folder
