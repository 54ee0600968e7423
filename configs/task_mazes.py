"""Mazes of 5 x 5 cells: the search, then the plan, each line an action. The base knows grids without walls.

Run:    launch/local.sh configs/task_mazes.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import four_stages
from jaxsrl.models.config import preset
from jaxsrl.tasks.mazes import Mazes

HARD = Mazes(size=5)


def config() -> Config:
    return Config(
        name="task-mazes", model=preset("0.2M"),
        stages=four_stages(
            Generated(task=Mazes(size=5, family="free_space", least=2), held_out=HARD, train=8000),
            Generated(task=HARD, train=1024), HARD.right, action_tokens=24, solve_tokens=640,
        ),
    )  # fmt: skip
