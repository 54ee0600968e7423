"""Arguments of the commands on demonstrations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxsrl.cli.runs import Common


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
