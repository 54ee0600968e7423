"""SRL over a ladder of model sizes: which size is best at which budget, and where does each of them end?

Run:    .venv/bin/jaxsrl study run configs/studies/srl_ladder.py
Page:   .venv/bin/jaxsrl study report configs/studies/srl_ladder.py
Fit:    .venv/bin/jaxsrl study fit runs/srl-ladder/curves.csv
Takes:  twelve runs of at most 3.4e7 tokens and 2.4e13 FLOPs together, as `--plan` counts them; about 20 processor
        minutes, of which one of two workers took 632 seconds
Seen:   2026-11-29. Exact actions after the expert's, of 50 validation problems, seeds 0 and 1: of the base, the lowest
        evaluation, and the mean of the last three at 4e11 FLOPs of SRL. Steps are those that the budget allows:

    parameters   steps   base           lowest         last three
     31,744      180     0.000  0.000   0.000  0.000   0.000  0.000
     63,744       90     0.054  0.037   0.026  0.000   0.034  0.000
    106,496       49     0.163  0.100   0.063  0.051   0.131  0.066
    163,840       31     0.226  0.331   0.186  0.251   0.222  0.290
    228,864       23     0.160  0.263   0.149  0.211   0.167  0.269
    304,640       16     0.289  0.269   0.280  0.240   0.314  0.258

There is no law in this, and no best size. Every run that begins above 0 loses first, and within the budget only three
of twelve end above their base, by 0.03 at most. So no sigmoid is determined but one that falls, and `study fit` says
so. The largest size is ahead at every budget above 0, as its base is. With two seeds, whose bases differ by up to 0.11,
it is not told apart from the two below it. What is seen is where SRL has something to begin with: bases of less than
10^5 parameters are right on 0.054 at most after 400 steps, and get nothing from it. The base of `objectives.py`, right
on 0.41, gains 0.14 for 3e11 FLOPs. To see a law one would take bases that know more (800 steps took one of 106,496
parameters to 0.27), a budget of 2e12 and eight seeds: some ten times the cost, and not run. Learning rates of SRL were
not searched at any size.

Six sizes of one shape, two layers deep. Each has a base of its own by one recipe, and from it SRL for the same FLOPs:
a small model takes many steps, a large one few. A budget is that of SRL alone; what the base took is not in it, as
where one chooses among published models. Learning rates fall with the width, by `configs/ladders/arithmetic_rates.py`.
The page compares every size with the largest at the end of the budget. `study fit` fits ScaleRL's sigmoid to each and
tells the best size at each budget.
"""

from collections.abc import Sequence
from dataclasses import replace

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, srl
from jaxsrl.config.length_study import probed, starting_point
from jaxsrl.models.config import ModelConfig, parameter_count, preset
from jaxsrl.studies.ladder import shaped
from jaxsrl.studies.study import Arm, Estimator, Study
from jaxsrl.update import AdamW

WIDTHS, SEEDS = (32, 48, 64, 80, 96, 112), (0, 1)
BUDGET = 4e11  # FLOPs of SRL, of any size
A_TOKEN = 3.7  # FLOPs a parameter and executed token: 2 where it is sampled or prefilled, 6 where it is learned from
EVALUATIONS, MOST = 8, 10_000
BASE_STEPS, BASE_RATE, RATE = 400, 3e-3, 3e-4  # learning rates at a width of 64
STEP_TOKENS = 22_000  # that a step of SRL executes here


def at_size(model: ModelConfig, factors: Sequence[float]) -> Config:
    """A base and SRL from it, at each of these factors of the learning rate."""
    narrower = 64 / model.width
    base = starting_point(BASE_STEPS)
    tokens = int(BUDGET / A_TOKEN / parameter_count(model))
    every = max(1, round(tokens / STEP_TOKENS / EVALUATIONS))
    made = probed(srl(MOST, tokens=tokens), every=every)
    stages = (
        replace(base, optimizer=replace(base.optimizer, lr=BASE_RATE * narrower)),
        *(replace(made, name=f"srl_{i}", optimizer=AdamW(lr=RATE * narrower * x)) for i, x in enumerate(factors)),
    )
    return Config(name=f"srl-ladder-{model.width}", model=model, rows=ROWS, stages=stages)


def study(
    widths: Sequence[int] = WIDTHS, seeds: Sequence[int] = SEEDS, factors: Sequence[float] = (1.0,)
) -> Study:  # fmt: skip
    arms = []
    for model in shaped(widths, preset("0.2M"), layers=2, head_width=8):
        config = at_size(model, factors)
        size = f"{parameter_count(model) / 1000:.0f}k"
        arms += [
            Arm(name=size if factor == 1.0 else f"{size}, lr x {factor:g}", config=config, stage=f"srl_{i}")
            for i, factor in enumerate(factors)
        ]
    return Study(
        name="srl-ladder",
        question="Which model size learns most by SRL from a budget of FLOPs?",
        fixed=(
            f"for every size a base of its own, of {BASE_STEPS} steps on problems of one and two actions with "
            f"thoughts; from it SRL for {BUDGET:.0e} FLOPs on problems of 8 actions, 8 rollouts a branch point; "
            "learning rates in inverse proportion to the width; 50 validation problems, actions after the expert’s"
        ),
        base=arms[0].config,
        arms=tuple(arms),
        anchor=arms[-1].name,
        seeds=tuple(seeds),
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
