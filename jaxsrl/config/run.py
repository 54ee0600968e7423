"""A run as one value: stages composed of the settings each room defines."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Int

from jaxsrl.collect import BatchShapes, Collect
from jaxsrl.config.survive import Survive
from jaxsrl.data.actions import Splitter
from jaxsrl.data.chat import Template
from jaxsrl.data.curation import Curation
from jaxsrl.evals.direct import SameAnswers, as_text
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.mirrors import check_names
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.lora import LoRA
from jaxsrl.objectives.curriculum import BackwardOnSuccess, Curriculum
from jaxsrl.old_names import moved, takes_old_names
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import MeshShape
from jaxsrl.stores.objects import is_stored
from jaxsrl.types import Demonstration, Objective, Reward
from jaxsrl.update import AdamW


class ConfigError(ValueError):
    """A key, a value or a combination that cannot be; the message names it and the fix."""


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """Demonstrations of a stage, split by problem, and how its problems are judged.

    Args:
      reward: whether the final answer is right; used by evaluation in both modes.
      finished: whether an action ends a chained solution.
      first_action: the first action of a text that may run on into several.
      same: whether two final answers are one vote in maj@k, for each pair.
      quarantine: printable reasons of rows set aside.
      notes: what a person should know of these data before the first step.
      files: what was read, path -> hash of its content; a run goes on with the same.
      splitter, finish_mark: how solutions were cut, and what ends one; None of data that are generated.
      parts, weights: sizes of the sources that `train` is made of, in its order, and how often each is drawn from;
        empty where there is one.
      task: what made the held-out problems and can check solutions, a value of `jaxsrl/tasks/`; None of files.
      passes, keyless: of a set that was built: the folder of what was measured over it, and the rows of its training
        split that have no key.
    """

    train: Sequence[Demonstration]
    validation: Sequence[Demonstration]
    test: Sequence[Demonstration]
    reward: Reward
    finished: Callable[[str, Demonstration], bool]
    first_action: Callable[[str], str]
    same: SameAnswers = as_text
    quarantine: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    splitter: Splitter | None = None
    finish_mark: str | None = None
    parts: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    task: Any = None
    passes: Path | None = None
    keyless: Int[np.ndarray, "K"] | None = None


class Data(Protocol):
    """Settings that know how to make a stage's demonstrations."""

    def load(self, data_dir: str | None) -> TaskData: ...


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class Validate:
    """Evaluation while a stage runs, and the choice of its best checkpoint.

    Args:
      every: optimizer steps between evaluations; 0 evaluates at the end only.
      problems: of the validation split, the first ones in its order.
      metric: name of the evaluation metric that names the best checkpoint; higher is better.
    """

    every: int = 0
    problems: int = 32
    evaluation: Evaluation = field(default_factory=Evaluation)
    metric: str = "actions/exact"

    def __post_init__(self):
        if self.every < 0 or self.problems < 1:
            raise ValueError(f"every must be >= 0 and problems >= 1, got every={self.every} problems={self.problems}")
        mode = self.metric.partition("/")[0].removeprefix("forced_")
        asked = (*self.evaluation.modes, *(probe.name for probe in self.evaluation.probes))
        if mode not in asked:
            raise ValueError(
                f"metric={self.metric!r} belongs to no mode of this evaluation; "
                f"it begins with one of {', '.join(asked)} and a slash"
            )


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class Stage:
    """One objective, trained for a number of optimizer steps or of executed tokens.

    Args:
      tokens: budget of executed tokens: prefilled and sampled ones, and those of the trees learned from, each once for
        every optimizer step on them. The stage ends with the step that reaches it, or after `steps`.
      curation: which of the training demonstrations are used; None uses all.
      curriculum: chooses among the objective's branch points by the results of earlier steps; None uses
        all. Setting a field on the command line, as curriculum.levels=5, switches `BackwardOnSuccess` on.
      start_from: `STAGE` (its last parameters) or `STAGE:best` of an earlier stage; None starts from random parameters.
      seed: of this stage; None is the run's. With one of its own, runs of several seeds have the same base.
      updates_per_rollout: times that a collection is learned from (the mu of GRPO, PPO's epochs).
      minibatches: parts of a collection, each an optimizer step with weights of its own; the demonstrations of a
        collection are dealt anew each time that it is learned from.
      behavior_logp: log-probs of the rollouts as the sampler gave them, or recomputed by the learner.
      reference_on: where the frozen reference of a KL waits between its uses: on the device, or in the host's pinned
        memory, from which it is copied to score the batches of a step. Under LoRA it is the base itself: no copy.
      test: evaluation on the test split after the last step; None leaves it out.
      rows: shapes of this stage's programs; None takes the run's.
      compact: the learner's rows are planned from what was sampled. False plans them from the layout alone, every
        completion as long as its cap: nothing is asked in between.
      device_steps: optimizer steps in one program, for models that leave the host waiting; 0 takes steps one by one. On
        a CPU the bits are the same. It needs compact=False and a reward that runs on the device.
      action_tokens, solve_tokens: caps on completions in evaluation, of one action and of a whole solution.
    """

    name: str
    objective: Objective
    data: Data
    steps: int
    tokens: int | None = None
    optimizer: AdamW = field(default_factory=AdamW)
    collect: Collect = field(default_factory=Collect)
    sampling: Sampling = field(default_factory=Sampling)
    curation: Curation | None = None
    curriculum: Curriculum | None = field(default=None, metadata={"begins_with": BackwardOnSuccess})
    start_from: str | None = None
    seed: int | None = None
    updates_per_rollout: int = 1
    minibatches: int = 1
    behavior_logp: Literal["sampler", "recompute"] = "sampler"
    reference_on: Literal["device", "host"] = "device"
    validate: Validate = field(default_factory=Validate)
    test: Evaluation | None = None
    test_problems: int = 100
    rows: BatchShapes | None = None
    compact: bool = True
    device_steps: int = 0
    action_tokens: int = 64
    solve_tokens: int = 256

    def __post_init__(self):
        if not self.name or not all(c.isalnum() or c in "_-" for c in self.name):
            raise ValueError(f"stage name must be letters, digits, _ or -, got {self.name!r}")
        if self.steps < 0:
            raise ValueError(f"stage {self.name}: steps must be >= 0, got {self.steps}")
        for name in ("updates_per_rollout", "minibatches", "test_problems"):
            if getattr(self, name) < 1:
                raise ValueError(f"stage {self.name}: {name} must be >= 1, got {getattr(self, name)}")
        if self.minibatches > self.collect.demonstrations:
            raise ValueError(
                f"stage {self.name}: minibatches={self.minibatches} must be at most collect.demonstrations="
                f"{self.collect.demonstrations}, which they are made of"
            )
        if self.minibatches > 1 and not self.compact:
            raise ValueError(
                f"stage {self.name}: minibatches={self.minibatches} with compact=false would compute the whole "
                "collection for each of them; set compact=true"
            )
        if self.steps % self.steps_per_collection:
            raise ValueError(
                f"stage {self.name}: steps={self.steps} must be a multiple of updates_per_rollout="
                f"{self.updates_per_rollout} times minibatches={self.minibatches}, so that no rollout is used in part"
            )
        if self.tokens is not None and (self.tokens < 1 or self.optimizer.schedule != "constant"):
            raise ValueError(
                f"stage {self.name}: tokens must be >= 1 and needs optimizer.schedule=constant, as others are laid out "
                f"over steps; got tokens={self.tokens} schedule={self.optimizer.schedule}"
            )
        self._check_device_steps()
        if self.behavior_logp not in ("sampler", "recompute"):
            raise ValueError(
                f"stage {self.name}: behavior_logp must be sampler or recompute, got {self.behavior_logp!r}"
            )
        if self.reference_on not in ("device", "host"):
            raise ValueError(f"stage {self.name}: reference_on must be device or host, got {self.reference_on!r}")
        if self.reference_on == "host" and not self.has_reference:
            raise ValueError(
                f"stage {self.name}: reference_on=host, but {type(self.objective).__name__} has no KL to a reference; "
                "set its coefficient above 0 or leave reference_on out"
            )
        if self.objective.needs.profile and not (self.curation and self.curation.profile):
            raise ValueError(
                f"stage {self.name}: {type(self.objective).__name__} needs curation=Curation(profile=STAGE), an "
                "earlier stage whose rollouts profile the demonstrations"
            )
        self.sampling.check_trainable()

    @property
    def steps_per_collection(self) -> int:
        """Optimizer steps."""
        return self.updates_per_rollout * self.minibatches

    def _check_device_steps(self) -> None:
        """Raises ValueError for what one program cannot do, with what to change."""
        count, collect = self.device_steps, self.collect
        if count < 0:
            raise ValueError(f"stage {self.name}: device_steps must be >= 0, got {count}")
        if not count:
            return
        fixed = collect.prompts is None or collect.refill_rounds is not None
        for right, what in (
            (not self.compact, "compact=false: rows cannot follow what was sampled"),
            (fixed, "collect.refill_rounds: how many rounds a step adds cannot be asked in between"),
            (self.steps_per_collection == 1, "updates_per_rollout=1 and minibatches=1"),
            (self.behavior_logp == "sampler", "behavior_logp=sampler"),
            (self.tokens is None, "steps instead of tokens"),
            (self.curriculum is None, "no curriculum, as that follows the results of every step"),
            (self.steps % count == 0, f"steps as a multiple of it, got steps={self.steps}"),
            (self.validate.every % count == 0, f"validate.every as a multiple of it, got {self.validate.every}"),
        ):
            if not right:
                raise ValueError(f"stage {self.name}: device_steps={count} needs {what}; or set device_steps=0")

    @property
    def has_reference(self) -> bool:
        """Whether the objective compares with the parameters that the stage starts from."""
        return self.objective.needs.reference or self.objective.needs.reference_to_weigh


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run.

    Args:
      weights: folder or `gs://` address of a published checkpoint that stages without `start_from` start from. Its
        sizes replace those of `model`, whose `dtype` and `remat` stay; its tokenizer is used where `tokenizer` is
        `bytes`, and its chat template where `template.kind` is `auto`.
      tokenizer: `bytes`, or a tokenizer folder or file, relative to the data folder or absolute.
      lora: trains adapters of this size in every stage, on parameters that stay what the first stage began with. None
        trains everything. Setting one of its fields on the command line switches it on.
      used_ids_only: keeps only the tokens that occur in the stages' data, for small models with a large tokenizer.
      mesh: devices per mesh axis; all 1 is one device.
      sampler_mesh: the same devices laid out for sampling, which gathers whatever fsdp cuts for every token: parameters
        are sent there once per step; all 1 samples where the learner's parameters lie.
      checkpoint_every: optimizer steps between checkpoints; every stage also saves when it ends.
      mirrors: services that get the lines of `metrics.jsonl` too: some of `tensorboard`, `wandb`, `trackio`. Each is an
        extra: `pip install 'jaxsrl[tensorboard]'`.
      survive: when a run in trouble says so, and when it ends.
      layout_workers: threads that lay out the next step while the device works; 0 lays out when it is needed.
      runs: folder of all runs, or `gs://BUCKET/FOLDER`; see stores/README.md.
      data_dir: folder or address of demonstration files; None takes it from JAXSRL_DATA.
    """

    name: str
    model: ModelConfig
    stages: tuple[Stage, ...]
    seed: int = 0
    weights: str | None = None
    lora: LoRA | None = field(default=None, metadata={"begins_with": LoRA})
    tokenizer: str = "bytes"
    used_ids_only: bool = False
    template: Template = field(default_factory=Template)
    rows: BatchShapes = field(default_factory=BatchShapes)
    mesh: MeshShape = field(default_factory=MeshShape)
    sampler_mesh: MeshShape = field(default_factory=MeshShape)
    checkpoint_every: int = 50
    log_every: int = 1
    mirrors: tuple[str, ...] = ()
    survive: Survive = field(default_factory=Survive)
    layout_workers: int = 1
    runs: str = "runs"
    data_dir: str | None = None

    def __post_init__(self):
        if self.checkpoint_every < 1 or self.log_every < 1:
            raise ValueError(
                f"checkpoint_every and log_every must be >= 1, got checkpoint_every={self.checkpoint_every} "
                f"log_every={self.log_every}"
            )
        check_names(self.mirrors)
        if not self.name or not all(c.isalnum() or c in "._-" for c in self.name) or self.name.startswith("."):
            raise ValueError(f"name must be a folder's name of letters, digits, . _ or -, got {self.name!r}")
        _check_seed("seed", self.seed)
        for name in ("runs", "data_dir", "weights"):
            value = vars(self)[name] or ""
            if "://" in value and not is_stored(value):
                raise ValueError(
                    f"{name}={value} is an object store that is not known: give gs://BUCKET/FOLDER, or mount a file "
                    "system (Filestore, NFS, a volume) and give its folder"
                )
        if self.weights is not None and self.used_ids_only:
            raise ValueError("used_ids_only=true drops rows that published weights have; leave out one of the two")
        if not self.stages:
            raise ValueError("a run needs at least one stage")
        if self.sampler_mesh.size not in (1, self.mesh.size):
            raise ValueError(
                f"sampler_mesh lays out the devices of mesh in another way: {self.sampler_mesh} has "
                f"{self.sampler_mesh.size}, {self.mesh} has {self.mesh.size}"
            )
        seen: list[str] = []
        for stage in self.stages:
            if stage.seed is not None:
                _check_seed(f"stages.{stage.name}.seed", stage.seed)
                if self.lora is not None and self.weights is None:
                    raise ValueError(
                        f"stages.{stage.name}.seed={stage.seed}: without `weights` the base under the adapters is made "
                        "from the run's seed, so runs of other seeds would not share it; set weights, or leave it out"
                    )
            if stage.name in seen:
                raise ValueError(f"two stages are named {stage.name!r}")
            source = (stage.start_from or "").partition(":")
            if source[0] and source[0] not in seen or source[2] not in ("", "last", "best"):
                raise ValueError(
                    f"stage {stage.name}: start_from={stage.start_from!r} must be an earlier stage "
                    f"({', '.join(seen) or 'there is none'}), `:best` may follow"
                )
            profile = stage.curation.profile if stage.curation else None
            if profile is not None and profile not in seen:
                raise ValueError(
                    f"stage {stage.name}: curation.profile={profile!r} must be an earlier stage "
                    f"({', '.join(seen) or 'there is none'})"
                )
            if self.lora is not None and stage.reference_on == "host":
                raise ValueError(
                    f"stage {stage.name}: reference_on=host frees nothing under lora, where the reference is the base; "
                    "leave it out"
                )
            if stage.device_steps and self.checkpoint_every % stage.device_steps:
                raise ValueError(
                    f"stage {stage.name}: device_steps={stage.device_steps} must divide checkpoint_every="
                    f"{self.checkpoint_every}; set one of the two"
                )
            if stage.device_steps and self.survive.replay_every:
                raise ValueError(
                    f"stage {stage.name}: survive.replay_every={self.survive.replay_every} replays the host's loop; "
                    "set device_steps=0 or replay_every=0"
                )
            _check_rows(stage, stage.rows or self.rows, self.mesh, self.layout_to_sample)
            if self.template.prefill_think:
                _check_tag(stage)
            if self.template.kind == "qwen3_nothink":
                _check_thought(stage)
            tokens = (stage.rows or self.rows).tokens
            if tokens is not None and stage.sampling.max_new_tokens >= tokens:
                raise ValueError(
                    f"stage {stage.name}: sampling.max_new_tokens={stage.sampling.max_new_tokens} leaves no room for a "
                    f"prompt in rows.tokens={tokens}"
                )
            seen.append(stage.name)

    def seed_of(self, index: int) -> int:
        """Of the stage at a place: its own, or else the run's."""
        own = self.stages[index].seed
        return self.seed if own is None else own

    @property
    def layout_to_sample(self) -> MeshShape:
        return self.mesh if self.sampler_mesh.size == 1 else self.sampler_mesh


