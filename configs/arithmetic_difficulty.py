"""What RLVR makes of problems that the start policy never, sometimes or nearly always solves, and three mitigations.

Run:    launch/local.sh configs/arithmetic_difficulty.py
Table:  .venv/bin/jaxsrl compare runs/arithmetic_difficulty

`before` profiles the base: 8 rollouts on each of 512 problems at learning rate 0. From the base, each arm for 60
optimizer steps: the hard, the medium and the easy bucket; a band of pass rates from 1/8 to 6/8; the hard bucket with
advantages that are not divided by their deviation; hard problems with their backward items, whose answers are known.
`again` profiles what the band's policy can do now, and `band_again` goes on with the band as it is then. Detectors of
repeated answers and skipped computation are among the training metrics (`detect/`).

Not measured yet.
"""

import re

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import MEDIUM, ROWS, arm, base, profile
from jaxsrl.config.demonstrations import ArithmeticTask, arithmetic_answer
from jaxsrl.config.reformulated import WithBackward
from jaxsrl.data.curation import Curation
from jaxsrl.models.config import preset
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.detectors import Watched

ACTION = re.compile(r"[a-z]=(\d{5})")
DATA = ArithmeticTask(settings=MEDIUM, train=512)


def count_actions(text: str) -> int:
    return len(ACTION.findall(text))


def digits(text: str) -> list[str]:
    return ACTION.findall(text)


def watched(**settings) -> Watched:
    return Watched(grader=FinalAnswer(**settings), count=count_actions, answers=digits, short_tokens=12)


def config() -> Config:
    answer = watched(verify=arithmetic_answer)
    outcome = RLVR(grader=answer, policy=GRPO(filter_std=0.0))
    chosen = lambda profile="before", **band: dict(data=DATA, curation=Curation(profile=profile, **band))
    backward = WithBackward(task=ArithmeticTask(settings=MEDIUM, train=256))
    stages = (
        base(),
        profile("before", RLVR(grader=answer, policy=GRPO()), data=DATA),
        *(arm(name, outcome, **chosen(bucket=name)) for name in ("hard", "medium", "easy")),
        arm("band", outcome, **chosen(pass_rate=(1 / 8, 6 / 8))),
        arm("hard_std_free", RLVR(grader=answer, policy=GRPO(std="none", filter_std=0.0)), **chosen(bucket="hard")),
        arm("backward", RLVR(grader=watched(extract="last_line"), policy=GRPO(filter_std=0.0)), data=backward),
        profile("again", RLVR(grader=answer, policy=GRPO()), data=DATA, start_from="band"),
        arm("band_again", outcome, start_from="band", **chosen("again", pass_rate=(1 / 8, 6 / 8))),
    )
    return Config(name="arithmetic_difficulty", model=preset("0.2M"), rows=ROWS, stages=stages)
