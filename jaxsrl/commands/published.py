"""A published model as a policy: weights, tokenizer and chat template of its folder, without a config."""

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import jax

from jaxsrl.commands.policy import Asked
from jaxsrl.config.run import ConfigError
from jaxsrl.data.chat import SOLVE_INSTRUCTION, Kind, Template, check_marks
from jaxsrl.data.tokenizer import load_tokenizer
from jaxsrl.models.families import read_config
from jaxsrl.models.load import load_weights
from jaxsrl.models.transformer import init_params, rollout_copy
from jaxsrl.policy import Compiled, make_placement, make_policy
from jaxsrl.sharding import MeshShape, state_sharding


@dataclass(frozen=True, kw_only=True)
class Published:
    """How a folder of published weights is read.

    Args:
      kind: of the chat template; `auto` is the folder's own.
      system: the system text; None is the usual one for whole solutions, empty the family's own.
      dtype: of activations and products; None: bfloat16 on an accelerator, float32 on a CPU.
      mesh: devices, of one process.
    """

    folder: Path
    kind: Kind = "auto"
    system: str | None = None
    dtype: Literal["float32", "bfloat16"] | None = None
    mesh: MeshShape = MeshShape()


def load_published(published: Published) -> Asked:
    """The model of a folder, ready to be asked.

    Raises: WeightsError, ValueError naming the file that is missing or cannot be read, or the chat template that is of
      no known family.
    """
    folder = published.folder
    if not folder.is_dir():
        raise ConfigError(f"--weights {folder}: no such folder; it holds config.json, safetensors and a tokenizer")
    kind = None if published.kind == "auto" else published.kind
    system = SOLVE_INSTRUCTION if published.system is None else published.system
    template = Template(kind=published.kind, solve_system=system)
    tokenizer = load_tokenizer(folder, template=kind)
    check_marks(template, tokenizer)
    dtype = published.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    model = replace(read_config(folder), dtype=dtype)
    if model.vocab < tokenizer.vocab_size:
        raise ConfigError(f"{folder}: its tokenizer has {tokenizer.vocab_size} tokens, its model {model.vocab}")
    placement = make_placement(published.mesh, published.mesh)
    where = None
    if placement.mesh is not None:
        where = state_sharding(placement.mesh, jax.eval_shape(lambda: init_params(model, jax.random.key(0))))
    # In the dtype of the products at once: what is only asked needs no float32 beside it.
    params = jax.jit(partial(rollout_copy, model))(load_weights(folder, model, sharding=where))
    policy = make_policy(
        model, params, None, None, placement, tokenizer.ends, Compiled(), known=tokenizer.vocab_size
    )  # fmt: skip
    shown = tokenizer.template if published.kind == "auto" else published.kind
    return Asked(
        name=f"{folder} ({shown} template, {dtype})", short=folder.resolve().name, folder=folder, policy=policy,
        tokenizer=tokenizer, template=template, rows=published.mesh.row_parts,
    )  # fmt: skip


def context(folder: Path) -> int | None:
    """Tokens that a model's folder says it was trained to see, prompt and completion together; None if it does not."""
    path = folder / "config.json"
    said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = said.get("max_position_embeddings")
    return found if type(found) is int else None
