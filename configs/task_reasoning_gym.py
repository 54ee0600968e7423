"""Sums of 6 terms from Reasoning Gym (`basic_arithmetic`), after a base that knows sums of 2 to 4.

The package gives problems, answers and the scorer, and no steps: those are ours, running totals. Of another dataset
the answer is the only action, which leaves nothing to SRL.

Run:    pip install 'jaxsrl[gym]' into .venv, then: launch/local.sh configs/task_reasoning_gym.py
Takes:  four minutes on two CPU cores
Seen:   50 test problems (46 of the easy ones distinct), greedy, in brackets the 95 % interval over problems. One seed,
        2026-11-29.

    policy                   exact action after the expert's   similarity   its scorer gives full marks, alone
    base on sums of 2 to 4   0.83 (0.73-0.89)                  0.98         0.65 (0.51-0.77)
    base on sums of 6        0.01 (0.00-0.03)                  0.50         0.02 (0.00-0.10)
    SFT, 40 steps            0.38 (0.32-0.44)                  0.87         0.02 (0.00-0.10)
    SRL, 40 steps            0.20 (0.15-0.26)                  0.83         0.00 (0.00-0.07)
    RLVR, 40 steps           0.02 (0.01-0.04)                  0.49         0.02 (0.00-0.10)

0.65 is within 0.2 to 0.8 and 0.02 below 0.1. Who always says the most likely total of six terms is right once in 35, so
none of the policies is right on them more often than by chance.
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import task_stages
from jaxsrl.models.config import preset
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks.reasoning_gym import ReasoningGym


def sums(fewest: int, most: int) -> ReasoningGym:
    terms = (("min_terms", fewest), ("max_terms", most), ("max_digits", 1), ("operators", "+-"))
    return ReasoningGym(
        dataset="basic_arithmetic", steps="running_totals", settings=(*terms, ("allow_parentheses", False))
    )


def config() -> Config:
    hard = sums(6, 6)
    return Config(
        name="task-reasoning-gym", model=preset("0.2M"),
        stages=task_stages(
            Generated(task=sums(2, 4), train=8000), Generated(task=hard, train=1024), FinalAnswer(verify=hard.right),
            action_tokens=24, solve_tokens=128, base_steps=500, steps=40,
        ),
    )  # fmt: skip
