"""Dynamic sampling in SRL: should groups whose rewards do not differ be dropped, and others be drawn in their place?

Run:    .venv/bin/jaxsrl study run configs/studies/dynamic_sampling.py
Page:   .venv/bin/jaxsrl study report configs/studies/dynamic_sampling.py
Takes:  six runs of at most 1.7e7 tokens and 1.1e13 FLOPs together, as `--plan` counts them
Seen:   not run.

`refill` is the paper's: dropped groups are replaced by those of other demonstrations until 40 carry weight. `drop` goes
on with those that are left, `keep` learns from all of them. Tokens of dropped groups count, as they were sampled. All
arms are stages of one run, and the base has a seed of its own: arms and seeds share it. Intervals hold for it.
`refill_again` gives the noise floor.
"""

from dataclasses import replace

from jaxsrl.collect import Collect
from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS
from jaxsrl.config.length_study import stage, starting_point
from jaxsrl.models.config import preset
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.studies.study import Arm, Estimator, Study

RATE = 3e-4  # by length_against_size_rates.py


def study(seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> Study:
    refill = stage("srl", 8, rate=RATE, name="refill")
    drop = replace(refill, name="drop", collect=Collect(demonstrations=8))
    keep = replace(drop, name="keep", objective=replace(drop.objective, policy=GRPO(filter_std=None)))
    stages = (starting_point(seed=0), refill, replace(refill, name="refill_again"), drop, keep)
    return Study(
        name="dynamic-sampling",
        question="Does SRL learn more when groups whose rewards do not differ are dropped, and when they are replaced?",
        fixed=(
            "one base for all runs, of seed 0 and 400 steps, on problems of one and two actions with thoughts; from "
            "it 700,000 executed tokens of SRL an arm on demonstrations of 8 actions, at a learning rate that a sweep"
            " with refills chose; groups are dropped below a deviation of 0.05; 50 validation problems"
        ),
        base=Config(name="dynamic-sampling", model=preset("0.1M"), rows=ROWS, stages=stages),
        arms=tuple(Arm(name=made.name, stage=made.name) for made in stages[1:]),
        anchor="refill",
        repeats=("refill_again",),
        seeds=seeds,
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
