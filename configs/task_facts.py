"""Questions of two and three hops over one half of a world. The base was taught every fact.

All stages are tested on questions about the other half, which only the base has seen: what falls there is forgotten.

Run:    launch/local.sh configs/task_facts.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import four_stages
from jaxsrl.models.config import preset
from jaxsrl.tasks.facts import Facts

HARD = Facts(half="taught")
NEW = Facts(half="kept")


def config() -> Config:
    return Config(
        name="task-facts", model=preset("0.2M"),
        stages=four_stages(
            Generated(task=Facts(hops=(1, 2)), held_out=NEW, train=8000),
            Generated(task=HARD, held_out=NEW, train=1024), HARD.right, action_tokens=32, solve_tokens=96,
        ),
    )  # fmt: skip
