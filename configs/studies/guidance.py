"""How much of a demonstration should the reward look at: every action, the solution as a whole, or its answer alone?

Run:    .venv/bin/jaxsrl study run configs/studies/guidance.py
Page:   .venv/bin/jaxsrl study report configs/studies/guidance.py
Takes:  six runs of at most 2.6e7 tokens and 1.6e13 FLOPs together, as `--plan` counts them; 721 processor seconds
Seen:   2026-11-29. Exact actions after the expert's, of 50 validation problems: mean of the last three evaluations, and
        its difference to `action` over six seeds from one base, which is right on 0.414. Student's 95 % intervals, p
        after Holm's correction:

    arm            seeds 0 to 5                                less action                 p
    action         0.530  0.553  0.541  0.533  0.536  0.509
    action_again   0.522  0.540  0.539  0.486  0.521  0.471    (noise floor: 0.026)
    answer         0.414  0.414  0.414  0.414  0.414  0.414    -0.12 (-0.14 to -0.10)      8.5e-6
    one_shot       0.134  0.232  0.150  0.102  0.175  0.181    -0.37 (-0.42 to -0.33)      8.5e-6

Rewarding each action is the only one of the three that gains. The answer alone teaches nothing here: the base solves no
problem, every group was dropped, and the value is the base's. The similarity of whole solutions makes single actions
worse; why was not looked into. The paper, whose base solves some problems, has whole solutions ahead of the answer.

The ablation of arXiv:2510.25992. `action` is SRL, `one_shot` rewards the similarity of whole solutions, `answer` is
RLVR. All arms are stages of one run, and the base has a seed of its own: arms and seeds share it. Intervals hold for
it. `action_again` gives the noise floor.
"""

from dataclasses import replace

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, rlvr, srl
from jaxsrl.config.demonstrations import arithmetic_answer
from jaxsrl.config.guidance import at_granularity
from jaxsrl.config.length_study import probed, starting_point
from jaxsrl.models.config import preset
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.studies.study import Arm, Estimator, Study

TOKENS, MOST = 700_000, 10_000  # executed by an arm; the budget ends it long before so many steps


def study(seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5), tokens: int = TOKENS) -> Study:
    answer = FinalAnswer(verify=arithmetic_answer)
    action = probed(srl(MOST, tokens=tokens), "action", every=8)
    whole = probed(rlvr(MOST, tokens=tokens), every=16)
    stages = (
        starting_point(seed=0),
        replace(action, objective=at_granularity("action", answer=answer)),
        replace(action, name="action_again", objective=at_granularity("action", answer=answer)),
        *(replace(whole, name=name, objective=at_granularity(name, answer=answer)) for name in ("one_shot", "answer")),
    )
    return Study(
        name="guidance",
        question="How much of a demonstration should the reward look at: each action, the whole, or its answer?",
        fixed=(
            "one base for all runs, of seed 0 and 400 steps, on problems of one and two actions with thoughts; from "
            "it 700,000 executed tokens an arm on problems of 8 actions, 8 rollouts a group, learning rate 3e-4 for "
            "all: a sweep chose it for `action` alone; 50 validation problems, actions after the expert’s"
        ),
        base=Config(name="guidance", model=preset("0.1M"), rows=ROWS, stages=stages),
        arms=tuple(Arm(name=stage.name, stage=stage.name) for stage in stages[1:]),
        anchor="action",
        repeats=("action_again",),
        seeds=seeds,
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
