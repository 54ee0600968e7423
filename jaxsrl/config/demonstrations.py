"""Where a stage's demonstrations come from: files of the data folder, or a task that makes its own."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from jaxsrl.config.run import Config, TaskData
from jaxsrl.config.splits import splits
from jaxsrl.data import datasets
from jaxsrl.data.actions import Splitter
from jaxsrl.data.chat import check_marks
from jaxsrl.data.demonstrations import Fields, Loaded, read
from jaxsrl.data.formats import parse_split
from jaxsrl.data.tokenizer import Tokenizer, load_tokenizer
from jaxsrl.old_names import takes_old_names
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.stores.copies import bring, here
from jaxsrl.tasks.arithmetic import Arithmetic, generate, verify_answer
from jaxsrl.types import Demonstration


def data_folder(data_dir: str | None) -> str | None:
    """The folder given, else the variable JAXSRL_DATA; of an address, the copy that `bring_inputs` makes."""
    named = data_dir or os.environ.get("JAXSRL_DATA")
    return here(named) if named else None


def bring_inputs(config: Config) -> None:
    """Copies data and weights that lie in a store. Raises: FileNotFoundError, StoreError."""
    bring(config.data_dir or os.environ.get("JAXSRL_DATA"))
    bring(config.weights)


def tokenizer_path(config: Config) -> str:
    """Where the config's tokenizer is: built in, absolute, with the weights, or in the data folder."""
    if config.tokenizer == "bytes" and config.weights is not None:
        return here(config.weights)
    if config.tokenizer == "bytes" or Path(config.tokenizer).exists():
        return config.tokenizer
    return str(datasets.find(data_folder(config.data_dir), config.tokenizer))


def config_tokenizer(config: Config) -> Tokenizer:
    """The config's tokenizer, with the template that `template.kind` stands for: `auto` is that of the folder of
    `weights`, and `plain` for a model from scratch, which knows no marks.

    Raises: ValueError if the files cannot be read, or the template writes marks that the tokenizer lacks.
    """
    kind = config.template.kind
    if kind == "auto":
        kind = None if config.weights is not None else "plain"
    tokenizer = load_tokenizer(tokenizer_path(config), template=kind)
    check_marks(config.template, tokenizer)
    return tokenizer


