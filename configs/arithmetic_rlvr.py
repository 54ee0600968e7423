"""RLVR on problems of one or two actions: whole solutions, rewarded where the last line is right.

Run:    launch/local.sh configs/arithmetic_rlvr.py
"""

from dataclasses import replace

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, rlvr
from jaxsrl.models.config import preset
from jaxsrl.tasks.arithmetic import SHORT


def config() -> Config:
    short = replace(SHORT, multiply=0.5, thoughts=False)
    return Config(
        name="arithmetic_rlvr",
        model=preset("0.2M"),
        rows=ROWS,
        stages=(base(), rlvr(60, settings=short, held_out=short, every=20)),
    )
