"""Does SRL learn more from how close an action is to the expert's than from whether it is equal?

Run:    .venv/bin/jaxsrl study run configs/studies/arithmetic_reward.py
Page:   .venv/bin/jaxsrl study report configs/studies/arithmetic_reward.py
Takes:  four runs of at most 3.9e7 tokens and 4.0e13 FLOPs together, as `--plan` counts them
Seen:   nothing yet: all arms were checked and costed, and the study has not been run whole.

Five arms are stages of one run, and the base has a seed of its own: arms and seeds share it. Intervals hold for it.
`similarity_again` is the anchor once more and gives the noise floor. `shuffled` is a control that must lose.
"""

from dataclasses import replace

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, sft, srl
from jaxsrl.config.run import Stage
from jaxsrl.models.config import preset
from jaxsrl.studies.study import Arm, Estimator, Study

STEPS, EVERY = 24, 4  # optimizer steps of an arm, and between its evaluations


def untested(stage: Stage, every: int, name: str | None = None) -> Stage:
    """Evaluated on 50 validation problems while it trains, and not on the test split."""
    validate = replace(stage.validate, every=every, problems=50)
    return replace(stage, name=name or stage.name, test=None, validate=validate)


def study(seeds: tuple[int, ...] = (0, 1, 2, 3), base_steps: int = 250, steps: int = STEPS) -> Study:
    similarity, exact = srl(steps), srl(steps, metric="exact")
    stages = (
        replace(untested(base(base_steps), 0), seed=0),
        untested(similarity, EVERY, "similarity"),
        untested(similarity, EVERY, "similarity_again"),
        untested(exact, EVERY, "exact"),
        untested(srl(steps, shuffled=True), EVERY, "shuffled"),
        untested(sft(2 * steps), 2 * EVERY, "sft"),
    )
    config = Config(name="arithmetic-reward", model=preset("0.2M"), rows=ROWS, stages=stages)
    return Study(
        name="arithmetic-reward",
        question="Does SRL learn more from how close an action is to the expert’s than from whether it is equal?",
        fixed=(
            "one base for all runs, of seed 0 and 250 steps, on short problems; then 24 optimizer steps of SRL on "
            "long ones with 8 rollouts a branch point, learning rate 3e-4 for every arm, none was searched; 50 "
            "validation problems; the shuffled arm is a control that must lose, as its experts are those of other "
            "problems"
        ),
        base=config,
        arms=tuple(Arm(name=stage.name, stage=stage.name) for stage in stages[1:]),
        anchor="similarity",
        repeats=("similarity_again",),
        seeds=seeds,
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
