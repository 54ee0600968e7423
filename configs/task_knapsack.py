"""Knapsacks of 5 to 7 items with conflicts, tested on N-1: training problems without one item of their solution.

Run:    launch/local.sh configs/task_knapsack.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import four_stages
from jaxsrl.models.config import preset
from jaxsrl.tasks.knapsack import Knapsack

HARD = Knapsack()
NEW = Knapsack(outage=512)


def config() -> Config:
    return Config(
        name="task-knapsack", model=preset("0.2M"),
        stages=four_stages(
            Generated(task=Knapsack(items=(3, 4)), held_out=NEW, train=512),
            Generated(task=HARD, held_out=NEW, train=512), HARD.right, action_tokens=48, solve_tokens=96,
        ),
    )  # fmt: skip
