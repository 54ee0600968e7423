"""Sums of 6 terms from Reasoning Gym (`basic_arithmetic`), after a base that knows sums of 2 to 4.

The package gives problems, answers and the scorer, and no steps: those are ours, running totals. Of another dataset
the answer is the only action, which leaves nothing to SRL.

Run:    pip install 'jaxsrl[gym]' into .venv, then: launch/local.sh configs/task_reasoning_gym.py
Seen:   TODO
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
