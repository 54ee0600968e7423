"""Mazes of 5 x 5 cells: the search, then the plan, each line an action. The base knows grids without walls.

Run:    launch/local.sh configs/task_mazes.py
Takes:  four minutes on two CPU cores
Seen:   50 test problems, greedy, in brackets the 95 % interval over problems. One seed, 2026-11-29, on commit b7b965e.

    policy                    exact action after the expert's   shortest plan, alone
    base on grids, no walls   0.63 (0.59-0.66)                  0.00 (0.00-0.10)
    base on mazes             0.03 (0.02-0.04)                  0.00 (0.00-0.07)
    SFT, 40 steps             0.16 (0.14-0.18)                  0.00
    SRL, 40 steps             0.06 (0.05-0.08)                  0.00
    RLVR, 40 steps            0.03 (0.02-0.04)                  0.00, and nothing was rewarded

Below 0.1 on mazes is reached. 0.2 to 0.8 on grids is reached by the action and not by the whole: a search has about 20
lines, and a base that is right on 0.63 of them writes none to its end.
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
