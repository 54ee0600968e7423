"""The command line: `jaxsrl train CONFIG --set stages.srl.steps=100`."""

import os
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxsrl.bench.workload import Work


@dataclass(frozen=True, kw_only=True)
class Common:
    config: Annotated[Path, tyro.conf.Positional]
    """Python file with a function config() -> Config."""
    set: tyro.conf.UseAppendAction[Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")]] = ()
    """A setting to change, as stages.srl.steps=100; may be given several times."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of demonstration files; the variable JAXSRL_DATA says the same."""
    runs: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of all runs, where it is not the config's."""

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

    def __call__(self) -> None:
        config = self.load()
        from jaxsrl.clusters.start import from_environment, joined, told_to_stop
        from jaxsrl.train import train

        with joined(from_environment(self.heartbeat)), told_to_stop() as stop:
            train(config, stop)


@dataclass(frozen=True, kw_only=True)
class OfPolicy(Common):
    policy: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """STAGE, STAGE:last or STAGE:best; default is the newest stage's last."""
    proxy_run: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Run folder of two small policies that steer this one by proxy-tuning: logits + alpha (tuned - untuned)."""
    proxy_tuned: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Policy of that run that was trained, as --policy names it."""
    proxy_untuned: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Policy of that run that it was trained from."""
    proxy_alpha: float = 1.0
    """How much of their difference is added; 0 adds nothing."""

    def load_policy(self, config):
        from jaxsrl.commands.policy import load_policy
        from jaxsrl.commands.steer import Proxy, steer

        given = (self.proxy_run, self.proxy_tuned, self.proxy_untuned)
        if any(given) and not all(given):
            raise ValueError("--proxy-run, --proxy-tuned and --proxy-untuned are given together")
        policy = load_policy(config, self.policy)
        if not all(given):
            return policy
        run, tuned, untuned = given
        return steer(config, policy, Proxy(run=run, tuned=tuned, untuned=untuned, alpha=self.proxy_alpha))


@dataclass(frozen=True, kw_only=True)
class Eval(OfPolicy):
    """Evaluates a policy of a run on held-out problems, in every mode its stage names.

    Args:
      split: whose problems.
      problems: how many, from the start of the split.
    """

    split: Literal["validation", "test"] = "test"
    problems: int = 100

    def __call__(self) -> None:
        config = self.load()
        from jaxsrl.commands.evaluate import evaluate_saved

        print(evaluate_saved(config, self.load_policy(config), self.split, self.problems))


@dataclass(frozen=True, kw_only=True)
class Data(Common):
    """Shows how demonstrations are cut into actions, and the tree that one of them becomes.

    Args:
      stage: whose data and objective; default is the last one's.
      rows: how many demonstrations, drawn from the training split.
      seed: of the draw.
    """

    stage: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    rows: int = 1
    seed: int = 0

    def __call__(self) -> None:
        config = self.load()
        from jaxsrl.commands.data import show

        print(show(config, self.stage, self.rows, self.seed))


@dataclass(frozen=True, kw_only=True)
class Sample(OfPolicy):
    """Prints completions of one problem.

    Args:
      index: which problem of the test split.
      problem: a problem of your own instead.
      form: `action` asks for the next action, `solve` for the whole solution.
      after: expert actions given before.
      samples: how many completions.
      temperature: 1 is the policy as it is; near 0 it takes the most likely token.
      seed: of the completions.
    """

    index: int = 0
    problem: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    form: Literal["action", "solve"] = "action"
    after: int = 0
    samples: int = 4
    temperature: float = 1.0
    seed: int = 0

    def __call__(self) -> None:
        config = self.load()
        from jaxsrl.commands.sample import choose, sample_text

        policy = self.load_policy(config)
        demonstration = choose(policy, self.index, self.problem, self.after)
        print(sample_text(
            config, policy, demonstration, form=self.form, after=self.after, samples=self.samples,
            temperature=self.temperature, seed=self.seed,
        ))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Report:
    """Writes the page of a run folder."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder, as runs/NAME."""

    def __call__(self) -> None:
        from jaxsrl.report.page import write_report

        print(write_report(self.run))


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
        from jaxsrl.commands.weights import convert

        print(convert(self.run, self.to, self.policy, self.dtype, self.length))


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

        if (self.weights is None) != (self.reference is None):
            raise ValueError("--weights and --reference are given together")
        if self.weights is not None:
            print(check_weights(self.weights, self.reference, self.tolerance))
        else:
            print(machine() if self.run is None else run_state(self.run))


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Prints a table of the stages of several runs of one config, mean and interval over the runs."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders, one per seed."""
    split: Literal["validation", "test"] = "test"
    """Whose last evaluation counts."""
    metrics: tuple[str, ...] = ()
    """Columns, as actions/exact; default is the usual ones."""
    against: Annotated[str | None, tyro.conf.arg(metavar="STAGE")] = None
    """A stage whose values in the same run are taken off the others'."""

    def __call__(self) -> None:
        from jaxsrl.commands.compare import compare

        print(compare(self.runs, self.split, self.metrics, self.against))


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Measures every way on this machine to compute a step's similarity, side by side; a few minutes."""

    backends: tuple[str, ...] = ()
    """Some of difflib, cydifflib, rapidfuzz, gallop, host, xla, pallas_gpu, pallas_tpu; default is all there are."""
    chars: tuple[int, ...] = (100, 300, 1000)
    """Lengths of steps in code points."""
    tokens: tuple[int, ...] = (32, 128, 512)
    """Lengths of steps in token ids."""
    seconds: float = 0.8
    """At least, for each implementation of each length."""
    repeat: int = 4096
    """Elements of the pathological pairs; 0 leaves them out."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the numbers, too."""

    def __call__(self) -> None:
        from jaxsrl.bench.similarity import main

        main(self.backends, self.chars, self.tokens, self.seconds, self.repeat, self.json)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Measures optimizer steps of SFT, SRL and RLVR at random weights: seconds by part, tokens/s, peak memory."""

    model: str = "0.2M"
    """A preset, as qwen2.5-0.5b."""
    objectives: tuple[str, ...] = ()
    """Some of sft, srl, rlvr; default is all."""
    steps: int = 3
    """After the one that compiles; medians are shown."""
    work: Work = Work()
    data: int = 1
    """Devices of the mesh axis, as in `mesh.data` of a config; fsdp and tensor likewise."""
    fsdp: int = 1
    tensor: int = 1
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the numbers, too."""

    def __call__(self) -> None:
        from jaxsrl.bench.training import main
        from jaxsrl.sharding import MeshShape

        layout = MeshShape(data=self.data, fsdp=self.fsdp, tensor=self.tensor)
        main(self.objectives, self.model, self.work, layout, self.steps, self.json)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Measures what an SRL step costs the host: processor seconds by part, peak memory, and fetches from the device.

    And counts the FLOPs of the learner's gradient over those that its trees need, on four shapes of trees.
    """

    demonstrations: int = 512
    """Of the step; each has 10 actions and 9 branch points."""
    group_size: int = 8
    completion_tokens: int = 299
    processes: int = 1
    """Of the run; of several one is measured."""
    models: tuple[str, ...] = ("qwen2.5-0.5b", "qwen2.5-1.5b")
    """Presets whose FLOPs are counted; nothing is computed with them."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the numbers, too."""

    def __call__(self) -> None:
        from jaxsrl.bench.step import main

        sizes = self.demonstrations, self.group_size, self.completion_tokens, self.processes
        main(*sizes, self.models, self.json)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measures this machine."""

    what: Annotated[
        Annotated[Similarity, tyro.conf.subcommand("similarity")]
        | Annotated[Step, tyro.conf.subcommand("step")]
        | Annotated[Training, tyro.conf.subcommand("training")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> None:
        self.what()


@dataclass(frozen=True, kw_only=True)
class OfStudy:
    study: Annotated[Path, tyro.conf.Positional]
    """Python file with a function study() -> Study."""
    runs: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder in which the study's own is made, where it is not that of its base config."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of demonstration files; the variable JAXSRL_DATA says the same."""

    def load(self):
        from jaxsrl.studies.study import load_study

        given = {"runs": self.runs, "data_dir": self.data_dir}
        return load_study(self.study, {name: value for name, value in given.items() if value is not None})


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
class StudyStatus(OfStudy):
    """Prints where every run of a study stands."""

    def __call__(self) -> None:
        from jaxsrl.studies.run import status
        from jaxsrl.studies.study import study_folder

        print(status(study_folder(self.load())))


@dataclass(frozen=True, kw_only=True)
class StudyReport(OfStudy):
    """Writes the page of a study from the runs that are done: verdicts, intervals, curves, costs."""

    def __call__(self) -> None:
        from jaxsrl.studies.page import write_page
        from jaxsrl.studies.study import study_folder

        print(write_page(study_folder(self.load())))


@dataclass(frozen=True, kw_only=True)
class StudyFit:
    """Fits a scaling law to points of a CSV file: columns params, tokens, loss; or compute, reward."""

    file: Annotated[Path, tyro.conf.Positional]
    """CSV file; FILE.fit.html and FILE.fit.csv are written beside it."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Where to write them instead."""
    budgets: tuple[float, ...] = ()
    """FLOPs at which the best split is told; default is the largest measured one, ten and a hundred times it."""
    start: float | None = None
    """Of a reward: its value before training, where it is known."""
    leave_out: float = 0.0
    """Of a reward: compute below which values are not used."""

    def __call__(self) -> None:
        from jaxsrl.studies.fit_file import fit_file

        said, page = fit_file(
            self.file, out=self.out, budgets=self.budgets, start=self.start, leave_out=self.leave_out
        )  # fmt: skip
        print(f"{said}\n{page}")


@dataclass(frozen=True, kw_only=True)
class Study:
    """Many runs that answer one question, and how sure one can be of the answer."""

    what: Annotated[
        Annotated[StudyRun, tyro.conf.subcommand("run")]
        | Annotated[StudyStatus, tyro.conf.subcommand("status")]
        | Annotated[StudyReport, tyro.conf.subcommand("report")]
        | Annotated[StudyFit, tyro.conf.subcommand("fit")],
        tyro.conf.arg(name=""),
    ]

    def __call__(self) -> None:
        self.what()


STOPPED = 75  # the system's code for: failed for now, try again

COMMANDS = {
    "train": Train,
    "eval": Eval,
    "data": Data,
    "sample": Sample,
    "report": Report,
    "compare": Compare,
    "convert": Convert,
    "doctor": Doctor,
    "bench": Bench,
    "study": Study,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Exit codes: 0 done; 2 wrong key, value, file or combination; 75 told to stop by SIGTERM and saved, the same command
    goes on; 130 interrupted; 1 anything else.
    """
    command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, args=arguments, prog="jaxsrl", description="Trains language models from expert demonstrations."
    )
    try:
        command()
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return _left(130)
    except (ValueError, FileNotFoundError) as error:
        return _failed(error, 2)
    except (OSError, RuntimeError) as error:
        return _failed(error, 1)
    except Exception as error:
        if type(error).__name__ != "Stopped":  # not imported, as most commands do without jax
            traceback.print_exception(error)
            _left(1)
            raise
        return STOPPED
    return 0


def _failed(error: Exception, code: int) -> int:
    """Prints what is wrong; with JAXSRL_TRACEBACK set, where it was raised too."""
    if os.environ.get("JAXSRL_TRACEBACK"):
        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)
    return _left(code)


def _left(code: int) -> int:
    """The code; one of several processes ends with it here."""
    if "jaxsrl.clusters.start" in sys.modules:  # else it never joined others
        from jaxsrl.clusters.start import leave

        leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