def _check_seed(name: str, seed: int) -> None:
    if not 0 <= seed < 2**31:
        raise ValueError(f"{name} must be in 0..2**31-1, got {seed}")


def _check_tag(stage: Stage) -> None:
    """A tag that the template writes is part of every completion's text: a reward that adds it again would find two."""
    for name, settings in settings_within(stage.objective, "objective"):
        if isinstance(settings, ActionSimilarity) and settings.prefilled:
            raise ValueError(
                f"stages.{stage.name}.{name}.prefilled=true and template.prefill_think=true both write `<think>`, so "
                f"every completion would be malformed: leave prefilled=false, as completions begin with the tag already"
            )


def _check_thought(stage: Stage) -> None:
    """A template that closes the thought before a completion leaves none to be required of it."""
    for name, settings in settings_within(stage.objective, "objective"):
        if isinstance(settings, ActionSimilarity) and settings.think == "required":
            raise ValueError(
                f"stages.{stage.name}.{name}.think=required asks for a thought, and template.kind=qwen3_nothink has "
                "closed it before a completion begins: set think=optional, or template.kind=qwen3"
            )


def settings_within(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A dataclass and those within it, by their path."""
    if is_dataclass(value) and not isinstance(value, type):
        yield name, value
        for inner in fields(value):
            yield from settings_within(getattr(value, inner.name), f"{name}.{inner.name}")


def _check_rows(stage: Stage, rows: BatchShapes, mesh: MeshShape, sampler: MeshShape) -> None:
    """Every device takes the same number of rows, and of tokens where a tensor axis cuts them."""
    for name, layout, parts in (
        ("rows", mesh, mesh.row_parts), ("prompt_rows", sampler, sampler.row_parts),
        ("evaluate_rows", sampler, sampler.row_parts), ("tokens", mesh, mesh.tensor),
    ):  # fmt: skip
        value = getattr(rows, name)
        if value is not None and value % parts:
            raise ValueError(
                f"stage {stage.name}: rows.{name}={value} must be a multiple of {parts}, the parts that {layout} cuts "
                f"it into; the next is {-(-value // parts) * parts}"
            )


def __getattr__(name: str):
    return moved(name, __name__, {"Splits": TaskData})
