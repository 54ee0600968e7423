"""Knapsacks of 5 to 7 items with conflicts, tested on N-1: training problems without one item of their solution.

Run:    launch/local.sh configs/task_knapsack.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import task_stages
from jaxsrl.models.config import preset
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks.knapsack import Knapsack

HARD = Knapsack()


def config() -> Config:
    return Config(
        name="task-knapsack", model=preset("0.2M"),
        stages=task_stages(
            Generated(task=Knapsack(items=(3, 4)), train=2048),
            Generated(task=HARD, held_out=Knapsack(outage=512), train=512), FinalAnswer(verify=HARD.right),
            action_tokens=48, solve_tokens=96, base_steps=600,
        ),
    )  # fmt: skip
