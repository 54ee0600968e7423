"""Arguments of the commands that ask a policy: of a run, or of a published model's folder."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxsrl.cli.runs import Common, check_written


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
        if self.weights is None and (own or (self.data, self.fsdp, self.tensor) != (1, 1, 1)):
            raise ValueError(
                "--template, --system, --dtype, --data, --fsdp and --tensor are of --weights; a run has its own"
            )
        proxy = self.proxy_run, self.proxy_tuned, self.proxy_untuned
        if any(proxy) and not all(proxy):
            raise ValueError("--proxy-run, --proxy-tuned and --proxy-untuned are given together")

    def named(self):
        """The config, and whether it was read back from a run's folder."""
        from jaxsrl.commands.policy import named_config
        from jaxsrl.stores.copies import WITH_POLICIES, run_here
        from jaxsrl.stores.objects import is_stored

        made, own = named_config(run_here(self.config, WITH_POLICIES), self.set)
        if own and self.runs is not None:
            raise ValueError(f"{self.config} is a run's folder, --runs is where a config file's run is looked for")
        if self.data_dir is not None:
            made = replace(made, data_dir=self.data_dir)
        made = made if self.runs is None else replace(made, runs=self.runs)
        if is_stored(made.runs):
            made = replace(made, runs=str(run_here(f"{made.runs}/{made.name}", WITH_POLICIES).parent))
        return made, own

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
        from jaxsrl.stores.copies import brought

        mesh = MeshShape(data=self.data, fsdp=self.fsdp, tensor=self.tensor)
        settings = Published(
            folder=brought(self.weights), kind=self.template, system=self.system, dtype=self.dtype, mesh=mesh
        )  # fmt: skip
        asked = load_published(settings)
        steered, more = self._steered(asked.policy, asked.tokenizer, self.weights)
        return replace(asked, name=asked.name + more, short=asked.short + more, policy=steered)

    def _steered(self, policy, tokenizer, folder):
        if self.proxy_run is None:
            return policy, ""
        from jaxsrl.commands.steer import Proxy, steer
        from jaxsrl.stores.copies import WITH_POLICIES, run_here

        proxy = Proxy(
            run=run_here(self.proxy_run, WITH_POLICIES), tuned=self.proxy_tuned, untuned=self.proxy_untuned,
            alpha=self.proxy_alpha,
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
        check_written(self.json)
        if self.benchmark:
            print(self._benchmarks())
            return
        if self.weights is not None:
            raise ValueError("--weights needs --benchmark: a published model has no held-out problems of its own")
        given = self.samples, self.temperature, self.max_tokens, self.batch, self.to
        if given != (0, 1.0, None, None, None):
            raise ValueError(
                "--samples, --temperature, --max-tokens, --batch and --to are of --benchmark; a stage has its settings"
            )
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