@dataclass(frozen=True, kw_only=True)
class Gsm8k:
    """Grade-school problems; calculator annotations are dropped, kept, or become the thought of their action.

    Args:
      held_out: problems of the train file kept for validation.
      max_characters: leaves out longer problem-and-solution texts; counted as `too_long`.
    """

    annotations: Literal["keep", "drop", "thought"] = "drop"
    held_out: int = 200
    max_characters: int | None = None
    max_bad_share: float = 0.01
    split_seed: int = 0

    def load(self, data_dir: str | None) -> TaskData:
        folder = data_folder(data_dir)
        part = partial(datasets.gsm8k, folder, annotations=self.annotations, max_bad_share=self.max_bad_share)
        splitter = Splitter(style="lines", annotations=self.annotations)
        return splits(
            part(part="train"), test=part(part="test"), reward=FinalAnswer(extract="hash"), finish_mark="####",
            splitter=splitter, held_out=self.held_out,
            max_characters=self.max_characters, split_seed=self.split_seed,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Numina:
    """AMC and AIME problems with numbered, titled solutions. Held-out problems serve validation and test in halves.

    Args:
      thoughts: `titles` makes an action's title the thought before it, so that a warm start can teach the format; such
        demonstrations are those in which every action has one.
    """

    preamble: Literal["join", "drop"] = "join"
    thoughts: Literal["none", "titles"] = "none"
    held_out: int = 200
    max_characters: int | None = None
    max_bad_share: float = 0.01
    split_seed: int = 0

    def load(self, data_dir: str | None) -> TaskData:
        loaded = datasets.numina(data_folder(data_dir), preamble=self.preamble, max_bad_share=self.max_bad_share)
        splitter = Splitter(style="numbered", preamble=self.preamble)
        if self.thoughts == "titles":
            titled = (d for d in loaded.demonstrations if d.titles and all(d.titles))
            loaded = replace(loaded, demonstrations=tuple(replace(d, thoughts=d.titles) for d in titled))
        return splits(
            loaded, reward=FinalAnswer(extract="boxed"), finish_mark="\\boxed",
            splitter=splitter, held_out=self.held_out,
            max_characters=self.max_characters, split_seed=self.split_seed,
        )  # fmt: skip


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class Files:
    """Any files with a field map: JSON lines, parquet, ArrayRecord, folders of TFDS and of Hugging Face `datasets`.

    Args:
      paths: relative to the data folder, or absolute; a text is one path.
      rows_of: the split, or a slice of it: `train`, `train[:1000]`, `[10%:]`, of the rows of all paths together.
      test_paths, test_rows_of: those of a test set; without paths half of the problems held out are tested on.
      extract: where the final answer stands in a completion; where the key stands is said by `fields`.
      finish_mark: in an action, ends a chained solution.
      held_out: problems kept for validation, or a share of them.
    """

    paths: tuple[str, ...] | str
    fields: Fields = field(default_factory=Fields)
    splitter: Splitter = field(default_factory=Splitter)
    rows_of: str = "train"
    test_paths: tuple[str, ...] | str = ()
    test_rows_of: str = "test"
    extract: Literal["boxed", "hash", "last_number"] = "boxed"
    finish_mark: str = "\\boxed"
    held_out: int | float = 200
    max_characters: int | None = None
    max_bad_share: float = 0.01
    split_seed: int = 0

    def __post_init__(self):
        for name in ("paths", "test_paths"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, (getattr(self, name),))
        if not self.paths:
            raise ValueError("paths must name a file or folder")
        parse_split(self.rows_of), parse_split(self.test_rows_of)

    def load(self, data_dir: str | None) -> TaskData:
        loaded = self._read(data_dir, self.paths, self.rows_of)
        test = self._read(data_dir, self.test_paths, self.test_rows_of) if self.test_paths else None
        return splits(
            loaded, test=test, reward=FinalAnswer(extract=self.extract), finish_mark=self.finish_mark,
            splitter=self.splitter, held_out=self.held_out,
            max_characters=self.max_characters, split_seed=self.split_seed,
        )  # fmt: skip

    def _read(self, data_dir: str | None, paths: Sequence[str], rows_of: str) -> Loaded:
        folder = data_folder(data_dir)
        found = [path if os.path.isabs(path) else str(datasets.find(folder, path)) for path in paths]
        return read(found, self.fields, self.splitter, rows_of=rows_of, max_bad_share=self.max_bad_share)


def arithmetic_answer(text: str, demonstration: Demonstration) -> bool:
    """Whether the last line of a solution is the expert's; its digits are too many to guess."""
    return verify_answer(text, demonstration, chain=False)


def arithmetic_chain(text: str, demonstration: Demonstration) -> bool:
    """Whether every line of a solution is the expert's."""
    return verify_answer(text, demonstration, chain=True)


def _reached_stop(action: str, demonstration: Demonstration) -> bool:
    return action.partition("=")[0].strip() == demonstration.problem.partition(":")[0]


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.split("\n") if line.strip()), "")


@dataclass(frozen=True, kw_only=True)
class ArithmeticTask:
    """Generated arithmetic; splits share no problem.

    Args:
      settings: of the problems; `held_out` are those of validation and test where they differ.
      train, validation, test: how many problems.
      shuffle_experts: control in which every problem's expert actions carry the digits of another problem's, under
        its own labels: a reward that is not about the problem can teach the format only.
    """

    settings: Arithmetic = field(default_factory=Arithmetic)
    held_out: Arithmetic | None = None
    train: int = 2048
    validation: int = 64
    test: int = 200
    shuffle_experts: bool = False

    def load(self, data_dir: str | None) -> TaskData:
        away = self.held_out or self.settings
        train = generate(self.settings, self.train, "train")
        if self.shuffle_experts:
            train = _others_actions(train)
        return TaskData(
            train=tuple(train),
            validation=tuple(generate(away, self.validation, "validation")),
            test=tuple(generate(away, self.test, "test")),
            reward=FinalAnswer(verify=arithmetic_answer),
            finished=_reached_stop,
            first_action=_first_line,
            task=away,
        )


def _others_actions(demonstrations: list[Demonstration]) -> list[Demonstration]:
    """Each demonstration with the digits of the next one's actions under its own labels."""
    turned = demonstrations[1:] + demonstrations[:1]
    out = []
    for own, other in zip(demonstrations, turned, strict=True):
        digits = [action.partition("=")[2] for action in other.actions]
        labels = [action.partition("=")[0] for action in own.actions]
        mixed = tuple(f"{label}={digits[i % len(digits)]}" for i, label in enumerate(labels))
        out.append(replace(own, actions=mixed, thoughts=None))
    return out
