"""Economic dispatch of 3 or 4 units, tested on N-1: training problems without one of their units.

Run:    launch/local.sh configs/task_dispatch.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import task_stages
from jaxsrl.models.config import preset
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks.dispatch import Dispatch

HARD = Dispatch()


def config() -> Config:
    return Config(
        name="task-dispatch", model=preset("0.2M"),
        stages=task_stages(
            Generated(task=Dispatch(units=(2, 2), hours=(2, 2)), train=2048),
            Generated(task=HARD, held_out=Dispatch(outage=512), train=512), FinalAnswer(verify=HARD.right),
            action_tokens=96, solve_tokens=288, base_steps=600, base_demonstrations=16,
        ),
    )  # fmt: skip
