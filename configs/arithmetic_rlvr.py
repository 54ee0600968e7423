"""RLVR on problems of one to three actions: whole solutions, rewarded where the last line is right.

Run:    launch/local.sh configs/arithmetic_rlvr.py
"""

from dataclasses import replace

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, rlvr
from jaxsrl.models.config import preset
from jaxsrl.tasks.arithmetic import LONG


def config() -> Config:
    short = replace(LONG, run=(1, 3))
    return Config(
        name="arithmetic_rlvr", model=preset("0.2M"), rows=ROWS, stages=(base(150), rlvr(settings=short))
    )
