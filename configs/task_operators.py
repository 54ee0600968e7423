"""Sums of 6 operators after a base that knows sums of 1 to 4. An action does 1 or 2, which the problem says.

Run:    launch/local.sh configs/task_operators.py
Takes:  two minutes on two CPU cores
Seen:   50 test problems, greedy, in brackets the 95 % interval over problems. One seed, 2026-11-29, on commit b7b965e.

    policy                   exact action after the expert's   right answer, alone
    base on sums of 1 to 4   0.86 (0.72-0.94)                  0.76 (0.62-0.85)
    base on sums of 6        0.05 (0.03-0.10)                  0.02 (0.00-0.11)
    SFT, 80 steps            0.65 (0.57-0.73)                  0.04 (0.01-0.14)
    SRL, 80 steps            0.60 (0.51-0.68)                  0.02 (0.00-0.11)
    RLVR, 80 steps           0.07 (0.04-0.14)                  0.04 (0.01-0.14)

The base has the skill and not the answers: 0.76 is within 0.2 to 0.8, 0.02 below 0.1. What it lacks on long sums is
the place to go on from, and both SFT and SRL teach that. A blind guess of the total is right about once in 50.
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
