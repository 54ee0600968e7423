"""What is read and measured before a run's folder is opened, and what is written down when an attempt begins."""

import difflib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxsrl.config.check_lengths import check_fits
from jaxsrl.config.demonstrations import bring_inputs, config_tokenizer, data_folder, tokenizer_path
from jaxsrl.config.keys import check_keys, grader
from jaxsrl.config.overrides import to_dict
from jaxsrl.config.passes import disagreements, kept_ids, lengths, texts
from jaxsrl.config.run import Config, ConfigError, Stage, TaskData
from jaxsrl.console import Console
from jaxsrl.data.built import Stored
from jaxsrl.data.large import SAMPLED, sampled
from jaxsrl.data.spelled import about_separator, about_spelling, spelled
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.data.tokenizer_files import text_of, write_files
from jaxsrl.data.used_ids import UsedIds
from jaxsrl.evals.names import metric_names
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.families import read_config
from jaxsrl.policy import Compiled, make_placement
from jaxsrl.processes import broadcast_from_first, is_first
from jaxsrl.progress import Progress
from jaxsrl.runs import Run, check_data, read_json, write_json
from jaxsrl.stages.material import Material
from jaxsrl.stores.copies import here
from jaxsrl.update import learning_rate

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the stages of a run are made of, and what is to be said of each."""

    material: Material
    splits: Mapping[str, TaskData]
    warnings: Mapping[str, str | None]
    notes: tuple[str, ...] = ()
    disputed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of each stage, see `disagreements`


def prepare(config: Config, compiled: Compiled) -> Prepared:
    """Raises: ConfigError where demonstrations do not fit the settings, or devices the processes."""
    _check_devices(config)
    placement = make_placement(config.mesh, config.layout_to_sample)
    for stage in config.stages:
        _check_metric(stage)
    with Console(silent=not is_first()).wait("reading and measuring the demonstrations"):
        splits, tokenizer, model = load_data(config)
        for stage in config.stages:
            _check_held_out(stage, splits[stage.name])
        splits = {stage.name: check_keys(stage, splits[stage.name]) for stage in config.stages}
        warnings = {
            stage.name: check_fits(
                config, stage, splits[stage.name], tokenizer,
                known=lengths(config, stage, splits[stage.name], tokenizer),
            )
            for stage in config.stages
        }  # fmt: skip
        disputed = {stage.name: _disputed(stage, splits[stage.name]) for stage in config.stages}
    material = Material(
        model=model, tokenizer=tokenizer, token_bytes=token_bytes(tokenizer, config.template),
        placement=placement, compiled=compiled,
    )  # fmt: skip
    return Prepared(
        material=material, splits=splits, warnings=warnings, notes=notes(config, splits, tokenizer), disputed=disputed,
    )  # fmt: skip


def _disputed(stage: Stage, splits: TaskData) -> tuple[str, ...]:
    """Experts that the stage's own grader would not find right; of many rows, or with slow rules, some are graded."""
    reward = grader(stage, splits)
    if reward is None:
        return ()
    some = sampled(splits.train)
    some = some if reward.symbolic is None else some[:SAMPLED]
    return tuple(broadcast_from_first(lambda: disagreements(reward, some)))


def load_data(config: Config) -> tuple[dict[str, TaskData], Tokenizer, ModelConfig]:
    """The splits of every stage, the tokenizer, and the model with that tokenizer's vocabulary.

    Raises: ConfigError where the model's vocabulary is too small; WeightsError where `weights` cannot be read.
    """
    bring_inputs(config)
    loaded: dict[Any, TaskData] = {}
    for stage in config.stages:
        if stage.data not in loaded:
            loaded[stage.data] = stage.data.load(config.data_dir)
    tokenizer, model = config_tokenizer(config), config.model
    if config.weights is not None:
        model = replace(read_config(Path(here(config.weights))), dtype=model.dtype, remat=model.remat)
    if config.used_ids_only:
        tokenizer = _cut_down(tokenizer, loaded.values())
        model = replace(model, vocab=tokenizer.vocab_size)
    elif model.vocab < tokenizer.vocab_size and config.weights is not None:
        raise ConfigError(
            f"{config.weights} has {model.vocab} rows of embeddings, and {tokenizer.name} has {tokenizer.vocab_size} "
            "tokens: it is not the tokenizer of these weights. Leave tokenizer=bytes, which takes that of their folder"
        )
    elif model.vocab < tokenizer.vocab_size:
        raise ConfigError(
            f"model.vocab={model.vocab} is smaller than the {tokenizer.vocab_size} tokens of {tokenizer.name}; "
            f"set model.vocab={tokenizer.vocab_size}"
        )
    loaded = {data: spelled_splits(tokenizer, part) for data, part in loaded.items()}
    return {stage.name: loaded[stage.data] for stage in config.stages}, tokenizer, model


