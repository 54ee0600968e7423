"""A run's folder: who holds it, what it was started with, on what machine, and how often it was taken up again."""

import difflib
import fcntl
import json
import logging
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
import tensorstore

from jaxsrl.checkpoint import Checkpoints, check_format
from jaxsrl.console import Console
from jaxsrl.metrics import PER_PROCESS, Journal, NoJournal, process_file
from jaxsrl.mirrors import Mirrors
from jaxsrl.processes import Stopped, broadcast_from_first, from_all, is_first
from jaxsrl.redact import redacted
from jaxsrl.resumable import choose, note_save
from jaxsrl.watchdog import Watchdog

DETERMINISTIC = ("metrics.jsonl", "rollouts/*.jsonl", "evals/*.jsonl", "problems/*.jsonl")  # cut on resume
PLACE = ("CACHE", "COORDINATOR", "PROCESS")  # flags that say where a process runs; no bit depends on them
PACKAGES = ("jaxsrl", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


class RunError(RuntimeError):
    """The run folder cannot be used; the message names it and the fix."""


class OtherInputs(RunError, ValueError):
    """The run was begun on other data or weights: the same command will be wrong the next time too."""


class NoPlace(RunError, ValueError):
    """There can be no folder where the run is to have one."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """An open run folder. `count` and `record` are those of the checkpoint the attempt starts from."""

    folder: Path
    attempt: int
    journal: Journal  # writes in the first process alone
    rollout_journal: Journal  # of this process's own rollouts
    checkpoints: Checkpoints
    console: Console
    mirrors: Mirrors
    watch: Watchdog
    count: int | None
    record: dict[str, Any] | None

    def timing(self, line: Mapping[str, Any]) -> None:
        """A line of clock readings; these differ from attempt to attempt and are never cut."""
        if not is_first():
            return
        with (
            suppress(OSError),
            (self.folder / "timing.jsonl").open("a") as file,
        ):  # a full disk is said by the next save
            file.write(json.dumps({"attempt": self.attempt, **line}) + "\n")

    def flush(self) -> None:
        """Makes what this process wrote durable. Raises OSError naming the file that the disk does not take."""
        self.journal.offsets()
        self.rollout_journal.offsets()


def environment() -> dict[str, Any]:
    """What the bits of a run depend on: versions, device kind and count, visible cores, flags."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    flags = {name: value for name, value in sorted(os.environ.items()) if name.startswith(("XLA_", "JAX_", "LIBTPU_"))}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": [d.device_kind for d in jax.devices()],
        "processes": jax.process_count(),
        "versions": versions,
        "flags": redacted({name: value for name, value in flags.items() if not any(w in name for w in PLACE)}),
        "commit": commit(Path(__file__).parent),
    }


def commit(package: Path) -> str | None:
    """The commit of the code in a folder, with `+changes` where files differ from it; None where git does not keep it.

    A folder that is installed within somebody else's repository is not that repository's.
    """

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(package), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if not git("ls-files", "__init__.py"):
        return None
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
    head = git("rev-parse", "HEAD")
    return head and head + ("+changes" if changed else "")


def run_folder(folder: Path) -> Path:
    """The folder, which holds a run.

    Raises: FileNotFoundError naming it, and what is there instead, where it does not.
    """
    if (folder / "config.json").is_file() or (folder / "metrics.jsonl").is_file():
        return folder
    if folder.is_dir():
        raise FileNotFoundError(f"{folder} is no run folder: it has neither config.json nor metrics.jsonl")
    there = sorted(path.parent.name for path in folder.parent.glob("*/config.json"))
    near = difflib.get_close_matches(folder.name, there, 1)
    known = f"; did you mean {folder.parent / near[0]}?" if near else f"; {folder.parent} has: " + ", ".join(there)
    raise FileNotFoundError(f"there is no run folder {folder}" + (known if there else ""))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """Raises RunError naming the file where it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: {error}. The folder is no run, or its file was damaged") from error


def check_base(folder: Path, found: str, weights: str) -> None:
    """Notes once which published parameters a run's adapters lie on, and compares from then on.

    Args:
      found: their `checkpoint.fingerprint`.
    Raises: OtherInputs if they are others.
    """
    path = folder / "base.json"

    def note() -> dict[str, Any]:
        if not path.exists():
            write_json(path, {"weights": weights, "fingerprint": found})
        return read_json(path)

    noted = broadcast_from_first(note)
    if noted.get("fingerprint") != found:
        raise OtherInputs(
            f"{folder} has adapters of the weights {noted.get('weights')} with fingerprint {noted.get('fingerprint')}, "
            f"but {weights} has {found}: put the old files back, or use a new name"
        )


@dataclass(frozen=True)
class _Log:
    """The attempt's log; what a full disk does not take is on the terminal all the same."""

    file: TextIO

    def write(self, text: str) -> None:
        with suppress(OSError):
            self.file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.file.flush()


