"""SRL on long arithmetic demonstrations that show actions only, from a base model trained on short ones with thoughts.

Run:    launch/local.sh configs/arithmetic_srl.py
Takes:  five minutes on two CPU cores
Expect: 100 held-out long problems, greedy: exact action after the expert's 0.55 (base) -> 0.83 after 100 steps, right
        actions of 8 before the first wrong one 3.3 -> 5.7, one whole problem in 100.
        (one seed, measured 2026-11-21, commit 3e89794, before SRL refilled dropped groups)
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, srl
from jaxsrl.models.config import preset


def config() -> Config:
    return Config(name="arithmetic_srl", model=preset("0.2M"), rows=ROWS, stages=(base(), srl()))
