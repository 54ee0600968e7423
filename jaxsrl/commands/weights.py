"""Weights out of a run, and a check of weights that came from elsewhere."""

import shutil
import zlib
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrl.checkpoint import Checkpoints, fingerprint
from jaxsrl.commands.run_folder import check_run, choose_policy
from jaxsrl.config.saved import model_from
from jaxsrl.data.tokenizer_files import Text, finish_files
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.families import WeightsError, read_config
from jaxsrl.models.load import load_weights
from jaxsrl.models.lora import LoRA, init_adapters, merged
from jaxsrl.models.save import save_weights
from jaxsrl.models.transformer import forward, head_matrix, init_params
from jaxsrl.policy import first_ancestor, first_params
from jaxsrl.runs import RunError, check_base, read_json
from jaxsrl.types import Params


def convert(run: Path, to: Path, policy: str | None, dtype: str, length: int) -> str:
    """Writes a policy of a run as a folder that Transformers and vLLM load: config, weights, tokenizer, chat template.

    Adapters are merged into their base, which is made or read anew; the run's `weights` must still be there.

    Args:
      policy: `STAGE`, `STAGE:last` or `STAGE:best`; None takes the newest stage's last.
      length: tokens that a server may allow, where the weights that the run started from do not say it.
    Raises: FileNotFoundError where there is no run; RunError where it has no such policy or no tokenizer that others
      can read.
    """
    check_run(run)
    if not (run / "tokenizer").is_dir():
        raise RunError(f"{run} was trained with used_ids_only=true: its ids are its own, no tokenizer file has them")
    config, params, chosen = saved_policy(run, policy)
    source = read_json(run / "weights_config.json") if (run / "weights_config.json").exists() else None
    save_weights(to, config, params, dtype=dtype, length=length, source=source)
    for path in sorted((run / "tokenizer").iterdir()):
        shutil.copyfile(path, to / path.name)
    if (run / "text.json").is_file():
        said = read_json(run / "text.json")
        finish_files(to, Text(**{key: _tuples(value) for key, value in said.items()}))
    return f"{to}: {chosen} of {run} in {dtype}"


def saved_policy(run: Path, policy: str | None) -> tuple[ModelConfig, Params, str]:
    """A policy of a run folder, adapters merged: its model, parameters in float32, and its name.

    Raises: RunError naming those that exist, or the folder where it is no run.
    """
    check_run(run)
    config, saved = model_from(read_json(run / "model.json")), read_json(run / "config.json")
    stages = [stage["name"] for stage in saved["stages"]]
    checkpoints = Checkpoints(run / "checkpoints")
    try:
        chosen = choose_policy(checkpoints, stages, policy)
        lora, key = lora_from(saved), jax.random.key(0)
        make = partial(init_params, config) if lora is None else partial(init_adapters, config, lora)
        params = checkpoints.restore_policy(chosen, jax.eval_shape(make, key))
    finally:
        checkpoints.close()
    if lora is not None:
        params = merged(lora, _base(run, config, saved, chosen.stage), params)
    return config, params, str(chosen)


def _base(run: Path, config: ModelConfig, saved: dict[str, Any], name: str) -> Params:
    """What lies under the adapters of a stage, in float32."""
    index = first_ancestor({stage["name"]: stage["start_from"] for stage in saved["stages"]}, name)
    base = first_params(config, saved["seed"], index, saved["weights"])
    if saved["weights"] is not None:
        check_base(run, fingerprint(base), saved["weights"])
    return base


def lora_from(saved: dict[str, Any]) -> LoRA | None:
    """The adapters' settings in a run's `config.json`; runs from before there were any have none."""
    said = saved.get("lora")
    return None if said is None else LoRA(**{f.name: _tuples(said[f.name]) for f in fields(LoRA)})


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def check_weights(folder: Path, reference: Path, tolerance: float) -> str:
    """Compares logits with those of another implementation, in float32.

    Args:
      reference: NPZ with `ids` [B T] int32, `logits` [B T V] float32, and where rows are padded, `mask` [B T], 0 or
        False at padding, on either side; there logits are not compared.
      tolerance: on the largest error, as a share of the largest logit.
    Raises: WeightsError if the reference does not fit; RunError if the error is above the tolerance.
    """
    config = replace(read_config(folder), dtype="float32")
    ids, want, real = _reference(reference, config)
    params = load_weights(folder, config)
    position = jnp.broadcast_to(jnp.arange(ids.shape[1], dtype=jnp.int32)[None], ids.shape)
    enter, leave = (jnp.asarray(np.where(real, at, -1), jnp.int32) for at in (0, 1))
    with jax.default_matmul_precision("highest"):
        hidden = jax.jit(partial(forward, config))(params, jnp.asarray(ids), position, enter, leave)
        made = np.asarray(jax.jit(jnp.matmul)(hidden, head_matrix(config, params)))
    error, scale = float(np.abs(made - want)[real].max()), float(np.abs(want[real]).max())
    said = f"max abs error {error:.3g}, scale {scale:.3g}, error / scale {error / scale:.3g}, tolerance {tolerance:g}"
    if not error <= tolerance * scale:
        raise RunError(f"{folder} does not give the logits of {reference}: {said}")
    return said


def _reference(path: Path, config: ModelConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ids, logits, and where they are no padding."""
    try:
        with np.load(path, allow_pickle=False) as file:
            ids, logits = file["ids"].astype(np.int32), file["logits"].astype(np.float32)
            real = file["mask"].astype(bool) if "mask" in file else np.ones(ids.shape, bool)
    except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile, zlib.error, MemoryError) as error:
        raise WeightsError(f"{path} is no NPZ file with ids [B T] and logits [B T V]: {error}") from error
    if ids.ndim != 2 or logits.shape != (*ids.shape, config.vocab) or real.shape != ids.shape:
        raise WeightsError(
            f"{path}: ids {ids.shape}, logits {logits.shape} and mask {real.shape} do not fit each other and a "
            f"vocabulary of {config.vocab}"
        )
    if not real.any() or ids.min() < 0 or ids.max() >= config.vocab:
        raise WeightsError(f"{path}: ids must be in 0..{config.vocab - 1}, and some of them no padding")
    if not np.isfinite(logits[real]).all() or not logits[real].any():
        raise WeightsError(f"{path}: logits must be finite, and not all of them 0")
    return ids, logits, real
