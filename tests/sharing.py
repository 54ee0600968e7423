"""Runs of the suite share what they compile, so that a tiny run takes about a second but for the first."""

from collections.abc import Callable
from pathlib import Path

from jaxsrl.config import Config
from jaxsrl.config.overrides import check_unchanged, to_dict
from jaxsrl.policy import Compiled
from jaxsrl.runs import Run, open_run
from jaxsrl.stages.begin import prepare
from jaxsrl.train import run_stages
from jaxsrl.train import train as train_alone

COMPILED = Compiled()


def train(config: Config, stop: Callable[[], bool] = lambda: False) -> Path:
    """`jaxsrl.train.train` with the functions of earlier runs of this process."""
    return train_alone(config, stop, COMPILED)


def train_in(config: Config, exchange: Callable[[Run], Run], stop: Callable[[], bool] = lambda: False) -> None:
    """The same, in an open run of which `exchange` has replaced parts; without the report."""
    prepared = prepare(config, COMPILED)
    with open_run(Path(config.runs) / config.name, to_dict(config), check_unchanged) as run:
        run_stages(exchange(run), config, prepared, stop)
