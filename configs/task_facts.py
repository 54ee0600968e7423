"""Questions of two and three hops over one half of a world. The base was taught every fact.

All stages are tested on questions about the other half, which only the base has seen: what falls there is forgotten.

Run:    launch/local.sh configs/task_facts.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.task_stages import four_stages
from jaxsrl.models.config import preset
from jaxsrl.tasks.facts import Facts


def config() -> Config:
    return Config(
        name="task-facts", model=preset("0.2M"),
        stages=four_stages(
            Facts(hops=(1, 2)), Facts(half="taught"), held_out=Facts(half="kept"), action_tokens=32, solve_tokens=96,
        ),
    )  # fmt: skip
