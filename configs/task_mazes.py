"""Mazes of 5 x 5 cells: the search, then the plan, each line an action. The base knows grids without walls.

Run:    launch/local.sh configs/task_mazes.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import task_stages
from jaxsrl.models.config import preset
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks.mazes import Mazes

EASY = Mazes(size=5, family="free_space", least=2)
HARD = Mazes(size=5)


def config() -> Config:
    return Config(
        name="task-mazes", model=preset("0.2M"),
        stages=task_stages(
            Generated(task=EASY, train=4000), Generated(task=HARD, train=512), FinalAnswer(verify=HARD.right),
            action_tokens=24, solve_tokens=640, base_steps=400, base_demonstrations=8,
        ),
    )  # fmt: skip
