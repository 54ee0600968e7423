"""Mazes of 5 x 5 cells: the search, then the plan, each line an action. The base knows mazes of 3 x 3.

Run:    launch/local.sh configs/task_mazes.py
Takes:  eight minutes of one processor
Seen:   test problems, 30 easy and 50 hard, greedy, in brackets the 95 % interval over problems. One seed, 2026-11-29,
        on commit 7aa0039.

    policy                    exact action after the expert's   similarity   shortest plan, alone
    base on mazes of 3 x 3    0.75 (0.67-0.81)                  0.97         0.47 (0.30-0.64)
    base on mazes of 5 x 5    0.00 (0.00-0.01)                  0.56         0.00 (0.00-0.07)
    SFT, 40 steps             0.06 (0.05-0.08)                  0.83         0.00 (0.00-0.07)
    SRL, 40 steps             0.03 (0.02-0.05)                  0.77         0.00 (0.00-0.07)
    RLVR, 40 steps            0.00 (0.00-0.01)                  0.56         0.00, and nothing was rewarded

0.47 is within 0.2 to 0.8 and 0.00 below 0.1. The base knows searches of six lines; these have 20. After SFT solutions
are as long as searches are (532 tokens, a quarter of them cut), after SRL they are short (41 tokens), and no plan is
right in 40 steps. RLVR has nothing to learn from. A base on grids of 5 x 5 without walls, 400 steps of 8, was right in
0.63 of the actions and in no plan.

Mazes as small as 3 x 3 are few: 200 test problems are 62 mazes. On these the base has 0.53 (0.41-0.65) right plans, of
which 0.30 (0.17-0.47) stand behind a valid search, and 0.03 (0.01-0.17) of the others. The length of its searches
follows the work there (rank correlation 0.48, 0.24-0.70). Of the 15 mazes by Wilson that 200 draws give, which are
Kruskal's too, it solves none (0.00-0.20), and none of 12 grids without walls (0.00-0.24):
`jaxsrl audit runs/task-mazes:base --stages base --problems 200 --probes traces --set traces.problems=200
--set traces.away=wilson,kruskal,free_space`.
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import task_stages
from jaxsrl.models.config import preset
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks.mazes import Mazes

EASY = Mazes(size=3, family="drunkard", least=1)
HARD = Mazes(size=5)


def config() -> Config:
    return Config(
        name="task-mazes", model=preset("0.2M"),
        stages=task_stages(
            Generated(task=EASY, train=4000), Generated(task=HARD, train=512), FinalAnswer(verify=HARD.right),
            action_tokens=24, solve_tokens=640, base_steps=350, base_demonstrations=16,
        ),
    )  # fmt: skip
