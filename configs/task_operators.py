"""Sums of 6 operators after a base that knows sums of 1 to 4. An action does 1 or 2, which the problem says.

Run:    launch/local.sh configs/task_operators.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import task_stages
from jaxsrl.models.config import preset
from jaxsrl.rewards.last_value import LastValue
from jaxsrl.tasks.operators import Operators

EASY = Operators(operators=(1, 4), per_action=(1, 2), largest=9)
HARD = Operators(operators=(6, 6), per_action=(1, 2), largest=9)


def config() -> Config:
    return Config(
        name="task-operators", model=preset("0.2M"),
        stages=task_stages(
            Generated(task=EASY, train=20_000), Generated(task=HARD, train=1024), LastValue(mark="="),
            action_tokens=24, solve_tokens=128, base_steps=1000, steps=80,
        ),
    )  # fmt: skip
