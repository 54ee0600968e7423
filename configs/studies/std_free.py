"""Does RLVR learn more from hard problems when advantages are not divided by their group's deviation?

Run:    .venv/bin/jaxsrl study run configs/studies/std_free.py
Page:   .venv/bin/jaxsrl study report configs/studies/std_free.py
Takes:  six runs of at most 2.9e7 tokens and 1.6e13 FLOPs together, as `--plan` counts them
Seen:   not run. One seed of `arithmetic_difficulty.py` held 0.27 of problems with the deviation and 0.28 without.

Where one of 8 rollouts is right its advantage is 2.6, where four are it is 1: the division weighs hard groups up.
`before` profiles the base; the arms train on problems that it solved in at most 2 of 8 rollouts. All are stages of one
run; base and profile have a seed of their own, so that all arms and seeds share them. Intervals hold for them.
`divided_again` gives the noise floor; `mean_only` centres and does not divide; `batch` divides by the deviation of the
whole step.
"""

from dataclasses import replace

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import MEDIUM, ROWS, arm, base, profile
from jaxsrl.config.demonstrations import ArithmeticTask, arithmetic_answer
from jaxsrl.config.run import Validate
from jaxsrl.data.curation import Curation
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.studies.study import Arm, Estimator, Study

DATA = ArithmeticTask(settings=MEDIUM, train=512)
HARD = (0.0, 2 / 8)  # share of the base's rollouts that are right
SCALES = {"divided": "group", "divided_again": "group", "mean_only": "none", "batch": "batch"}


def study(seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5), steps: int = 60) -> Study:
    answer = FinalAnswer(verify=arithmetic_answer)
    validate = Validate(every=10, problems=50, evaluation=Evaluation(modes=("direct",)), metric="direct/answer")
    hard = lambda name, scale: replace(
        arm(name, RLVR(reward=answer, policy=GRPO(filter_std=0.0, std=scale)), steps=steps, data=DATA,
            curation=Curation(profile="before", pass_rate=HARD)),
        validate=validate, test=None,
    )  # fmt: skip
    stages = (
        replace(base(300), test=None, seed=0),
        replace(profile("before", RLVR(reward=answer, policy=GRPO()), data=DATA), test=None, seed=0),
        *(hard(name, scale) for name, scale in SCALES.items()),
    )
    return Study(
        name="std-free",
        question="Does RLVR learn more from hard problems when advantages are not divided by a deviation?",
        fixed=(
            "one base for all runs, of seed 0 and 300 steps, on problems of one and two actions; then 60 optimizer "
            "steps of RLVR on those problems of one to three actions that it solved in at most 2 of 8 rollouts, "
            "learning rate 3e-4 for every arm, none was searched: without the division updates are smaller, which "
            "Adam mostly undoes; 50 validation problems"
        ),
        base=Config(name="std-free", model=preset("0.1M"), rows=ROWS, stages=stages),
        arms=tuple(Arm(name=name, stage=name) for name in SCALES),
        anchor="divided",
        repeats=("divided_again",),
        seeds=seeds,
        estimator=Estimator(metric="direct/answer", last=3),
        smallest_effect=0.05,
    )
