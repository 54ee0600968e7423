"""What should similarity compare, characters or words, and does difflib's autojunk matter where actions are long?

Run:    .venv/bin/jaxsrl study run configs/studies/similarity.py
Page:   .venv/bin/jaxsrl study report configs/studies/similarity.py
Takes:  four runs of at most 2.9e7 tokens and 2.5e13 FLOPs together, as `--plan` counts them
Seen:   2026-11-29, three of the four seeds, for want of time. Exact actions after the expert's, of 50 validation
        problems: mean of the last three evaluations, and its difference to `chars`, of `junk` to `no_junk`. Student's
        95 % intervals, p after Holm's correction. Beside them, of seeds 0 and 1: similarity by characters at the end,
        malformed actions there, and the share of groups that were kept:

    arm           seeds 0 to 2           difference                   p      similarity     malformed      kept
    chars         0.065  0.058  0.060                                        0.82  0.82     0.000  0.002   0.61  0.58
    chars_again   0.078  0.069  0.080    (noise floor: 0.015)                0.82  0.82     0.001  0.009   0.63  0.62
    words         0.066  0.063  0.082    +0.009 (-0.019 to +0.038)    0.7    0.80  0.79     0.004  0.007   0.82  0.86
    exact         0.066  0.047  0.038    -0.011 (-0.038 to +0.017)    0.7    0.66  0.53     0.001  0.000   0.18  0.14
    no_junk       0.022  0.018  0.030    -0.038 (-0.056 to -0.020)    0.05   0.65  0.61     0.290  0.166   0.82  0.79
    junk          0.018  0.031  0.029    +0.003 (-0.019 to +0.025)    0.7    0.66  0.53     0.736  0.072   0.28  0.09

It decides nothing. The page calls `words`, `exact` and `junk` the same, as their intervals lie within 0.05, but no arm
comes that far: the base is right on 0.044 of the actions of mazes with walls, and the anchor gains 0.02. What can be
seen without a verdict: graded rewards bring actions closer to the expert's, which equality does not, as 0.8 and more of
its groups are dropped. With autojunk the reward of whole solutions is 0.05 in the first five steps and without it 0.34,
so that most groups do not differ; on one seed the policy came apart, with 0.74 of its actions malformed. An action is
shorter than 200 characters, where autojunk does nothing. To decide it, take a base that is right on a third of the
actions: mazes with few walls, or more of its steps on them. A million tokens an arm were planned, and 700,000 taken.

Mazes, as their actions have several words and their solutions are longer than the 200 characters from which autojunk
applies. Two questions with an anchor each: `words` and `exact` against `chars`, SRL that compares actions; `junk`
against `no_junk`, RLVR that compares whole solutions. All arms are stages of one run, and the base has a seed of
its own: arms and seeds share it. Intervals hold for it. `chars_again` gives the noise floor.
"""

from dataclasses import replace

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.length_study import probed
from jaxsrl.config.run import Stage
from jaxsrl.config.task_stages import task_stages
from jaxsrl.models.config import preset
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.solution import SolutionSimilarity
from jaxsrl.studies.study import Arm, Estimator, Study
from jaxsrl.tasks.mazes import Mazes

EASY, HARD = Mazes(size=5, family="free_space", least=2), Mazes(size=5)
TOKENS, MOST = 700_000, 10_000  # executed by an arm; the budget ends it long before so many steps
ACTIONS = {"chars": {}, "chars_again": {}, "words": {"unit": "word"}, "exact": {"metric": "exact"}}
SOLUTIONS = {"no_junk": False, "junk": True}


def study(seeds: tuple[int, ...] = (0, 1, 2, 3), tokens: int = TOKENS) -> Study:
    base, _, _, srl, rlvr = task_stages(
        Generated(task=EASY, train=4000), Generated(task=HARD, train=512), FinalAnswer(verify=HARD.right),
        action_tokens=24, solve_tokens=640, base_steps=400, base_demonstrations=8, steps=MOST,
    )  # fmt: skip
    reward = srl.objective.reward

    def actions(name: str, change: dict[str, str]) -> Stage:
        made = replace(srl, objective=SRL(reward=replace(reward, **change), group_size=8, max_branch_points=6))
        return probed(replace(made, tokens=tokens), name, every=6)

    def solutions(name: str, autojunk: bool) -> Stage:
        whole = RLVR(reward=SolutionSimilarity(autojunk=autojunk), policy=GRPO(filter_std=0.05), group_size=8)
        return probed(replace(rlvr, objective=whole, tokens=tokens), name, every=2)

    stages = (
        replace(base, test=None, seed=0),
        *(actions(name, change) for name, change in ACTIONS.items()),
        *(solutions(name, autojunk) for name, autojunk in SOLUTIONS.items()),
    )
    return Study(
        name="similarity",
        question="Should similarity compare characters or words, and does autojunk matter for long solutions?",
        fixed=(
            "one base for all runs, of seed 0 and 400 steps, on grids without walls; from it 700,000 executed "
            "tokens an arm on mazes of 5 x 5 cells, learning rate 3e-4 for every arm, none was searched; 50 "
            "validation problems, actions after the expert’s"
        ),
        base=Config(name="similarity", model=preset("0.1M"), stages=stages),
        arms=tuple(
            Arm(name=stage.name, stage=stage.name, against="no_junk" if stage.name == "junk" else None)
            for stage in stages[1:]
        ),
        anchor="chars",
        repeats=("chars_again",),
        seeds=seeds,
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