def check_data(folder: Path, files: Mapping[str, str]) -> None:
    """Notes once which data a run is made of, and compares from then on.

    Args:
      files: name -> hash of the content, of this process's copies.
    Raises: OtherInputs naming the first file whose content is another.
    """
    path = folder / "data.json"

    def note() -> dict[str, Any]:
        if not path.exists():
            write_json(path, files)
        return read_json(path)

    noted = broadcast_from_first(note)
    other = [name for name in {**noted, **files} if noted.get(name) != files.get(name)]
    if other:
        raise OtherInputs(
            f"{folder} was started on other data: {other[0]} has changed since"
            + (f", and {len(other) - 1} more" if len(other) > 1 else "")
            + ". Put the old file back, or use a new name (--set name=...)"
        )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """One process at a time writes a run; the lock goes with the process, however it ends."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder} is being written by another process; stop it, or use another name") from None
        yield


@contextmanager
def _orbax_quiet() -> Iterator[None]:
    """Its threads log what fails in them, with stacks; it is all raised too, and said in a line."""
    quiet = lambda record: "orbax" not in record.pathname or bool(os.environ.get("JAXSRL_TRACEBACK"))
    logger = logging.getLogger("absl")
    logger.addFilter(quiet)
    try:
        yield
    finally:
        logger.removeFilter(quiet)


@contextmanager
def _bytes_uncounted() -> Iterator[None]:
    """TensorStore counts no bytes while a run is open, and Orbax, which asks for them twice a save, logs none.

    TensorStore (0.1.72 to 0.1.86) never frees a list that it hands to Python within a JSON value: some 10 KiB a save.
    """
    counted = tensorstore.experimental_collect_matching_metrics
    tensorstore.experimental_collect_matching_metrics = lambda *_, **__: []
    try:
        yield
    finally:
        tensorstore.experimental_collect_matching_metrics = counted


@contextmanager
def _specs_asked_once() -> Iterator[None]:
    """While a run is open, TensorStore is asked for the JSON of a store once a folder; Orbax asks for each array.

    TensorStore (0.1.86) never frees the strings of that answer either: with 30 arrays, 6 KiB a save.
    """
    kind, known = tensorstore.KvStore.Spec, {}
    ask, written = kind.to_json, vars(kind)["to_json"]

    def asked(spec: tensorstore.KvStore.Spec, *args: Any, **options: Any) -> Any:
        key = (repr(spec), args, *options.items())
        found = known.get(key)
        if found is None:
            found = ask(spec, *args, **options)
            known.clear()  # those of earlier saves
            known[key] = found
        return deepcopy(found)

    kind.to_json = asked
    try:
        yield
    finally:
        kind.to_json = written


@contextmanager
def open_run(
    folder: Path, config: dict[str, Any], check: Callable[[dict, dict, Path], None], stream: TextIO | None = None
) -> Iterator[Run]:
    """Starts or takes up the run in `folder`.

    Args:
      config: written where the folder has none; later ones are the caller's to write.
      check: raises if the saved config and this one are not the same run.
      stream: what a person watches; None is the terminal. The attempt's log has the same lines.
    """
    with ExitStack() as held:
        held.enter_context(_orbax_quiet())
        held.enter_context(_bytes_uncounted())
        held.enter_context(_specs_asked_once())
        attempt = broadcast_from_first(lambda: _begin(folder, config, check, held))
        console = Console(silent=True)
        if is_first():
            logs = folder / "logs" / f"attempt_{attempt}"
            log = _Log(held.enter_context((logs / "log.txt").open("a", encoding="utf-8")))
            console = Console(stream=stream, log=log)
            _compare(folder / "environment.json", read_json(logs / "environment.json"), console)
        stacks = folder / "logs" / f"attempt_{attempt}" / f"stacks.{jax.process_index()}.txt"
        watch = Watchdog(
            stacks=stacks, say=console.say, process=jax.process_index(), processes=jax.process_count()
        )  # fmt: skip
        found = choose(folder, _read_again(config))
        for line in found.said:
            console.say(line)
        yield from _opened(folder, attempt, console, watch)


def _begin(folder: Path, config: dict[str, Any], check: Callable[[dict, dict, Path], None], held: ExitStack) -> int:
    """Takes hold of the folder, for as long as `held` lasts, and returns the number of the attempt."""
    _make(folder)
    held.enter_context(_held(folder))
    check_format(folder / "checkpoints")  # before the configs are compared, whose fields may be others too
    path = folder / "config.json"
    if path.exists():
        _check(check, path, config)
    else:
        write_json(path, config)
    numbers = (path.name.removeprefix("attempt_") for path in (folder / "logs").glob("attempt_*"))
    attempt = 1 + max((int(number) for number in numbers if number.isdigit()), default=0)
    logs = folder / "logs" / f"attempt_{attempt}"
    logs.mkdir(parents=True)
    write_json(logs / "environment.json", environment())
    return attempt


def _make(folder: Path) -> None:
    """The folder, which can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        never = isinstance(error, FileExistsError | NotADirectoryError | FileNotFoundError | IsADirectoryError)
        raise (NoPlace if never else RunError)(
            f"the run cannot be written to {folder}: {error.strerror} ({error.filename}). Make room for it there, or "
            "give another folder of runs: --runs FOLDER"
        ) from error


