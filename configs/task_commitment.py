"""Unit commitment of 3 to 5 units over 4 to 6 hours, cut from real systems, tested on N-1.

Run:    launch/local.sh configs/task_commitment.py       with JAXSRL_DATA set to the folder that holds unit_commitment/
Takes:  five minutes of one processor
Seen:   test problems, 49 easy and 35 of N-1, greedy, in brackets the 95 % interval over problems. One seed, 2026-11-29,
        on commit 7aa0039. The solver's rows changed after it: none of 400 easy problems and of 150 of N-1 has another
        answer by that, 15 of 300 hard ones to train on have another of the same cost.

    policy                            exact action after the expert's   similarity   cheapest, alone
    base on 2 units, 3 hours          0.86 (0.75-0.93)                  0.97         0.71 (0.58-0.82)
    base on N-1 of 3 to 5 units       0.00 (0.00-0.10)                  0.39         0.00 (0.00-0.10)
    SFT, 40 steps                     0.00 (0.00-0.10)                  0.43         0.00 (0.00-0.10)
    SRL, 40 steps                     0.00 (0.00-0.10)                  0.58         0.00 (0.00-0.10)
    RLVR, 40 steps                    0.00 (0.00-0.10)                  0.39         0.00, and nothing was rewarded

0.71 is within 0.2 to 0.8 and 0.00 below 0.1. On two units the base has some of the skill, and none of it carries over
to problems of 3 to 5. What SRL earns is form: the expert's action of another problem has a similarity of 0.60 there.
Its solutions are a line or two long (17 tokens).
"""

from jaxsrl.config import Config
from jaxsrl.config.generated import UnitCommitment
from jaxsrl.config.task_stages import task_stages
from jaxsrl.models.config import preset
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks.commitment import right


def config() -> Config:
    return Config(
        name="task-commitment", model=preset("0.2M"),
        stages=task_stages(
            UnitCommitment(units=(2, 2), hours=(3, 3), train=1024), UnitCommitment(outage=256, train=256),
            FinalAnswer(verify=right), action_tokens=96, solve_tokens=320, base_steps=400, base_demonstrations=8,
        ),
    )  # fmt: skip
