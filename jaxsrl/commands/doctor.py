"""What this machine offers and where a run stands."""

import json
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from jaxsrl.checkpoint import abstract, array_hash, check_format, damage_of
from jaxsrl.commands.goodput import goodput
from jaxsrl.metrics import read
from jaxsrl.ops.similarity import default_backend
from jaxsrl.runs import RunError, environment, read_json, run_folder


def machine() -> str:
    """Versions, devices and flags, one line each, and what compares the steps of SRL here."""
    return json.dumps(environment() | {"similarity": default_backend()}, indent=1)


def run_state(folder: Path) -> str:
    """Stage, step and the hash of the state a run would resume from.

    Raises: FileNotFoundError where there is no run; RunError naming what of it is missing.
    """
    config = read_json(run_folder(folder) / "config.json")
    root = (folder / "checkpoints" / "resume").absolute()
    if not root.is_dir():
        raise RunError(f"{root} is missing: the run has saved nothing yet")
    check_format(root.parent)
    handlers = {"state": ocp.StandardCheckpointHandler(), "record": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(root, item_handlers=handlers) as manager:
        count = manager.latest_step()
        if count is None:
            raise RunError(f"{root} holds no complete checkpoint: the run has saved nothing yet")
        if wrong := damage_of(root / str(count)):
            raise RunError(f"checkpoint {count} is damaged: {'; '.join(wrong)}. `train` goes on from the one before it")
        # Whatever devices and processes it was saved by, it is read to one of them.
        like = abstract(manager.item_metadata(count)["state"])
        args = ocp.args.Composite(state=ocp.args.StandardRestore(like), record=ocp.args.JsonRestore())
        saved = manager.restore(count, args=args)
    record = saved["record"]
    attempts = len(list((folder / "logs").glob("attempt_*")))
    lines = {
        "run": config.get("name"),
        "stage": record["stage"],
        "step": record["step"],
        "done": record["done"],
        "attempts": attempts,
        "metrics lines": len(read(folder / "metrics.jsonl")),
        "parameters": sum(np.size(x) for x in _leaves(saved["state"]["params"])),
        "adapters": "none" if config.get("lora") is None else f"rank {config['lora']['rank']}, trained alone",
        "state": array_hash(saved["state"]),
    }
    if told := goodput(folder):
        lines["time"] = told
    return "\n".join(f"{name}: {value}" for name, value in lines.items())


def _leaves(tree) -> list:
    return [leaf for value in tree.values() for leaf in _leaves(value)] if isinstance(tree, dict) else [tree]
