"""The command line: `jaxsrl train CONFIG --set stages.srl.steps=100`."""

import difflib
import os
import select
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxsrl.bench.workload import Work
from jaxsrl.clusters.launch.job import Place
from jaxsrl.exit_codes import FAILED, INTERRUPTED, STOPPED, code_of


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
    trace: Annotated[str | None, tyro.conf.arg(metavar="FROM:TO")] = None
    """Optimizer steps of each stage to profile, counted from 1: RUN/trace has profiles and seconds by phase."""

    def __call__(self) -> None:
        config = self.load()
        from jaxsrl.clusters.start import from_environment, joined, told_to_stop
        from jaxsrl.trace import Steps
        from jaxsrl.train import train

        steps = None if self.trace is None else Steps.read(self.trace)
        with joined(from_environment(self.heartbeat)), told_to_stop() as stop:
            train(config, stop, trace=steps)


@dataclass(frozen=True, kw_only=True)
class OfPolicy(Common):
    config: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[RUN|CONFIG]")] = None
    """Run folder, as runs/NAME, whose settings are read back; or the config file that it was started with."""
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """A published model's folder instead of a run: config.json, safetensors, tokenizer, chat template."""
    template: str = "auto"
    """Of --weights: the kind of its chat template; auto is the folder's own."""
    system: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Of --weights: the system text; default asks for a solution with its answer in a box, empty is the model's own."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of --weights: default is bfloat16 on an accelerator, float32 on a CPU."""
    data: int = 1
    """Of --weights: devices of the mesh axis, as in `mesh.data` of a config; fsdp and tensor likewise."""
    fsdp: int = 1
    tensor: int = 1
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

    def check(self) -> None:
        """Raises ValueError for flags that do not go together."""
        if (self.weights is None) == (self.config is None):
            raise ValueError("name a run folder, a config file or --weights FOLDER: one of them")
        if self.weights is not None and (self.set or self.policy or self.runs):
            raise ValueError("--set, --policy and --runs belong to a run, not to --weights")
        own = self.template != "auto" or self.system is not None or self.dtype is not None
        if self.weights is None and (own or self.data * self.fsdp * self.tensor > 1):
            raise ValueError(
                "--template, --system, --dtype, --data, --fsdp and --tensor are of --weights; a run has its own"
            )
        proxy = self.proxy_run, self.proxy_tuned, self.proxy_untuned
        if any(proxy) and not all(proxy):
            raise ValueError("--proxy-run, --proxy-tuned and --proxy-untuned are given together")

    def named(self):
        """The config, and whether it was read back from a run's folder."""
        from jaxsrl.commands.policy import named_config

        made, own = named_config(self.config, self.set)
        if own and self.runs is not None:
            raise ValueError(f"{self.config} is a run's folder, --runs is where a config file's run is looked for")
        if self.data_dir is not None:
            made = replace(made, data_dir=self.data_dir)
        return (made if self.runs is None else replace(made, runs=self.runs)), own

    def load_saved(self, *, data: bool):
        """The config and a policy of its run, steered where that is asked for; with the stage's data."""
        from jaxsrl.commands.policy import load_policy

        config, own = self.named()
        saved = load_policy(config, self.policy, checked=not own, data=data)
        steered, more = self._steered(saved.policy, saved.material.tokenizer, Path(config.runs) / config.name)
        return config, replace(saved, name=saved.name + more, policy=steered)

    def load_asked(self):
        """The policy of a run or of a published model's folder, without data."""
        if self.weights is None:
            config, saved = self.load_saved(data=False)
            return saved.asked(config)
        from jaxsrl.commands.published import Published, load_published
        from jaxsrl.sharding import MeshShape

        mesh = MeshShape(data=self.data, fsdp=self.fsdp, tensor=self.tensor)
        settings = Published(
            folder=self.weights, kind=self.template, system=self.system, dtype=self.dtype, mesh=mesh
        )  # fmt: skip
        asked = load_published(settings)
        steered, more = self._steered(asked.policy, asked.tokenizer, self.weights)
        return replace(asked, name=asked.name + more, short=asked.short + more, policy=steered)

    def _steered(self, policy, tokenizer, folder):
        if self.proxy_run is None:
            return policy, ""
        from jaxsrl.commands.steer import Proxy, steer

        proxy = Proxy(
            run=self.proxy_run, tuned=self.proxy_tuned, untuned=self.proxy_untuned, alpha=self.proxy_alpha
        )  # fmt: skip
        return steer(policy, tokenizer, folder, proxy)


