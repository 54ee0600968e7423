"""Sums of 12 operators after a base that knows sums of 1 to 3. An action does 1, 2 or 4, which the problem says.

Run:    launch/local.sh configs/task_operators.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import four_stages
from jaxsrl.models.config import preset
from jaxsrl.tasks.operators import LONG, SHORT


def config() -> Config:
    return Config(
        name="task-operators", model=preset("0.2M"),
        stages=four_stages(
            Generated(task=SHORT, held_out=LONG, train=8000), Generated(task=LONG, train=1024), LONG.right,
            action_tokens=32, solve_tokens=160,
        ),
    )  # fmt: skip
