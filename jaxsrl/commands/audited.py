"""Which policies are audited, and the questions that all of them are asked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxsrl.checkpoint import Checkpoints, PolicyName
from jaxsrl.commands.policy import Asked, load_policy, named_config
from jaxsrl.commands.published import Published, load_published
from jaxsrl.commands.run_folder import check_run
from jaxsrl.config.demonstrations import data_folder
from jaxsrl.config.keys import needs_key, with_key
from jaxsrl.config.run import Config, ConfigError, TaskData
from jaxsrl.evals.benchmarks import BENCHMARKS, benchmark_file, benchmark_reward, read_benchmark
from jaxsrl.policy import Compiled, first_ancestor
from jaxsrl.stores.copies import WITH_POLICIES, here, run_here
from jaxsrl.stores.objects import is_stored
from jaxsrl.types import Demonstration

SOLVE_TOKENS = 320  # cap of a solution of a published model, where nothing else says one


@dataclass(frozen=True, kw_only=True)
class Target:
    """A policy to be audited: of a run's folder, or a published model's where `config` is None.

    Args:
      policy: as `choose_policy` reads it.
    """

    folder: Path
    config: Config | None = None
    policy: str | None = None

    @property
    def name(self) -> str:
        """As a user would write it."""
        return str(self.folder) if self.policy is None else f"{self.folder.name}:{self.policy}"


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What all policies are asked, and how it is judged.

    Args:
      about: for a person.
      caps: tokens of an action and of a solution, see `probed_policy`.
    """

    about: str
    demonstrations: tuple[Demonstration, ...]
    splits: TaskData
    caps: dict[str, int]


def targets_of(texts: Sequence[str], weights: Sequence[Path], own: Sequence[Any] = ()) -> list[Target]:
    """The policies that a user names, each once: `runs/NAME`, `runs/NAME:STAGE`, `runs/NAME:STAGE:best`, and folders.

    A run alone stands for the model that it began with, where that was published, and what each stage ended with.

    Raises: ConfigError where none is named; RunError naming the folder that is no run, or the policies that there are.
    """
    found: list[Target] = []
    for text in texts:
        folder, policy = _parted(text)
        config, _ = named_config(folder, (), own)
        if policy is not None:
            found.append(Target(folder=folder, config=config, policy=policy))
            continue
        if config.weights is not None and Path(here(config.weights)).is_dir():
            found.append(Target(folder=Path(here(config.weights))))
        there = _ended(folder)
        found += [Target(folder=folder, config=config, policy=s.name) for s in config.stages if s.name in there]
    found += [Target(folder=folder) for folder in weights]
    if not found:
        raise ConfigError("name a run, as runs/NAME or runs/NAME:STAGE:best, or --weights FOLDER")
    return list({(one.folder, one.policy): one for one in found}.values())


def _parted(text: str) -> tuple[Path, str | None]:
    """Folder and policy: what stands before the first colon behind a folder that exists, or behind an address."""
    if Path(text).exists():
        return Path(text), None
    scheme = "gs:" if is_stored(text) else ""
    folder, colon, policy = text.removeprefix(scheme).partition(":")
    return run_here(scheme + folder, WITH_POLICIES), policy if colon else None


def _ended(folder: Path) -> set[str]:
    """Stages that have ended."""
    check_run(folder)
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        return {one.stage for one in checkpoints.policies() if one == PolicyName(one.stage, "last")}
    finally:
        checkpoints.close()


def base_of(target: Target) -> Target:
    """What a policy was trained from: the published model of its run, else what the run's first stage ended with."""
    config = target.config
    if config is None:
        return target
    if config.weights is not None:
        return Target(folder=Path(here(config.weights)))
    starts = {one.name: one.start_from for one in config.stages}
    stage = target.policy.partition(":")[0] if target.policy else config.stages[-1].name
    first = config.stages[first_ancestor(starts, stage)].name if stage in starts else config.stages[0].name
    return replace(target, policy=first)


def load_target(target: Target, compiled: Compiled, published: Published) -> Asked:
    """The policy itself, without data.

    Args:
      compiled: programs that policies of one model share.
      published: how folders of published weights are read; its folder is put in.
    """
    if target.config is None:
        return replace(load_published(replace(published, folder=target.folder)), short=target.folder.resolve().name)
    saved = load_policy(target.config, target.policy, checked=False, data=False, compiled=compiled)
    return saved.asked(target.config)


def run_questions(
    target: Target, split: str, problems: int, data_dir: str | None, stages: Sequence[str] = ()
) -> Questions:
    """Held-out problems of stages of the run, by default of its last one; the same for all policies.

    Of several stages, as of an easy and a hard one, each gives so many; all are judged as the last one's are.

    Raises: ConfigError where there are none, the run has no such stage, or stages are of different tasks.
    """
    config = target.config if data_dir is None else replace(target.config, data_dir=data_dir)
    by_name = {stage.name: stage for stage in config.stages}
    if unknown := set(stages) - set(by_name):
        raise ConfigError(f"{config.name} has no stage {', '.join(sorted(unknown))}; it has {', '.join(by_name)}")
    chosen = [by_name[name] for name in stages or (config.stages[-1].name,)]
    loaded = [stage.data.load(config.data_dir) for stage in chosen]
    if len({type(one.task) for one in loaded}) > 1:
        kinds = ", ".join(f"{stage.name}: {type(one.task).__name__}" for stage, one in zip(chosen, loaded, strict=True))
        raise ConfigError(f"stages that are asked together must be of one task, as they are judged alike; {kinds}")
    asked: list[Demonstration] = []
    for stage, splits in zip(chosen, loaded, strict=True):
        some = getattr(splits, split)
        some = (with_key(some) if needs_key(splits.reward) else some)[:problems]
        if not some:
            raise ConfigError(f"the {split} split of stage {stage.name} has no problem to ask")
        asked += some
    where = f"stage{'s' if len(chosen) > 1 else ''} {', '.join(stage.name for stage in chosen)}"
    return Questions(
        about=f"{len(asked)} {split} problems of {config.name}, {where}", demonstrations=tuple(asked),
        splits=loaded[-1],
        caps={"action": max(stage.action_tokens for stage in chosen),
              "solve": max(stage.solve_tokens for stage in chosen)},
    )  # fmt: skip


def benchmark_questions(name: str, problems: int, data_dir: str | None) -> Questions:
    """The first problems of a published test set. Raises: FileNotFoundError, DataError."""
    asked = read_benchmark(name, benchmark_file(name, data_folder(data_dir)))[:problems]
    reward, cap = benchmark_reward(name), min(BENCHMARKS[name].max_tokens, SOLVE_TOKENS)
    splits = TaskData(
        train=(), validation=(), test=asked, reward=reward, same=reward.same, first_action=_first_line,
        finished=lambda action, one: reward.answer_in(action) is not None,
    )  # fmt: skip
    about = f"the first {len(asked)} problems of {name}"
    return Questions(about=about, demonstrations=asked, splits=splits, caps={"action": cap, "solve": cap})


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