@dataclass(frozen=True, kw_only=True)
class Eval(OfPolicy):
    """Evaluates a policy: on published benchmarks, or of a run on its held-out problems in every mode its stage names.

    Args:
      benchmark: asked in one completion a problem, of a run or of --weights; none evaluates the run's stage.
      split: whose problems, without --benchmark.
      problems: how many, from the start; default is all of a benchmark, 100 of a split.
      samples: of each problem of a benchmark, beside the greedy completion: the k of avg@k, pass@k, maj@k.
      temperature: of the samples.
      max_tokens: cap of a completion; default is the benchmark's.
      batch: completions at a time; default is what the memory holds.
      seed: of the samples.
      to: where results and completions go; default is the run's folder, or evaluations/ here.
      json: one file with all numbers, too.
    """

    benchmark: tuple[Literal["gsm8k", "math500", "amc23", "aime24", "aime25", "minerva"], ...] = ()
    split: Literal["validation", "test"] = "test"
    problems: int | None = None
    samples: int = 0
    temperature: float = 1.0
    max_tokens: int | None = None
    batch: int | None = None
    seed: int = 0
    to: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None

    def __call__(self) -> None:
        self.check()
        if self.benchmark:
            print(self._benchmarks())
            return
        if self.weights is not None:
            raise ValueError("--weights needs --benchmark: a published model has no held-out problems of its own")
        if self.samples or self.max_tokens or self.batch or self.to:
            raise ValueError("--samples, --max-tokens, --batch and --to are of --benchmark; a stage has its settings")
        from jaxsrl.commands.evaluate import evaluate_saved

        config, saved = self.load_saved(data=True)
        problems = 100 if self.problems is None else self.problems
        print(evaluate_saved(config, saved, self.split, problems, self.json))

    def _benchmarks(self) -> str:
        from jaxsrl.commands.benchmark import Asking, read_benchmarks, run_benchmarks
        from jaxsrl.commands.results import FOLDER
        from jaxsrl.config.demonstrations import data_folder
        from jaxsrl.console import Console

        asking = Asking(
            benchmarks=self.benchmark, problems=self.problems, samples=self.samples, temperature=self.temperature,
            max_tokens=self.max_tokens, batch=self.batch, seed=self.seed,
        )  # fmt: skip
        problems = read_benchmarks(asking, data_folder(self.data_dir))
        asked = self.load_asked()
        to = self.to or (Path(FOLDER) if self.weights is not None else asked.folder / FOLDER)
        return run_benchmarks(asked, asking, problems, to, self.json, Console())


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
class BuildData(Common):
    """Writes a stage's demonstrations as a TFDS builder of ArrayRecord files, and measures them once.

    Args:
      to: folder in which demonstrations/1.0.0 is made; where it is there, only what is missing is measured.
      stage: whose data, tokenizer and objective; default is the last one's.
    """

    to: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    stage: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None

    def __call__(self) -> None:
        config = self.load()
        from jaxsrl.commands.build import build

        for line in build(config, self.stage, self.to):
            print(line, flush=True)


@dataclass(frozen=True, kw_only=True)
class Init:
    """Writes a config that trains on a file of demonstrations, from what its first rows look like."""

    file: Annotated[Path, tyro.conf.Positional]
    """JSON lines, parquet, ArrayRecord, or a folder."""
    to: Annotated[Path | None, tyro.conf.arg(metavar="FILE.py")] = None
    """Config to be written; default is the file's name with .py, here."""

    def __call__(self) -> None:
        from jaxsrl.commands.init import write_config

        print(write_config(self.file, self.to))


