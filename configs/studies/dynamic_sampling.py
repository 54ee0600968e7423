"""Dynamic sampling in SRL: should groups whose rewards do not differ be dropped, and others be drawn in their place?

Run:    .venv/bin/jaxsrl study run configs/studies/dynamic_sampling.py
Page:   .venv/bin/jaxsrl study report configs/studies/dynamic_sampling.py
Takes:  six runs of at most 1.7e7 tokens and 1.1e13 FLOPs together, as `--plan` counts them; 584 processor seconds
Seen:   2026-11-29. Exact actions after the expert's, of 50 validation problems: mean of the last three evaluations, and
        its difference to `refill` over six seeds from one base, which is right on 0.414. Student's 95 % intervals, p
        after Holm's correction:

    arm            seeds 0 to 5                                less refill                   p
    refill         0.514  0.552  0.532  0.551  0.535  0.496
    refill_again   0.526  0.537  0.554  0.522  0.533  0.470    (noise floor: 0.020)
    drop           0.517  0.527  0.541  0.537  0.564  0.520    +0.004 (-0.018 to +0.026)     1
    keep           0.553  0.513  0.544  0.530  0.517  0.532    +0.001 (-0.033 to +0.035)     1

All three learn, and neither change matters: both intervals lie within 0.05. There is little to drop here: at similarity
rewards 8 to 9 % of the groups have a deviation below 0.05, at the start as at the end, so that `refill` samples 15 %
more tokens than `keep` for its 40 groups and `keep` learns from 21 % more. So this says that SRL does not need dynamic
sampling where its reward is graded. It says nothing of rewards that are 0 or 1: RLVR on the same base drops every group
(`objectives.py`). The learning rate was chosen with refills.

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
