"""Builds a set of demonstrations from a stage's data, and measures it."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from jaxsrl.config.built import Built, about_set
from jaxsrl.config.demonstrations import config_tokenizer
from jaxsrl.config.passes import write_passes
from jaxsrl.config.run import Config, ConfigError, TaskData
from jaxsrl.data.built import NAME, VERSION, check_sums, open_set, write_set
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.stages.begin import spelled_splits


def build(config: Config, stage_name: str | None, to: Path) -> Iterator[str]:
    """Writes the set of a stage's data below `to`, unless it is there, and takes the passes over it that are missing.

    Yields what was done, line by line.
    Raises: ConfigError where the data are generated, or the set there was made of other files or cut otherwise.
    """
    names = [stage.name for stage in config.stages]
    if stage_name is not None and stage_name not in names:
        raise ConfigError(f"no stage {stage_name!r}; there are: {', '.join(names)}")
    stage = config.stages[names.index(stage_name) if stage_name else -1]
    data = stage.data
    if not isinstance(data, Built):
        folder = to / NAME / VERSION
        yield from _write(data.load(config.data_dir), folder, to)
        data = Built(path=str(folder.absolute()))
    whole = replace(data, rows_of="train").load(config.data_dir)  # a slice of the set finds its rows among all
    check_sums(open_set(whole.passes.parent))
    tokenizer = config_tokenizer(config)
    splits = spelled_splits(tokenizer, whole)
    yield from write_passes(config, stage, splits, tokenizer)
    yield f"train on it with data=Built(path={data.path!r}), or on a part with rows_of='train[:1000]'"


def _write(splits: TaskData, folder: Path, to: Path) -> Iterator[str]:
    if splits.splitter is None or not isinstance(splits.reward, FinalAnswer):
        raise ConfigError("this stage's data are generated, not read from files: there is nothing to build")
    how = {
        "splitter": asdict(splits.splitter), "extract": splits.reward.extract, "finish_mark": splits.finish_mark,
        "keyless": [i for i, d in enumerate(splits.train) if d.answer is None], "quarantine": list(splits.quarantine),
    }  # fmt: skip
    about = about_set(splits, how)
    if folder.exists():
        there = open_set(folder).about
        fixed = ("files", "splitter", "extract", "finish_mark", "counts")
        other = [name for name in fixed if there[name] != about[name]]
        if other:
            raise ConfigError(f"{folder} was built with another {' and '.join(other)}; name another folder with --to")
        yield f"{folder} is there already"
        return
    parts = {name: getattr(splits, name) for name in ("train", "validation", "test") if getattr(splits, name)}
    write_set(to, parts, about)
    sizes = ", ".join(f"{len(rows)} {name}" for name, rows in parts.items())
    yield f"{folder}: {sizes}"
