"""Questions of three hops over one half of a world. The base was taught every fact, in questions of one and two.

SFT, SRL and RLVR are tested on questions about the other half, which only the base has seen: what falls there is
forgotten.

Run:    launch/local.sh configs/task_facts.py
Expect: not measured yet
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import Generated
from jaxsrl.config.task_stages import task_stages
from jaxsrl.models.config import preset
from jaxsrl.rewards.last_value import LastValue
from jaxsrl.tasks.facts import Facts

EASY = Facts(entities=80, hops=(1, 2))
HARD = Facts(entities=80, hops=(3, 3), half="taught")
NEW = Facts(entities=80, hops=(3, 3), half="kept")


def config() -> Config:
    return Config(
        name="task-facts", model=preset("0.2M"),
        stages=task_stages(
            Generated(task=EASY, train=8000), Generated(task=HARD, held_out=NEW, train=1024), LastValue(mark=" is "),
            action_tokens=32, solve_tokens=96, base_steps=300,
        ),
    )  # fmt: skip
