"""Arguments of the commands that start a run or read its folder."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro


@contextmanager
def settled() -> Iterator[None]:
    """Within it the collector of garbage leaves alone what was there before: the libraries, a tenth of a second each
    time that it walks them, and in a run that is while a layout is made."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def check_written(file: Path | None) -> None:
    """Raises ValueError where a file that is written at the end would find no folder: before anything is computed."""
    if file is not None and not file.absolute().parent.is_dir():
        raise ValueError(f"{file} cannot be written: there is no folder {file.parent}")


@dataclass(frozen=True, kw_only=True)
class Common:
    config: Annotated[Path, tyro.conf.Positional]
    """Python file with a function config() -> Config."""
    set: tyro.conf.UseAppendAction[Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")]] = ()
    """A setting to change, as stages.srl.steps=100; may be given several times."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of demonstration files, or gs://BUCKET/FOLDER; the variable JAXSRL_DATA says the same."""
    runs: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of all runs, or gs://BUCKET/FOLDER, where it is not the config's."""

    def load(self):
        from jaxsrl.config.overrides import load, override

        made = override(load(self.config), self.set)
        if self.data_dir is not None:
            made = replace(made, data_dir=self.data_dir)
        return made if self.runs is None else replace(made, runs=self.runs)


@dataclass(frozen=True, kw_only=True)
class Train(Common):
    """Runs a config, or resumes it where its folder already exists; alone, or as one of several processes."""

    heartbeat: Annotated[int, tyro.conf.arg(metavar="SECONDS")] = 60
    """Of several processes: after so long without a word from one, the others end."""
    trace: Annotated[str | None, tyro.conf.arg(metavar="FROM:TO")] = None
    """Optimizer steps of each stage to profile, counted from 1: RUN/trace has profiles and seconds by phase."""

    def __call__(self) -> None:
        config = self.load()
        from jaxsrl.clusters.start import from_environment, joined, told_to_stop
        from jaxsrl.trace import Steps
        from jaxsrl.train import train

        steps = None if self.trace is None else Steps.read(self.trace)
        with joined(from_environment(self.heartbeat)), told_to_stop() as stop, settled():
            train(config, stop, trace=steps)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Writes the page of a run folder."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, as runs/NAME."""

    def __call__(self) -> None:
        from jaxsrl.report.page import write_report
        from jaxsrl.stores.copies import run_here

        print(write_report(run_here(self.run)))


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Writes a policy of a run as a checkpoint folder that Transformers and vLLM load."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, as runs/NAME."""
    to: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder to be made."""
    policy: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """STAGE, STAGE:last or STAGE:best; default is the newest stage's last."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Of the tensors in the files."""
    length: int = 32_768
    """Tokens that a server may allow, for a model from scratch."""

    def __call__(self) -> None:
        if self.length < 1:
            raise ValueError(f"--length must be >= 1 token, got {self.length}")
        from jaxsrl.commands.weights import convert
        from jaxsrl.stores.copies import WITH_POLICIES, run_here

        print(convert(run_here(self.run, WITH_POLICIES), self.to, self.policy, self.dtype, self.length))


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Versions, devices and flags of this machine; where a run stands; whether published weights are read right."""

    run: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[PATH]")] = None
    """Run folder, as runs/NAME: prints where the run stands and its state's hash."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Checkpoint folder to check against --reference; exits 1 where the logits differ."""
    reference: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz")] = None
    """Arrays ids [B T] int32 and logits [B T V] float32 of another implementation, mask [B T] where rows are padded."""
    tolerance: float = 1e-4
    """Largest error allowed, as a share of the largest logit."""

    def __call__(self) -> None:
        from jaxsrl.commands.doctor import machine, run_state
        from jaxsrl.commands.weights import check_weights
        from jaxsrl.stores.copies import EVERYTHING, run_here

        if (self.weights is None) != (self.reference is None):
            raise ValueError("--weights and --reference are given together")
        if self.weights is not None:
            print(check_weights(self.weights, self.reference, self.tolerance))
        else:
            print(machine() if self.run is None else run_state(run_here(self.run, EVERYTHING)))


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Prints a table of the stages of several runs, mean and interval over the runs, and draws their curves."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders, one per seed."""
    split: Literal["validation", "test"] = "test"
    """Whose last evaluation counts."""
    metrics: tuple[str, ...] = ()
    """Columns, as actions/exact; default is the usual ones."""
    against: Annotated[str | None, tyro.conf.arg(metavar="STAGE")] = None
    """A stage whose values in the same run are taken off the others'."""
    page: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """Where to write the page; default is compare.html beside the first run."""

    def __call__(self) -> None:
        from jaxsrl.commands.compare import compare
        from jaxsrl.stores.copies import run_here

        if not self.runs:
            raise ValueError("name the run folders to compare, as runs/NAME runs/OTHER")
        twice = [str(run) for run in self.runs if self.runs.count(run) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is given twice: an interval over runs takes each for another seed")
        check_written(self.page)
        runs = tuple(map(run_here, self.runs))
        page = self.page or runs[0].parent / "compare.html"
        print(compare(runs, self.split, self.metrics, self.against, page))