def _check(check: Callable[[dict, dict, Path], None], path: Path, config: dict[str, Any]) -> None:
    saved = read_json(path)
    try:
        check(saved, config, path.parent)
    except (AttributeError, KeyError, TypeError) as error:
        raise RunError(f"{path} is no config of a run, its file was damaged") from error


def _read_again(config: dict[str, Any]) -> Callable[[str], bool]:
    """Whether a later stage reads a file of lines: rollouts that profile its demonstrations."""
    curations = [stage.get("curation") or {} for stage in config.get("stages", ())]
    profiles = {curation.get("profile") for curation in curations} - {None}
    return lambda name: name.startswith("rollouts/") and Path(name).name.split(".")[0] in profiles


def _opened(folder: Path, attempt: int, console: Console, watch: Watchdog) -> Iterator[Run]:
    checkpoints = Checkpoints(folder / "checkpoints", noted=note_save(folder))
    journal = (Journal if is_first() else NoJournal)(folder)
    own = journal if is_first() else Journal(folder)
    try:
        with closing(journal), closing(own):
            count = checkpoints.latest()
            record = checkpoints.record(count) if count is not None else None
            broadcast_from_first(lambda: _cut_back(checkpoints, journal, record))
            if not is_first():
                _open_own(own, record)
            if record:
                console.say(f"resuming {folder} at stage {record['stage']}, step {record['step']} (attempt {attempt})")
            yield Run(
                folder=folder, attempt=attempt, journal=journal, rollout_journal=own, checkpoints=checkpoints,
                console=console, mirrors=Mirrors(), watch=watch, count=count, record=record,
            )  # fmt: skip
    except Exception as error:
        # What is still being saved waits for every process, and one that failed does not wait for those that hang.
        if jax.process_count() == 1 or isinstance(error, Stopped):
            with suppress(Exception):  # the first error is the one to be told of
                checkpoints.close()
        raise
    except BaseException:  # a generator that is closed, an interrupt
        checkpoints.close()
        raise
    checkpoints.close()


def _cut_back(checkpoints: Checkpoints, journal: Journal, record: dict[str, Any] | None) -> None:
    """Leaves on disk what the checkpoint knows."""
    checkpoints.sweep()
    for pattern in DETERMINISTIC:
        journal.cut(record["offsets"] if record else {}, pattern)


def _open_own(journal: Journal, record: dict[str, Any] | None) -> None:
    """What a process that is not the first wrote before, its completions alone: so that each file has an offset."""
    for name in record["offsets"] if record else {}:
        if name.startswith(PER_PROCESS) and name.endswith(f".{jax.process_index()}.jsonl"):
            journal.write(name, [])


def durable(run: Run) -> dict[str, dict[str, int]]:
    """Makes what every process wrote durable. Returns each file's `offsets`, bytes, and `crcs`, in all processes."""
    own = run.journal.offsets() | run.rollout_journal.offsets()
    crcs = run.journal.crcs() | run.rollout_journal.crcs()
    if jax.process_count() == 1:
        return {"offsets": own, "crcs": crcs}
    names = [name for name in {**(run.record or {"offsets": {}})["offsets"], **own} if name.startswith(PER_PROCESS)]
    # The same in every process: each opens its files of a stage, if only to write nothing.
    places = sorted({(Path(name).parts[0], Path(name).name.split(".")[0]) for name in names})
    mine = [process_file(*place, jax.process_index()) for place in places]
    told = from_all(np.array([[own.get(name, 0), crcs.get(name, 0)] for name in mine]).reshape(-1, 2))
    for process, rows in enumerate(told.astype(int).tolist()):
        for place, (length, crc) in zip(places, rows, strict=True):
            if length:
                own[process_file(*place, process)], crcs[process_file(*place, process)] = length, crc
    return {"offsets": own, "crcs": {name: crcs[name] for name in own}}


def _compare(path: Path, here: dict[str, Any], console: Console) -> None:
    """Bits are promised on the same device kind, cores, versions and flags; a resume elsewhere is told so."""
    if not path.exists():
        write_json(path, here)
        return
    before = read_json(path)
    different = [name for name in here if before.get(name) != here[name]]
    for name in different:
        console.say(f"warning: {name} was {before.get(name)}, is {here[name]}: bits may differ from an unbroken run")
