"""Metrics in TensorBoard, W&B or Trackio too: they get the lines of `metrics.jsonl`, which stays the truth."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from jaxsrl.metrics import read

Name = Literal["tensorboard", "wandb", "trackio"]
PROJECT = "jaxsrl"
HEAD = ("stage", "step", "kind", "split")
Line = Mapping[str, Any]


def check_names(names: Sequence[str]) -> None:
    """Raises ValueError for an unknown name, or one that is given twice."""
    if not set(names) <= set(get_args(Name)) or len(set(names)) < len(names):
        raise ValueError(f"mirrors must be some of {', '.join(get_args(Name))}, each once, got {','.join(names)}")


def check_installed(names: Sequence[str]) -> None:
    """Raises ValueError where a package is missing, with the command that installs it."""
    for name in names:
        if find_spec(name) is None:
            raise ValueError(f"mirrors={name} needs the package {name}: pip install 'jaxsrl[{name}]', or leave it out")


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """One of them: `write` is given the number of a line within `metrics.jsonl`, from 0, and the line."""

    name: str
    write: Callable[[int, Line], None]
    close: Callable[[], None]


@dataclass(kw_only=True)
class Mirrors:
    """Those of a run. One that fails is said and left: no run ends for a dashboard."""

    open: list[Mirror] = field(default_factory=list)
    count: int = 0  # lines of `metrics.jsonl` so far
    say: Callable[[str], None] = print

    def write(self, lines: Iterable[Line]) -> None:
        """Sends lines that have just been written to `metrics.jsonl`."""
        for line in lines:
            for mirror in list(self.open):
                self._try(mirror, lambda mirror=mirror, line=line: mirror.write(self.count, line))
            self.count += 1

    def close(self) -> None:
        for mirror in list(self.open):
            self._try(mirror, mirror.close)
        self.open = []

    def _try(self, mirror: Mirror, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.open = [other for other in self.open if other is not mirror]
            self.say(f"{mirror.name} failed and is left out from here on: {type(error).__name__}: {error}")


@contextmanager
def open_mirrors(
    names: Sequence[str], folder: Path, run: str, config: Mapping[str, Any], say: Callable[[str], None]
) -> Iterator[Mirrors]:
    """The mirrors of a run whose `metrics.jsonl` has been cut back to its checkpoint.

    TensorBoard's files are written anew from it. What was sent to the others cannot be taken back: they are not sent
    again what a resume repeats, bit for bit on the same machine.

    Args:
      run: its name; `config`: its settings, as JSON values.
    Raises: RuntimeError where one cannot be opened.
    """
    make = {"tensorboard": _tensorboard, "wandb": _wandb, "trackio": _trackio}
    mirrors = Mirrors(say=say)
    try:
        if names:
            before = read(folder / "metrics.jsonl")
            mirrors.open = [_opened(name, lambda name=name: make[name](folder, run, config)) for name in names]
            mirrors.write(before)
        yield mirrors
    finally:
        mirrors.close()


def _opened(name: str, make: Callable[[], Mirror]) -> Mirror:
    """Before the first step a service that cannot be reached is an error; later on it is left out."""
    try:
        return make()
    except Exception as error:
        raise RuntimeError(
            f"mirrors={name} cannot be opened, {type(error).__name__}: {error}; or leave it out"
        ) from error


def values(line: Line, *, stage: bool) -> dict[str, float]:
    """Numbers by the name they are shown under: those of an evaluation begin with its split.

    Args:
      stage: the stage is part of the name.
    """
    parts = [str(line[key]) for key, there in (("stage", stage), ("split", line.get("kind") == "eval")) if there]
    shown = {name: value for name, value in line.items() if name not in HEAD and isinstance(value, int | float)}
    return {"/".join((*parts, name)): value for name, value in shown.items()}


def _tensorboard(folder: Path, run: str, config: Mapping[str, Any]) -> Mirror:
    """A folder of event files per stage, `tensorboard/STAGE`, so that each has its own steps."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    root, writers = folder / "tensorboard", {}
    for old in root.glob("*/events.out.tfevents.*"):
        old.unlink()

    def write(number: int, line: Line) -> None:
        stage = line["stage"]
        if stage not in writers:
            writers[stage] = EventFileWriter(str(root / stage))
        found = [Summary.Value(tag=tag, simple_value=value) for tag, value in values(line, stage=False).items()]
        writers[stage].add_event(Event(wall_time=time.time(), step=line["step"], summary=Summary(value=found)))

    def close() -> None:
        for writer in writers.values():
            writer.close()

    return Mirror(name="tensorboard", write=write, close=close)


def _wandb(folder: Path, run: str, config: Mapping[str, Any]) -> Mirror:
    import wandb

    sent = Sent.of(folder, "wandb")
    logged = wandb.init(project=PROJECT, name=run, id=sent.run, resume="allow", dir=str(folder), config=dict(config))
    return Mirror(name="wandb", write=sent.once(_by_number(logged)), close=logged.finish)


def _trackio(folder: Path, run: str, config: Mapping[str, Any]) -> Mirror:
    import trackio

    sent = Sent.of(folder, "trackio")
    trackio.init(project=PROJECT, name=f"{run}-{sent.run}", resume="allow", config=dict(config))
    return Mirror(name="trackio", write=sent.once(_by_number(trackio)), close=trackio.finish)


def _by_number(to: ModuleType | Any) -> Callable[[int, Line], None]:
    """Steps begin anew in every stage, and these want ones that only grow: a line's number; `STAGE/step` is beside."""

    def write(number: int, line: Line) -> None:
        to.log(values(line, stage=True) | {f"{line['stage']}/step": line["step"]}, step=number)

    return write


@dataclass(kw_only=True)
class Sent:
    """How many lines a service has been sent, kept in `mirrors/NAME.json` with the id that the run has there."""

    path: Path
    run: str
    lines: int

    @classmethod
    def of(cls, folder: Path, name: str) -> "Sent":
        path = folder / "mirrors" / f"{name}.json"
        if path.is_file():
            return cls(path=path, **json.loads(path.read_text()))
        return cls(path=path, run=uuid.uuid4().hex[:8], lines=0)

    def once(self, write: Callable[[int, Line], None]) -> Callable[[int, Line], None]:
        """Writes a line that has not been sent. It counts as sent before it is: one that a kill hits is lost, not
        doubled."""

        def written(number: int, line: Line) -> None:
            if number < self.lines:
                return
            self.lines = number + 1
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps({"run": self.run, "lines": self.lines}))
            os.replace(temporary, self.path)
            write(number, line)

        return written
