"""A ladder of model sizes at a fixed recipe as one value, and the study that its runs are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log

from jaxsrl.config.run import Config, ConfigError
from jaxsrl.models.config import ModelConfig
from jaxsrl.objectives.sft import SFT
from jaxsrl.stages.begin import Prepared
from jaxsrl.studies.cost import Useful, parameters, stage_cost
from jaxsrl.studies.scaling import FLOPS
from jaxsrl.studies.study import Arm, Estimator, Study

LEAST_SIZES, LEAST_STEPS = 6, 10


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """What `ladder()` of a ladder's file returns: every size at every budget, and what is the same for all of them.

    Args:
      base: one stage of SFT, whose loss on demonstrations that it has not seen is what is fitted. `optimizer.lr` and
        `collect.demonstrations` are those of the smallest size and the least data.
      sizes: six or more; see `shaped`.
      budgets: FLOPs of training, C = 6 N D.
      rates: factors of a size's learning rate that are all tried; the best counts. They are one population where the
        study's `population` allows it.
      lr_exponent: a size of width W begins from lr (W_smallest / W)^lr_exponent.
      batch_exponent: demonstrations a step grow as D^batch_exponent.
      last: share of the steps, the last ones, over which the loss is averaged.
      seeds: of every point; their mean is fitted.
      population: see `Study`.
    """

    name: str
    base: Config
    sizes: tuple[ModelConfig, ...]
    budgets: tuple[float, ...]
    rates: tuple[float, ...] = (1.0,)
    lr_exponent: float = 1.0
    batch_exponent: float = 0.0
    last: float = 0.1
    seeds: tuple[int, ...] = (0,)
    population: int | None = None

    def __post_init__(self):
        if len(self.base.stages) != 1 or not isinstance(self.base.stages[0].objective, SFT):
            raise ValueError("a ladder has one stage, of SFT: its loss is what a law of sizes and tokens is about")
        if len({parameters(size) for size in self.sizes}) < LEAST_SIZES:
            raise ValueError(f"a ladder has {LEAST_SIZES} sizes or more, got {len(self.sizes)}; see ladder.shaped")
        if len(self.budgets) < 2 or min(self.budgets) <= 0 or not self.rates or min(self.rates) <= 0:
            raise ValueError(f"budgets must be two or more and, as rates, above 0: {self.budgets=} rates={self.rates}")
        if not 0 < self.last <= 1:
            raise ValueError(f"last must be a share in 0..1, got {self.last}")


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One run of a ladder, as planned. `tokens`: D, executed by its steps."""

    size: ModelConfig
    budget: float
    rate: float
    tokens: float
    steps: int
    demonstrations: int
    lr: float


def shaped(
    widths: Sequence[int], like: ModelConfig, *, aspect: float = 48.0, layers: int | None = None, head_width: int = 16
) -> tuple[ModelConfig, ...]:
    """Sizes of one shape: a layer for every `aspect` of width, heads of one width, an MLP 8 / 3 as wide.

    Args:
      like: vocabulary and everything else.
      layers: of every size, in place of `aspect`.
    Raises: ValueError where a width is no multiple of twice the heads' width.
    """
    if wrong := [width for width in widths if width % (2 * head_width)]:
        raise ValueError(f"width {wrong[0]} is no multiple of {2 * head_width}, two heads of {head_width}")
    return tuple(
        replace(
            like, width=width, layers=layers or max(1, round(width / aspect)), heads=width // head_width,
            kv_heads=width // head_width // 2, head_width=head_width, mlp_width=8 * round(width / 3),
        )
        for width in widths
    )  # fmt: skip


def rungs(ladder: Ladder, prepared: Prepared, useful: Useful) -> tuple[Rung, ...]:
    """Every run, from the tokens of the demonstrations as they are laid out.

    Raises: ConfigError naming size and budget where a run would have too few steps, or see its data twice.
    """
    (stage,) = ladder.base.stages
    train = prepared.splits[stage.name].train
    together = max(stage.device_steps, 1)
    few = replace(stage, steps=together, collect=replace(stage.collect, demonstrations=1))
    found = stage_cost(ladder.base, few, prepared.material.model, train, prepared.material.tokenizer, useful)
    a_demonstration = found.tokens / together
    sizes = sorted(ladder.sizes, key=parameters)
    least = min(ladder.budgets) / FLOPS / parameters(sizes[-1])
    found = []
    for size in sizes:
        for budget in sorted(ladder.budgets):
            wanted = budget / FLOPS / parameters(size)
            demonstrations = round(stage.collect.demonstrations * (wanted / least) ** ladder.batch_exponent)
            steps = round(wanted / (a_demonstration * demonstrations))
            steps = max(steps // together, 1) * together
            where = f"{parameters(size)} parameters at {budget:.2g} FLOPs"
            if steps < LEAST_STEPS or abs(log(steps * a_demonstration * demonstrations / wanted)) > log(1.25):
                raise ConfigError(
                    f"{ladder.name}: {where} would take {steps} steps of {demonstrations} demonstrations, for "
                    f"{wanted:.0f} tokens; raise that budget, or lower collect.demonstrations or device_steps"
                )
            if steps * demonstrations > len(train):
                raise ConfigError(
                    f"{ladder.name}: {where} draws {steps * demonstrations} demonstrations, but there are "
                    f"{len(train)}: a law of D is about data that are seen once; make more, or lower that budget"
                )
            lr = stage.optimizer.lr * (sizes[0].width / size.width) ** ladder.lr_exponent
            found += [
                Rung(size=size, budget=budget, rate=rate, steps=steps, demonstrations=demonstrations, lr=lr * rate,
                     tokens=steps * demonstrations * a_demonstration)
                for rate in ladder.rates
            ]  # fmt: skip
    return tuple(found)


def as_study(ladder: Ladder, planned: Sequence[Rung]) -> Study:
    """The study whose arms are the runs of a ladder; nothing is compared in it."""
    (stage,) = ladder.base.stages
    arms = []
    for rung in planned:
        own = replace(
            stage, steps=rung.steps, collect=replace(stage.collect, demonstrations=rung.demonstrations),
            optimizer=replace(stage.optimizer, lr=rung.lr),
        )  # fmt: skip
        arms.append(Arm(name=arm_name(rung), config=replace(ladder.base, model=rung.size, stages=(own,))))
    return Study(
        name=ladder.name, question="How should a budget be split between size and data?",
        fixed=f"{len(ladder.sizes)} sizes, {len(ladder.budgets)} budgets, learning rates times {ladder.rates}",
        base=ladder.base, arms=tuple(arms), anchor=arms[0].name, seeds=ladder.seeds, population=ladder.population,
        estimator=Estimator(metric=stage.validate.metric, last=1), smallest_effect=1.0,
    )  # fmt: skip


def arm_name(rung: Rung) -> str:
    return f"N={parameters(rung.size)},C={rung.budget:.3g},rate={rung.rate:g}"


def by_point(planned: Sequence[Rung]) -> Mapping[tuple[int, float], list[Rung]]:
    """The runs of each size and budget, which differ in their learning rate."""
    found: dict[tuple[int, float], list[Rung]] = {}
    for rung in planned:
        found.setdefault((parameters(rung.size), rung.budget), []).append(rung)
    return found