def _cut_down(tokenizer: Tokenizer, loaded: Iterable[TaskData]) -> Tokenizer:
    """The tokenizer with the ids of the training splits alone: collected when a set was built, else now."""
    kept: set[int] = set()
    for splits in loaded:
        known = kept_ids(splits, tokenizer)
        some = (token for d in splits.train for text in texts(d) for token in tokenizer.encode(text, first=False))
        kept.update(some if known is None else known.tolist())
    return UsedIds(tokenizer, kept)


def spelled_splits(tokenizer: Tokenizer, part: TaskData) -> TaskData:
    """Demonstrations as the tokenizer spells them."""
    spell = partial(spelled, tokenizer)
    change = lambda rows: rows.changed(spell) if isinstance(rows, Stored) else tuple(map(spell, rows))
    return replace(part, **{name: change(getattr(part, name)) for name in PARTS})


def notes(config: Config, splits: Mapping[str, TaskData], tokenizer: Tokenizer) -> tuple[str, ...]:
    """What a person should know about template and tokenizer before the first step."""
    kind = config.template.kind
    found = []
    if kind == "auto" and config.weights:
        found.append(f"template: {tokenizer.template}, that of {tokenizer_path(config)}")
    for name, part in splits.items():
        some = sampled(part.train)
        whole = (*some, *sampled(part.validation), *sampled(part.test))
        said = about_spelling(tokenizer, whole), about_separator(tokenizer, some, config.template.separator)
        found += [f"[{name}] {one}" for one in (*part.notes, *said) if one]
    for stage in (one for one in config.stages if one.name in splits):
        found += [
            f"[{stage.name}] {setting}={asked}, and its data have {there} {split} problems: all of them are asked"
            for split, setting, asked, there in _too_few(stage, splits[stage.name])
        ]
    return tuple(found)


def begin(run: Run, config: Config, prepared: Prepared) -> int:
    """Writes down what an attempt goes by. Returns the number of the stage that it begins with.

    Raises: ConfigError where the run has gone on from a stage that was longer or shorter; OtherInputs where its data
      are others.
    """
    start = _first_stage(config, run.record)
    check_data(run.folder, _files(config, prepared.splits))
    if is_first():
        _say_jump(run, config)
        write_json(run.folder / "config.json", to_dict(config))  # settings that may change: those of the last attempt
        _write_model(run.folder, config, prepared.material)
    if len(jax.devices()) > config.mesh.size:
        run.console.say(f"{config.mesh.size} of {len(jax.devices())} devices are used; set mesh.fsdp or mesh.data")
    for note in prepared.notes:
        run.console.say(note)
    for name, part in prepared.splits.items():
        _write_quarantine(run, name, part)
        _write_disputed(run, name, prepared.disputed.get(name, ()))
        if prepared.warnings[name]:
            run.console.say(f"[{name}] {prepared.warnings[name]}")
    return start


def _files(config: Config, splits: Mapping[str, TaskData]) -> dict[str, str]:
    """Hashes of all files read, named within the data folder: that may be another one when a run goes on."""
    folder = f"{data_folder(config.data_dir)}/"
    files = {name: found for part in splits.values() for name, found in part.files.items()}
    return {name.removeprefix(folder): files[name] for name in sorted(files)}


def _check_devices(config: Config) -> None:
    """A device without a share of the rows would leave its process with nothing to hold."""
    if jax.process_count() > 1 and config.mesh.size != len(jax.devices()):
        raise ConfigError(
            f"{jax.process_count()} processes have {len(jax.devices())} devices, {config.mesh} is {config.mesh.size}: "
            f"the mesh of several processes takes all; set mesh.fsdp={len(jax.devices())} or cut it otherwise"
        )


