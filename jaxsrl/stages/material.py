"""What the stages of a run share, and a stage's demonstrations in their order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxsrl.config.run import ConfigError, Stage, TaskData
from jaxsrl.data.built import Stored
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
    """A stage's demonstrations in their endless order.

    Args:
      fits: of rows that were not all measured, whether one does; what does not is passed over. None: all do.
    """

    items: Sequence[Demonstration]
    order: Order
    fits: Callable[[Demonstration], bool] | None = None

    def take(self, position: int, count: int) -> tuple[list[Demonstration], list[int], int]:
        """`count` demonstrations from a position on, their positions, and the position behind them.

        Raises: ConfigError where a whole epoch does not have so many that fit.
        """
        if self.fits is None:
            drawn, after = take(self.items, self.order, position, count)
            return drawn, list(range(position, after)), after
        drawn, places, at = [], [], position
        while len(drawn) < count:
            if at - position > len(self.items) + count:
                raise ConfigError(f"of {len(self.items)} demonstrations hardly any fits the rows; raise rows.tokens")
            (one,), after = take(self.items, self.order, at, 1)
            if self.fits(one):
                drawn.append(one)
                places.append(at)
            at = after
        return drawn, places, at


def make_source(stage: Stage, splits: TaskData, run: Run, seed: int, index: int) -> Source:
    """The training demonstrations that the stage's curation chooses, with their profile where it names one.

    Raises: ConfigError where the curation leaves none.
    """
    items, settings = splits.train, stage.curation
    if settings is not None and splits.parts:
        raise ConfigError(
            f"stages.{stage.name}.curation chooses among demonstrations that are mixed by weight, and would change the "
            "mixture; choose in each part, as data.parts.0.rows_of=train[:1000]"
        )
    if settings is not None and isinstance(items, Stored):
        raise ConfigError(
            f"stages.{stage.name}.curation would read all {len(items)} demonstrations of a stored set: take a slice of "
            "it, as data.rows_of=train[:1000], or curate what it is built from"
        )
    if settings is not None:
        try:
            if settings.profile is not None:
                items = profiled(items, read_rollouts(run.folder, settings.profile))
            chosen = curate(items, settings)
        except ValueError as error:
            raise ConfigError(f"stages.{stage.name}.curation: {error}") from error
        run.console.say(f"[{stage.name}] curation: {len(chosen)} of {len(items)} demonstrations")
        items = chosen
    if len(items) < stage.collect.demonstrations:
        run.console.say(
            f"[{stage.name}] collect.demonstrations={stage.collect.demonstrations}, but there are {len(items)}: a step "
            "has some of them more than once"
        )
    order = Order(count=len(items), seed=(seed * 1009 + index) % 2**32, parts=splits.parts, weights=splits.weights)
    return Source(items=items, order=order)
