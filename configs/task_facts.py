"""Questions of three hops over one half of a world. The base was taught every fact, in questions of one and two.

SFT, SRL and RLVR are tested on questions about the other half, which only the base has seen: what falls there is
forgotten.

Run:    launch/local.sh configs/task_facts.py
Takes:  two and a half minutes of one processor
Seen:   50 test problems, 43 of them distinct on one and two hops and 33 on three, greedy, in brackets the 95 % interval
        over problems. One seed, 2026-11-29, on commit 7aa0039.

    policy                    exact action after the expert's   similarity   right entity, alone
    base on 1 and 2 hops      0.68 (0.47-0.83)                  0.95         0.42 (0.28-0.57)
    base on 3 hops            0.27 (0.17-0.39)                  0.82         0.03 (0.01-0.15)
    SFT, 40 steps             0.30 (0.18-0.46)                  0.86         0.00 (0.00-0.10)
    SRL, 40 steps             0.33 (0.23-0.45)                  0.87         0.00 (0.00-0.10)
    RLVR, 40 steps            0.05 (0.02-0.12)                  0.75         0.00 (0.00-0.10)

0.42 is within 0.2 to 0.8 and 0.03 below 0.1. Facts are learned suddenly: bases of 250, 265, 280 and 300 steps had 0.12,
0.21, 0.40 and 0.86. SFT and SRL on the other half of the facts changed nothing that these intervals show, so there is
no sign of forgetting. RLVR loses most of what the base knew: in 24 of 40 steps one to six answers in a hundred were
rewarded, and these alone decide the step.
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
            action_tokens=32, solve_tokens=96, base_steps=280,
        ),
    )  # fmt: skip
