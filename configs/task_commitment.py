"""Unit commitment of 3 to 5 units over 4 to 6 hours, cut from real systems, tested on N-1.

Run:    launch/local.sh configs/task_commitment.py       with JAXSRL_DATA set to the folder that holds unit_commitment/
Seen:   not measured: all stages were checked and take steps, and have not been run to their end
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
