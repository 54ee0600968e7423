"""Everything a run is, on disk: resumable states, and policies kept for later stages."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxsrl.checksums import NAME as CHECKSUMS
from jaxsrl.checksums import damage, write_sums
from jaxsrl.processes import any_process, fetch, from_each, is_first
from jaxsrl.types import Params, TrainState

UNDER_WAY = ".orbax-checkpoint-tmp"  # behind the name of what is being written
FORMAT = 2  # of the folder `checkpoints/`. 1: policies lay in one folder, and the optimizer counted schedule steps


class CheckpointError(RuntimeError):
    """What was saved cannot be used; the message names the file and what to do."""


class SaveError(RuntimeError):
    """A save did not come to its end: nothing of it is visible, and what was saved before is as it was."""


@dataclass(frozen=True)
class PolicyName:
    """Which parameters of a run: those that a stage ended with (`last`), or its best ones in validation (`best`).

    Stage names have no colon and no slash, so both spellings are read in one way: for a user `srl:last`, `srl:best` and
    `srl:best-12`, on disk a folder per stage, `srl/last` and `srl/best-000000012`.

    Args:
      step: of a best one, the optimizer steps before it; None asks for the newest best, and names no folder.
    """

    stage: str
    which: Literal["last", "best"]
    step: int | None = None

    def __post_init__(self):
        if self.which not in ("last", "best") or (self.which == "last" and self.step is not None):
            raise ValueError(f"a policy is last, or best with a step, got {self.which!r} with step={self.step}")

    def __str__(self) -> str:
        return f"{self.stage}:{self.which}" + ("" if self.step is None else f"-{self.step}")

    @property
    def folder(self) -> str:
        """Path under `policy/`."""
        if self.which == "best" and self.step is None:
            raise ValueError(f"{self} names no folder: a best policy has the step it was found at")
        return f"{self.stage}/{self.which}" + ("" if self.step is None else f"-{self.step:09d}")

    @staticmethod
    def of_folder(path: str) -> "PolicyName | None":
        """The name whose `folder` it is; None for what is none, such as a save that was cut off."""
        found = re.fullmatch(r"([^/]+)/(?:last|best-(\d{9,}))", path)
        if found is None:
            return None
        return PolicyName(found[1], "best", int(found[2])) if found[2] else PolicyName(found[1], "last")

    @staticmethod
    def parse(text: str) -> "PolicyName":
        """`STAGE`, `STAGE:last`, `STAGE:best` or `STAGE:best-STEP`; a stage alone means its last.

        Raises: ValueError if it is none of these.
        """
        found = re.fullmatch(r"([^:/]+)(?::(?:last|(best)(?:-(\d+))?))?", text)
        if found is None:
            raise ValueError(f"a policy is STAGE, STAGE:last, STAGE:best or STAGE:best-STEP, got {text!r}")
        return PolicyName(found[1], "best" if found[2] else "last", int(found[3]) if found[3] else None)


def parse_old(text: str, stages: Sequence[str]) -> PolicyName | None:
    """What `STAGE-last` or `STAGE-best-STEP`, as version 0.1 wrote them, means among stages; None if nothing."""
    found = re.fullmatch(r"(.+?)-(?:last|best-(\d{9,}))", text)
    if found is None or found[1] not in stages:
        return None
    return PolicyName(found[1], "best", int(found[2])) if found[2] else PolicyName(found[1], "last")


def _plain(state: TrainState) -> dict[str, Any]:
    """The state as a tree of arrays, without what it does not have; a typed key is stored as its words."""
    there = {name: value for name, value in vars(state).items() if value is not None}
    return there | {"key": jax.random.key_data(state.key)}


def abstract(tree: Any) -> Any:
    """Shapes, dtypes and where to put them: what says nothing goes to the first device, wherever it was saved from."""
    first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    where = lambda x: s if isinstance(s := getattr(x, "sharding", None), jax.sharding.Sharding) else first
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where(x)), tree)


class Checkpoints:
    """The `checkpoints/` folder of a run.

    `resume/N` is the Nth save of the run: its state, and a record of everything that is no array;
    Orbax writes it beside the run and renames it when it is complete, so a kill leaves the one before. `policy/` holds
    parameters alone, see `PolicyName`. Before the renaming `checksums.json` is written into each, of all its files.

    Args:
      noted: told the number and the record of each save that is known to be complete; in the first process alone.
    Raises: ValueError if they are of another format.
    """

    def __init__(
        self, folder: Path, *, keep: int = 2, noted: Callable[[int, Mapping[str, Any]], None] = lambda *_: None
    ):
        self.folder = Path(folder).absolute()
        check_format(self.folder)
        if is_first() and not (path := self.folder / "format.json").exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = path.with_suffix(".tmp")
            whole.write_text(json.dumps({"format": FORMAT}) + "\n")
            whole.rename(path)
        self._keep, self._noted = keep, noted
        self._saving: tuple[int, dict[str, Any]] | None = None  # what `_resume` is writing, or has written unnoted
        self.failures = 0  # saves in a row that failed; who saves counts them
        self._paths: dict[str, Path] = {}  # what each of the two is writing
        self._open()

    def _open(self) -> None:
        def sums(kind: str) -> ocp.AsyncOptions:
            """Called when all else is written, before the renaming."""

            def write() -> None:
                written = self._paths[kind]
                for path in written.parent.iterdir():  # a pattern for each save would be kept, compiled
                    if path.name.startswith(f"{written.name}{UNDER_WAY}"):
                        write_sums(path)

            return ocp.AsyncOptions(post_finalization_callback=write)

        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep, enable_async_checkpointing=True, create=True, async_options=sums("resume")
        )
        self._resume = ocp.CheckpointManager(self.folder / "resume", options=options)
        self._policy = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler(), async_options=sums("policy"))

    def save(self, count: int, state: TrainState, record: Mapping[str, Any]) -> None:
        """Starts saving; returns once the arrays are copied. Whatever was saved before is complete first.

        Raises: SaveError where this save cannot begin or one before it failed, however long ago.
        """
        self.wait()
        args = ocp.args.Composite(state=ocp.args.StandardSave(_plain(state)), record=ocp.args.JsonSave(dict(record)))
        self._saving = count, dict(record)
        self._paths["resume"] = self.folder / "resume" / str(count)
        try:
            if not self._resume.save(count, args=args, force=True):
                raise RuntimeError(f"checkpoint {count} was not saved under {self.folder / 'resume'}")
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Leaves what failed, so that a later save finds nothing of it."""
        self._saving = None
        for one in (self._resume, self._policy):
            with suppress(Exception):  # said already
                one.close()
        if is_first():
            self.sweep()
        self._open()
        raise SaveError(f"{self.folder}: {_reason(error)}") from error

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

    def save_policy(self, name: PolicyName, params: Params) -> None:
        """Starts saving parameters under a name; a policy of that name is replaced."""
        try:
            self._policy.wait_until_finished()
            self._paths["policy"] = self.folder / "policy" / name.folder
            self._policy.save(self._paths["policy"], args=ocp.args.StandardSave(params), force=True)
        except Exception as error:
            self._give_up(error)

    def restore_policy(self, name: PolicyName, like: Params) -> Params:
        """Parameters saved under a name; a best one without a step is the newest.

        Raises: FileNotFoundError naming those that exist; CheckpointError naming a file that was damaged since.
        """
        self._policy.wait_until_finished()
        path = self.folder / "policy" / self.find(name).folder
        if wrong := damage_of(path):
            raise CheckpointError(
                f"policy {name} is damaged: {'; '.join(wrong)}. Put the file back, or train that stage again under "
                "another name (--set name=...)"
            )
        return self._policy.restore(path, args=ocp.args.StandardRestore(abstract(like)))

    def find(self, name: PolicyName) -> PolicyName:
        """The policy that a name asks for, with its step.

        Raises: FileNotFoundError naming those that exist.
        """
        there = self.policies()
        found = [p for p in there if p == name or name.step is None and (p.stage, p.which) == (name.stage, name.which)]
        if not found:
            known = ", ".join(map(str, there)) or "none yet"
            raise FileNotFoundError(f"no policy {str(name)!r} in {self.folder / 'policy'}; there are: {known}")
        return found[-1]

    def policies(self) -> list[PolicyName]:
        """Names of complete policies, a stage's best ones by step."""
        folder = self.folder / "policy"
        names = (PolicyName.of_folder(path.relative_to(folder).as_posix()) for path in folder.glob("*/*"))
        return sorted((n for n in names if n is not None), key=lambda n: (n.stage, n.which, n.step or 0))

    def drop_best(self, stage: str, but: PolicyName | None) -> None:
        """Removes a stage's best policies, one excepted."""
        for name in self.policies() if is_first() else []:
            if (name.stage, name.which) == (stage, "best") and name != but:
                shutil.rmtree(self.folder / "policy" / name.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Removes what a kill left half-written. Only the process that writes the run may call it."""
        for pattern in ("resume/*", "policy/*/*"):
            for path in self.folder.glob(f"{pattern}{UNDER_WAY}*"):
                shutil.rmtree(path, ignore_errors=True)

    def wait(self) -> None:
        """Returns when everything saved is complete on disk, of all processes; each of them calls it.

        Raises: SaveError, in all of them, where it is not.
        """
        failed = None
        try:
            self._policy.wait_until_finished()
            self._resume.wait_until_finished()
        except Exception as error:
            failed = error
        if any_process(failed is not None):
            self._give_up(failed or RuntimeError("another process could not write its part"))
        if self._saving is not None:
            self.failures = 0
            if is_first():
                self._noted(*self._saving)
        self._saving = None

    def close(self) -> None:
        """Waits, and ends Orbax's threads."""
        self._policy.wait_until_finished()
        self._resume.wait_until_finished()
        if self._saving is not None and is_first():
            self._noted(*self._saving)
        self._policy.close()
        self._resume.close()


def _reason(error: Exception) -> str:
    """The system's words, where Orbax's long ones have them; else the beginning of those."""
    text = " ".join(str(error).split()) or type(error).__name__
    codes = errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE
    found = [os.strerror(code) for code in codes if os.strerror(code) in text]
    return found[0] if found else text if len(text) < 200 else text[:200] + " …"


def damage_of(folder: Path) -> list[str]:
    """What is wrong with a saved folder, told to all processes, each of which reads its part of the files.

    One without checksums, of an older version, has nothing that could be wrong.
    """
    mine = lambda: damage(folder, jax.process_index(), jax.process_count()) if (folder / CHECKSUMS).exists() else []
    return list(dict.fromkeys(line for lines in from_each(mine) for line in lines))


def check_format(folder: Path) -> None:
    """Raises where the checkpoints in `folder` are not of this version's format; empty ones are.

    Raises: ValueError, or CheckpointError where the file that says so is damaged.
    """
    path = folder / "format.json"
    if path.exists():
        try:
            found = int(json.loads(path.read_text())["format"])
        except (ValueError, KeyError, TypeError) as error:
            text = f'{{"format": {FORMAT}}}'
            raise CheckpointError(f"{path} is damaged; if this version began the run, write {text} into it") from error
    else:
        found = 1 if any(folder.glob("resume/*")) or any(folder.glob("policy/*")) else FORMAT
    if found != FORMAT:
        raise ValueError(
            f"{folder} has checkpoints of format {found}, this version has {FORMAT}: go on with the version of jaxsrl "
            "that began the run, or start it anew under another name (--set name=...)"
        )


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