def _check_metric(stage: Stage) -> None:
    """What a validation is to be judged by is among what it measures."""
    known = metric_names(stage.validate.evaluation)
    if stage.validate.metric.removesuffix("_low").removesuffix("_high") not in known:
        name = f"stages.{stage.name}.validate.metric"
        near = difflib.get_close_matches(stage.validate.metric, known, 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{name}={stage.validate.metric!r} is none of: {', '.join(known)}{meant}")


def _check_held_out(stage: Stage, splits: TaskData) -> None:
    """A stage is validated at its end, whatever `validate.every` is; data that make themselves make all it asks for."""
    if not splits.validation:
        raise ConfigError(
            f"stage {stage.name}: its data have no validation problems, and {len(splits.train)} to train on: hold more "
            "of them out (data.held_out), or bring more"
        )
    for split, name, asked, there in _too_few(stage, splits) if splits.task is not None else ():
        raise ConfigError(
            f"stages.{stage.name}.{name}={asked}, but its data make {there} {split} problems; set "
            f"stages.{stage.name}.data.{split}={asked}, or ask for fewer"
        )


def _too_few(stage: Stage, splits: TaskData) -> Iterator[tuple[str, str, int, int]]:
    """(split, setting, problems asked for, problems there) of splits that hold fewer than an evaluation asks for."""
    asked = [("validation", "validate.problems", stage.validate.problems)]
    asked += [("test", "test_problems", stage.test_problems)] if stage.test is not None else []
    for split, name, count in asked:
        if len(getattr(splits, split)) < count:
            yield split, name, count, len(getattr(splits, split))


def _write_model(folder: Path, config: Config, material: Material) -> None:
    """What `convert` needs beside the parameters, so that a run folder can be moved without its sources."""
    write_json(folder / "model.json", to_dict(material.model))
    write_json(folder / "text.json", asdict(text_of(config.template, material.tokenizer)))
    if config.weights is not None:
        shutil.copyfile(Path(here(config.weights)) / "config.json", folder / "weights_config.json")
    if not config.used_ids_only:
        write_files(tokenizer_path(config), folder / "tokenizer")


def _first_stage(config: Config, record: Mapping[str, Any] | None) -> int:
    if record is None:
        return 0
    for stage in config.stages[: record["index"]]:
        if stage.steps != record["earlier_steps"][stage.name]:
            raise ConfigError(
                f"stages.{stage.name}.steps={stage.steps}, but that stage ended with "
                f"{record['earlier_steps'][stage.name]} and a later one has begun; keep the old value or use a new name"
            )
    stage = config.stages[record["index"]]
    return record["index"] + (record["done"] and is_over(stage, Progress.from_record(record)))


def _say_jump(run: Run, config: Config) -> None:
    """A schedule is laid out over the stage's steps: with more or fewer of them a resumed one goes on elsewhere."""
    path = run.folder / "config.json"
    if run.record is None or not path.exists():
        return
    index, step = run.record["index"], run.record["step"]
    stage, before = config.stages[index], read_json(path)["stages"][index]["steps"]
    old, new = (float(learning_rate(stage.optimizer, steps)(step)) for steps in (before, stage.steps))
    if before != stage.steps and step < stage.steps and old != new:
        run.console.say(
            f"warning: [{stage.name}] steps were {before}, are {stage.steps} under schedule="
            f"{stage.optimizer.schedule}: the learning rate of step {step + 1} jumps from {old:.3g} to {new:.3g}. "
            "For a run as if it had been that long from the start use another name (--set name=...)"
        )


def is_over(stage: Stage, progress: Progress) -> bool:
    """Whether a stage has taken its steps, or used its tokens."""
    return progress.step >= stage.steps or (stage.tokens is not None and progress.executed >= stage.tokens)


def _write_disputed(run: Run, name: str, disputed: Sequence[str]) -> None:
    """Such a row teaches SFT what RLVR would punish, or has a wrong key: for a person to see."""
    if not disputed:
        return
    path = run.folder / "disputed" / f"{name}.txt"
    run.console.say(f"[{name}] the grader disagrees with {len(disputed)} experts, listed in {path}: {disputed[0]}")
    if is_first():
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(disputed) + "\n", encoding="utf-8")


def _write_quarantine(run: Run, name: str, splits: TaskData) -> None:
    counts = ", ".join(f"{value} {key}" for key, value in splits.counts.items())
    sizes = f"{len(splits.train)} train, {len(splits.validation)} validation, {len(splits.test)} test"
    run.console.say(f"[{name}] demonstrations: {sizes}" + (f" (of {counts})" if counts else ""))
    if splits.quarantine and is_first():
        path = run.folder / "quarantine" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(splits.quarantine) + "\n", encoding="utf-8")
        run.console.say(f"[{name}] {len(splits.quarantine)} bad rows set aside in {path}")
