"""Does RLVR learn more from hard problems when advantages are not divided by their group's deviation?

Run:    .venv/bin/jaxsrl study run configs/studies/std_free.py
Page:   .venv/bin/jaxsrl study report configs/studies/std_free.py
Takes:  six runs of at most 6.1e7 tokens and 3.4e13 FLOPs together, as `--plan` counts them; a run takes some
        120 processor seconds
Seen:   2026-11-29. Whole problems right, of 64 validation problems of one to three actions: mean of the last three
        evaluations, and its difference to `divided` over six seeds from one base, which solves 0.312. Student's
        95 % intervals, p after Holm's correction:

    arm             seeds 0 to 5                                less divided                  p
    divided         0.411  0.385  0.406  0.411  0.391  0.380
    divided_again   0.406  0.401  0.380  0.406  0.391  0.406    (noise floor: 0.017)
    mean_only       0.411  0.401  0.401  0.417  0.396  0.375    +0.003 (-0.006 to +0.011)     0.46
    batch           0.391  0.391  0.359  0.380  0.385  0.380    -0.016 (-0.038 to +0.005)     0.20

All arms learn, and how the advantage is scaled does not matter here: both intervals lie within 0.05. On the 250 of 1024
problems that they train on, right rollouts go from 0.27 in the first 16 of 80 steps to 0.45 in the last. In a first
look the arms trained on all problems that the base solved in at most 2 of 8: 497 of 512, of which nearly all were never
solved, so that 9 of 10 groups were dropped and no arm moved from 0.10. Longer training, other learning rates, and
problems that are never solved were not looked at.

Where one of 8 rollouts is right its advantage is 2.6, where four are it is 1: the division weighs hard groups up.
`before` profiles the base; the arms train on problems that it solved in one or two of 8 rollouts. All are stages of one
run; base and profile have a seed of their own, so that all arms and seeds share them. Intervals hold for them.
`divided_again` gives the noise floor; `mean_only` centres and does not divide; `batch` divides by the deviation of the
whole step.
"""

from dataclasses import replace

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import MEDIUM, ROWS, arm, profile
from jaxsrl.config.demonstrations import ArithmeticTask, arithmetic_answer
from jaxsrl.config.length_study import starting_point
from jaxsrl.config.run import Stage, Validate
from jaxsrl.data.curation import Curation
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.studies.study import Arm, Estimator, Study

PROBLEMS = 1024
DATA = ArithmeticTask(settings=MEDIUM, train=PROBLEMS)
HARD = (1 / 8, 2 / 8)  # share of the base's rollouts that are right
SCALES = {"divided": "group", "divided_again": "group", "mean_only": "none", "batch": "batch"}


def study(seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5), steps: int = 80) -> Study:
    answer = FinalAnswer(verify=arithmetic_answer)
    before = profile("before", RLVR(reward=answer, policy=GRPO()), data=DATA, problems=PROBLEMS)

    def hard(name: str, scale: str) -> Stage:
        made = arm(
            name, RLVR(reward=answer, policy=GRPO(filter_std=0.0, std=scale)), steps=steps, data=DATA,
            curation=Curation(profile="before", pass_rate=HARD),
        )  # fmt: skip
        validate = Validate(every=20, problems=64, evaluation=Evaluation(modes=("direct",)), metric="direct/answer")
        return replace(made, validate=validate, test=None)

    stages = (
        starting_point(seed=0),
        replace(before, test=None, seed=0),
        *(hard(name, scale) for name, scale in SCALES.items()),
    )
    return Study(
        name="std-free",
        question="Does RLVR learn more from hard problems when advantages are not divided by a deviation?",
        fixed=(
            "one base for all runs, of seed 0 and 400 steps, on problems of one and two actions with thoughts; then "
            "80 optimizer steps of RLVR on those of 1024 problems of one to three actions that it solved in one or "
            "two of 8 rollouts, learning rate 3e-4 for every arm, none was searched: without the division updates are "
            "smaller, which Adam mostly undoes; 64 validation problems of one to three actions, whole ones"
        ),
        base=Config(name="std-free", model=preset("0.1M"), rows=ROWS, stages=stages),
        arms=tuple(Arm(name=name, stage=name) for name in SCALES),
        anchor="divided",
        repeats=("divided_again",),
        seeds=seeds,
        estimator=Estimator(metric="direct/answer", last=3),
        smallest_effect=0.05,
    )
