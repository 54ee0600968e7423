"""What should similarity compare, characters or words, and does difflib's autojunk matter where actions are long?

Run:    .venv/bin/jaxsrl study run configs/studies/similarity.py
Page:   .venv/bin/jaxsrl study report configs/studies/similarity.py
Takes:  four runs of at most 2.9e7 tokens and 2.5e13 FLOPs together, as `--plan` counts them
Seen:   not run.

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
