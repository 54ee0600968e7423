"""SRL on long arithmetic demonstrations, then RLVR on the same problems from SRL's best checkpoint.

Run:    launch/local.sh configs/arithmetic_srl_rlvr.py
Takes:  eight minutes on two CPU cores
Expect: 100 held-out long problems, greedy: exact action after the expert's 0.55 (base) -> 0.83 (SRL, 100 steps) -> 0.82
        (RLVR, 100 steps), which finds next to no whole solution to reward.
        (one seed, measured 2026-11-21, commit 3e89794, before SRL refilled dropped groups)
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, rlvr, srl
from jaxsrl.models.config import preset


def config() -> Config:
    stages = (base(), srl(), rlvr(start_from="srl:best"))
    return Config(name="arithmetic_srl_rlvr", model=preset("0.2M"), rows=ROWS, stages=stages)
