"""Economic dispatch of 3 or 4 units, tested on N-1: training problems without one of their units.

Run:    launch/local.sh configs/task_dispatch.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.task_stages import four_stages
from jaxsrl.models.config import preset
from jaxsrl.tasks.dispatch import Dispatch


def config() -> Config:
    return Config(
        name="task-dispatch", model=preset("0.2M"),
        stages=four_stages(
            Dispatch(units=(2, 2), hours=(2, 2)), Dispatch(), held_out=Dispatch(outage=512), action_tokens=96,
            solve_tokens=288, base_train=512, train=512,
        ),
    )  # fmt: skip
