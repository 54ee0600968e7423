"""Everything a run is, on disk: resumable states, and policies kept for later stages."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxsrl.processes import fetch, is_first
from jaxsrl.types import Params, TrainState


def _plain(state: TrainState) -> dict[str, Any]:
    """The state as a tree of arrays; a typed key is stored as its words."""
    return vars(state) | {"key": jax.random.key_data(state.key)}


def abstract(tree: Any) -> Any:
    """Shapes, dtypes and where to put them: what says nothing goes to the first device, wherever it was saved from."""
    first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    where = lambda x: s if isinstance(s := getattr(x, "sharding", None), jax.sharding.Sharding) else first
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where(x)), tree)


class Checkpoints:
    """The `checkpoints/` folder of a run.

    `resume/N` is the Nth save of the run: its state, and a record of everything that is no array;
    Orbax writes it beside the run and renames it when it is complete, so a kill leaves the one before. `policy/NAME`
    holds parameters alone.
    """

    def __init__(self, folder: Path, *, keep: int = 2):
        self.folder = Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True, create=True)
        self._resume = ocp.CheckpointManager(self.folder / "resume", options=options)
        self._policy = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler())

    def save(self, count: int, state: TrainState, record: Mapping[str, Any]) -> None:
        """Starts saving; returns once the arrays are copied. Policies saved before are complete first."""
        self._policy.wait_until_finished()
        args = ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), record=ocp.args.JsonSave(dict(record)))
        if not self._resume.save(count, args=args, force=True):
            raise RuntimeError(f"checkpoint {count} was not saved under {self.folder / 'resume'}")

    def latest(self) -> int | None:
        """Number of the newest complete checkpoint."""
        return self._resume.latest_step()

    def record(self, count: int) -> dict[str, Any]:
        """What checkpoint `count` knows beside arrays."""
        return self._resume.restore(count, args=ocp.args.Composite(record=ocp.args.JsonRestore()))["record"]

    def restore(self, count: int, like: TrainState) -> TrainState:
        """The state of checkpoint `count`; `like` gives shapes, dtypes and shardings."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract(_plain(like))))
        plain = self._resume.restore(count, args=args)["state"]
        return replace(like, **plain | {"key": jax.random.wrap_key_data(plain["key"])})

    def save_policy(self, name: str, params: Params) -> None:
        """Starts saving parameters under a name; a policy of that name is replaced."""
        self._policy.wait_until_finished()
        self._policy.save(self.folder / "policy" / name, args=ocp.args.StandardSave(params), force=True)

    def restore_policy(self, name: str, like: Params) -> Params:
        """Parameters saved under a name.

        Raises: FileNotFoundError naming those that exist.
        """
        self._policy.wait_until_finished()
        path = self.folder / "policy" / name
        if not path.exists():
            raise FileNotFoundError(
                f"no policy {name!r} in {path.parent}; there are: {', '.join(self.policies()) or 'none'}"
            )
        return self._policy.restore(path, args=ocp.args.StandardRestore(abstract(like)))

    def policies(self) -> list[str]:
        """Names of complete policies; what a kill left half-written carries Orbax's temporary suffix."""
        folder = self.folder / "policy"
        return sorted(p.name for p in folder.glob("*") if ".orbax-checkpoint-tmp" not in p.name)

    def drop_policies(self, prefix: str, but: str | None) -> None:
        """Removes the policies whose name begins with `prefix`, one excepted."""
        for name in self.policies() if is_first() else []:
            if name.startswith(prefix) and name != but:
                shutil.rmtree(self.folder / "policy" / name, ignore_errors=True)

    def sweep(self) -> None:
        """Removes what a kill left half-written. Only the process that writes the run may call it."""
        for path in self.folder.glob("*/*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def wait(self) -> None:
        """Returns when everything saved is complete on disk."""
        self._policy.wait_until_finished()
        self._resume.wait_until_finished()

    def close(self) -> None:
        """Waits, and ends Orbax's threads."""
        self.wait()
        self._policy.close()
        self._resume.close()


def state_hash(state: TrainState) -> str:
    """16 hex digits over the bits of every array of a state: equal iff the runs are at the same point."""
    return array_hash(_plain(state))


def array_hash(tree: Any) -> str:
    """16 hex digits over names, dtypes, shapes and bits of a tree's arrays, however its containers are typed."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(fetch(leaf))
        name = "/".join(str(getattr(p, "key", getattr(p, "idx", getattr(p, "name", p)))) for p in path)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def fingerprint(params: Params) -> str:
    """16 hex digits over the bits of 32-bit parameters, added up where they lie: the same on every mesh, and quick.

    It tells files apart that were exchanged; against one who means to deceive it is no protection.
    """
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    sums = jax.device_get(jax.jit(lambda leaves: [_mixed(x) for x in leaves])(jax.tree.leaves(params)))
    said = " ".join(f"{name} {int(value)}" for name, value in zip(names, sums, strict=True))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _mixed(x: jax.Array) -> jax.Array:
    """Sum of bits times an odd number of their place, modulo 2^32: any order of adding gives the same."""
    place = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        place = place * size + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    return jnp.sum(jax.lax.bitcast_convert_type(x, jnp.uint32) * (2 * place + 1), dtype=jnp.uint32)
