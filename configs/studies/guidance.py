"""How much of a demonstration should the reward look at: every action, the solution as a whole, or its answer alone?

Run:    .venv/bin/jaxsrl study run configs/studies/guidance.py
Page:   .venv/bin/jaxsrl study report configs/studies/guidance.py
Takes:  six runs of at most 1.7e7 tokens and 1.1e13 FLOPs together, as `--plan` counts them
Seen:   not run.

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
