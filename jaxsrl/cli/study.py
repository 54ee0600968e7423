"""Arguments of the commands on studies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Places:
    runs: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder in which the study's own is made, where it is not that of its base config."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of demonstration files; the variable JAXSRL_DATA says the same."""

    def changes(self) -> dict[str, str]:
        """Fields of the base config that were given."""
        given = {"runs": self.runs, "data_dir": self.data_dir}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class OfStudy(Places):
    study: Annotated[Path, tyro.conf.Positional]
    """Python file with a function study() -> Study."""

    def load(self):
        from jaxsrl.studies.study import load_study

        return load_study(self.study, self.changes())


@dataclass(frozen=True, kw_only=True)
class StudyRun(OfStudy):
    """Checks and costs every run of a study, then trains those that are missing. Any number may share a folder."""

    workers: int = 1
    """Processes on this machine."""
    plan: bool = False
    """Checks and costs only."""
    wait: bool = True
    """Waits for runs that other workers hold, as those may die."""
    lease: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 300.0
    """A worker unheard of for so long has lost its run to the next one; the same for all workers of a study."""

    def __call__(self) -> None:
        from jaxsrl.bench.flops import useful
        from jaxsrl.clusters.start import from_environment, told_to_stop
        from jaxsrl.studies.run import run, worker_command

        if from_environment(60).count not in (None, 1):
            raise ValueError("a run of a study is one process: start workers apart, as a Slurm array, not as one job")
        given = (("--runs", self.runs), ("--data-dir", self.data_dir), ("--lease", str(self.lease)))
        command = worker_command([str(self.study), *(x for pair in given if pair[1] is not None for x in pair)])
        with told_to_stop() as stop:
            run(self.load(), useful, stop, workers=self.workers, wait=self.wait, lease_seconds=self.lease,
                command=command, only_plan=self.plan)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StudyStatus(Places):
    """Prints where every run of a study, a ladder or a sweep of learning rates stands."""

    study: Annotated[Path, tyro.conf.Positional]
    """Python file with a function study(), ladder() or transfer()."""
    lease: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 300.0
    """That of its workers: a run unheard of for so long has expired."""

    def __call__(self) -> None:
        from jaxsrl.studies.ladder import Ladder
        from jaxsrl.studies.run import status
        from jaxsrl.studies.study import Study, load_made, study_folder
        from jaxsrl.studies.transfer import Transfer

        kinds = {"study": Study, "ladder": Ladder, "transfer": Transfer}
        print(status(study_folder(load_made(self.study, kinds, self.changes())), self.lease))


@dataclass(frozen=True, kw_only=True)
class StudyReport(OfStudy):
    """Prints the verdicts of a study from the runs that are done, and writes its page: intervals, curves, costs."""

    def __call__(self) -> None:
        from jaxsrl.studies.page import write_page
        from jaxsrl.studies.results import results
        from jaxsrl.studies.study import study_folder
        from jaxsrl.studies.summary import summary

        folder = study_folder(self.load())
        found = results(folder)
        print(summary(found), write_page(folder, found), sep="\n")


@dataclass(frozen=True, kw_only=True)
class StudyFit:
    """Fits points of a CSV file: a law of params, tokens, loss; or a sigmoid of compute, reward, as in curves.csv."""

    file: Annotated[Path, tyro.conf.Positional]
    """CSV file; FILE.fit.html and FILE.fit.csv are written beside it."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Where to write them instead."""
    budgets: tuple[float, ...] = ()
    """FLOPs at which the best split is told (default: the largest measured one, ten and a hundred times it), or of a
    study at which its arms are compared (default: what all of them have spent)."""
    start: float | None = None
    """Of a reward: its value before training, where it is known."""
    leave_out: float = 0.0
    """Of a reward: compute below which values are not used."""
    arm: str | None = None
    """Of the curves.csv of a study: the one arm that is fitted, on a page of its own; default is all of them."""

    def __call__(self) -> None:
        from jaxsrl.studies.fit_arms import arms_of, fit_arms
        from jaxsrl.studies.fit_file import fit_file

        settings = {"out": self.out, "budgets": self.budgets, "start": self.start, "leave_out": self.leave_out}
        if self.arm is None and len(arms_of(self.file)) > 1:
            said, page = fit_arms(self.file, **settings)
        else:
            said, page = fit_file(self.file, arm=self.arm, **settings)
        print(f"{said}\n{page}")


@dataclass(frozen=True, kw_only=True)
class StudyScale(Places):
    """Trains a ladder of model sizes at a fixed recipe, fits a scaling law to it, and draws it."""

    ladder: Annotated[Path, tyro.conf.Positional]
    """Python file with a function ladder() -> Ladder."""
    plan: bool = False
    """Checks and costs only."""

    def __call__(self) -> None:
        from jaxsrl.bench.flops import useful
        from jaxsrl.clusters.start import told_to_stop
        from jaxsrl.studies.ladder import Ladder
        from jaxsrl.studies.scale import scale
        from jaxsrl.studies.study import load_made

        with told_to_stop() as stop:
            if page := scale(
                load_made(self.ladder, {"ladder": Ladder}, self.changes()), useful, stop, only_plan=self.plan
            ):
                print(page)


@dataclass(frozen=True, kw_only=True)
class StudyTransfer(Places):
    """Sweeps the learning rate at several widths and depths, and says whether the best one moves."""

    sweep: Annotated[Path, tyro.conf.Positional]
    """Python file with a function transfer() -> Transfer."""
    plan: bool = False
    """Checks and costs only."""

    def __call__(self) -> None:
        from jaxsrl.bench.flops import useful
        from jaxsrl.clusters.start import told_to_stop
        from jaxsrl.studies.study import load_made
        from jaxsrl.studies.sweep import transfer
        from jaxsrl.studies.transfer import Transfer

        with told_to_stop() as stop:
            made = load_made(self.sweep, {"transfer": Transfer}, self.changes())
            if page := transfer(made, useful, stop, only_plan=self.plan):
                print(page)


@dataclass(frozen=True, kw_only=True)
class StudyAgree:
    """Compares two runs that should be one: a member of a population, and the same config trained alone."""

    one: Annotated[Path, tyro.conf.Positional]
    """Run folder."""
    other: Annotated[Path, tyro.conf.Positional]
    """Run folder."""

    def __call__(self) -> int:
        from jaxsrl.studies.agreement import agreement

        found = agreement(self.one, self.other)
        print(found)
        return int(found.first is not None)


@dataclass(frozen=True, kw_only=True)
class Study:
    """Many runs that answer one question, and how sure one can be of the answer."""

    what: Annotated[
        Annotated[StudyRun, tyro.conf.subcommand("run")]
        | Annotated[StudyStatus, tyro.conf.subcommand("status")]
        | Annotated[StudyReport, tyro.conf.subcommand("report")]
        | Annotated[StudyFit, tyro.conf.subcommand("fit")]
        | Annotated[StudyScale, tyro.conf.subcommand("scale")]
        | Annotated[StudyTransfer, tyro.conf.subcommand("transfer")]
        | Annotated[StudyAgree, tyro.conf.subcommand("agree")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> int | None:
        return self.what()
