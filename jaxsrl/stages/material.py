"""What the stages of a run share, and a stage's demonstrations in their order."""

from dataclasses import dataclass

from jaxsrl.config.run import ConfigError, Stage, TaskData
from jaxsrl.data.curation import curate, profiled
from jaxsrl.data.sources import Order, take
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.metrics import read_rollouts
from jaxsrl.models.config import ModelConfig
from jaxsrl.policy import Compiled, Placement
from jaxsrl.runs import Run
from jaxsrl.types import Demonstration, TokenBytes


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the stages of a run share."""

    model: ModelConfig
    tokenizer: Tokenizer
    token_bytes: TokenBytes
    placement: Placement
    compiled: Compiled


@dataclass(frozen=True, kw_only=True)
class Source:
    """A stage's demonstrations in their endless order."""

    items: tuple[Demonstration, ...]
    order: Order

    def take(self, position: int, count: int) -> tuple[list[Demonstration], int]:
        """`count` demonstrations from a position on, and the position behind them."""
        return take(self.items, self.order, position, count)


def make_source(stage: Stage, splits: TaskData, run: Run, seed: int, index: int) -> Source:
    """The training demonstrations that the stage's curation chooses, with their profile where it names one.

    Raises: ConfigError where the curation leaves none.
    """
    items, settings = splits.train, stage.curation
    if settings is not None:
        try:
            if settings.profile is not None:
                items = profiled(items, read_rollouts(run.folder, settings.profile))
            chosen = curate(items, settings)
        except ValueError as error:
            raise ConfigError(f"stages.{stage.name}.curation: {error}") from error
        run.console.say(f"[{stage.name}] curation: {len(chosen)} of {len(items)} demonstrations")
        items = chosen
    return Source(items=items, order=Order(count=len(items), seed=(seed * 1009 + index) % 2**32))