@dataclass(frozen=True, kw_only=True)
class Sample(OfPolicy):
    """Prints completions of one problem, by a policy of a run or by a published model (--weights).

    Args:
      index: which problem of a run's test split.
      problem: a problem of your own instead.
      form: `action` asks for the next action, `solve` for the whole solution; default is solve with --weights.
      after: expert actions given before.
      samples: how many completions; default is 4, and 1 with --weights.
      temperature: 1 is the policy as it is, 0 takes the most likely token; default is 1, and 0 with --weights.
      max_tokens: cap of a completion; default is the stage's, and 512 with --weights.
      seed: of the completions.
    """

    index: int = 0
    problem: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    form: Literal["action", "solve"] | None = None
    after: int = 0
    samples: int | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int = 0

    def __call__(self) -> None:
        self.check()
        if self.weights is not None and (self.problem is None or self.after):
            raise ValueError('--weights needs --problem "...": a published model has no demonstrations to go on from')
        from jaxsrl.commands.sample import choose, own_problem, sample_text, written

        published = self.weights is not None
        how = {
            "form": self.form or ("solve" if published else "action"), "after": self.after, "seed": self.seed,
            "samples": (1 if published else 4) if self.samples is None else self.samples,
            "temperature": float(not published) if self.temperature is None else self.temperature,
        }  # fmt: skip
        if published:
            cap = 512 if self.max_tokens is None else self.max_tokens
            print(written(self.load_asked(), own_problem(self.problem), max_tokens=cap, **how))
            return
        config, saved = self.load_saved(data=self.problem is None)
        demonstration = choose(saved, self.index, self.problem, self.after)
        print(sample_text(config, saved, demonstration, max_tokens=self.max_tokens, **how))


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

        page = self.page or self.runs[0].parent / "compare.html"
        print(compare(self.runs, self.split, self.metrics, self.against, page))


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Measures every way on this machine to compute a step's similarity, side by side; a few minutes."""

    backends: tuple[str, ...] = ()
    """Some of difflib, cydifflib, rapidfuzz, gallop, difflib_fast, host, xla, pallas_gpu, pallas_tpu; default is all
    there are."""
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
    against: tuple[str, ...] = ()
    """Peers as trl=FOLDER or tunix=FOLDER of a virtual environment; then their optimizer steps and ours are all that is
    measured, and --json gets a line a step."""
    shapes: tuple[str, ...] = ()
    """Of --against: some of grpo, srl; default is both."""
    turns: int = 5
    """Of --against: measured steps of each system."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the numbers, too."""

    def __call__(self) -> None:
        if self.against:
            from jaxsrl.bench.against import main as against

            return against(self.against, self.shapes, self.turns, self.json)
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
class Plan:
    """Memory, collectives and speed of a config on accelerators that need not be there; 2 where it does not fit."""

    config: Annotated[Path | None, tyro.conf.Positional] = None
    """Python file with a function config() -> Config."""
    target: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """v5p-16, 2xv5e-16 (slices), h200, 8xh200 (a node); default is the file's ACCELERATOR."""
    set: tyro.conf.UseAppendAction[Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")]] = ()
    """A setting to change; may be given several times."""
    all: bool = False
    """Plans every config of configs/recipes, or of the folder given."""
    search: bool = False
    """Ranks mesh, sampler mesh, remat and rows by formula, and compiles the best three."""
    scaling: tuple[int, ...] = ()
    """Chips, as 16 64 256: a table of weak scaling by formula."""
    estimate: bool = False
    """By formula, even where the compiler is installed."""
    effort: Literal["quick", "full"] = "full"
    """Of TPU's compiler; quick takes a fifth of the time, and its memory may differ by a GiB or two."""
    share: float = 0.92
    """Of a device's memory that may be filled."""
    cache: bool = True
    """Keep what compilers said, by a hash of the program."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the numbers, too."""

    def __call__(self) -> None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # what is compiled for need not be there, and is left alone
        from jaxsrl.commands import plan
        from jaxsrl.config.overrides import load, override

        cache = plan.cache_folder() if self.cache else None
        how = {"estimate": self.estimate, "effort": self.effort, "cache": cache, "share": self.share}
        if self.all:
            print(plan.plan_all(self.config or Path("configs/recipes"), **how))
            return
        if self.config is None:
            raise ValueError("give a CONFIG, or --all for every recipe")
        config = override(load(self.config), self.set)
        devices = plan.devices_of(self.config, self.target)
        if self.scaling:
            print(plan.plan_scaling(config, devices.chip.name, self.scaling))
            return
        if self.search:
            values, text = plan.plan_search(config, devices, **how)
        else:
            found, text = plan.plan_one(config, devices, **how)
            values = found.to_json()
        if self.json is not None:
            plan.write_json(values, self.json)
        print(text)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Starts a config on this machine, under Slurm, on TPU VMs, in GKE or through SkyPilot; see launch/README.md."""

    config: Annotated[Path, tyro.conf.Positional]
    """Python file with a function config() -> Config, below the current folder."""
    target: Annotated[str, tyro.conf.arg(metavar="NAME")]
    """local, slurm, tpu-vm, gke or skypilot."""
    verb: Literal["start", "status", "logs", "stop"] = "start"
    """What to do."""
    dry_run: bool = False
    """Print files and commands, and do nothing."""
    accelerator: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """v5p-16, 2xv5e-16, 8xh200, ...; default is the file's ACCELERATOR."""
    set: tyro.conf.UseAppendAction[Annotated[tuple[str, ...], tyro.conf.arg(metavar="KEY=VALUE")]] = ()
    """A setting to change; may be given several times."""
    env: tyro.conf.UseAppendAction[Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")]] = ()
    """A variable of every process, instead of the platform's; may be given several times."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of demonstration files, as the machines see it."""
    processes: int = 1
    """On this machine."""
    restarts: int = 20
    """After a failure that is no wrong config."""
    place: Place = Place()

    def __call__(self) -> int:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # planning takes no device from the run
        from jaxsrl.commands import launch

        made = launch.prepare(
            self.config, target=self.target, settings=self.set, accelerator=self.accelerator, place=self.place,
            arguments=("--data-dir", self.data_dir) if self.data_dir else (), given=launch.variables(self.env),
            processes=self.processes, restarts=self.restarts,
        )  # fmt: skip
        if self.dry_run:
            print(launch.described(made, files=True))
            return 0
        if self.verb == "start":
            launch.write(made)
            print(launch.described(made, files=False), flush=True)
        return launch.run(made, self.verb)


STDOUT = 1


COMMANDS = {
    "train": Train,
    "eval": Eval,
    "data": Data,
    "data-build": BuildData,
    "init": Init,
    "sample": Sample,
    "report": Report,
    "compare": Compare,
    "convert": Convert,
    "doctor": Doctor,
    "plan": Plan,
    "launch": Launch,
    "bench": Bench,
}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.


    Returns: an exit code, see exit_codes.py; 141 where whoever read the output has gone.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if given[:2] == ["data", "build"]:
        given = ["data-build", *given[2:]]
    if given[:1] == ["--version"]:
        from importlib.metadata import version

        print(f"jaxsrl {version('jaxsrl')}")
        return 0
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        near = difflib.get_close_matches(given[0], COMMANDS, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        print(f"error: no command {given[0]!r}; {meant}There are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        try:
            return _run(given)
        finally:
            sys.stdout.flush()  # here, where it can be told that nobody reads on
    except BrokenPipeError as error:
        return _unread(error)


def _unread(error: BrokenPipeError) -> int:
    """As a command that SIGPIPE ends, where it is the output that nobody reads, as behind `| head`."""
    output = select.poll()
    output.register(STDOUT, 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return _failed(error, 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # what is left is not tried again at the exit
    return 141


def _run(arguments: list[str]) -> int:
    command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, args=arguments, prog="jaxsrl", description="Trains language models from expert demonstrations."
    )
    try:
        return command() or 0
    except KeyboardInterrupt:
        again = "; the same command goes on" if isinstance(command, Train) else ""  # a stage says from which step
        print(f"interrupted{again}", file=sys.stderr)
        return _left(INTERRUPTED)
    except BrokenPipeError:
        raise
    except (ValueError, OSError, RuntimeError) as error:
        return _failed(error, code_of(error))
    except Exception as error:
        if code_of(error) != STOPPED:
            traceback.print_exception(error)
            _left(FAILED)
            raise
        return STOPPED


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
