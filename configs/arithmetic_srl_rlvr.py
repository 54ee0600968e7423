"""SRL on long arithmetic demonstrations, then RLVR on the same problems from SRL's best checkpoint.

Run:    launch/local.sh configs/arithmetic_srl_rlvr.py
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, rlvr, srl
from jaxsrl.models.config import preset


def config() -> Config:
    stages = (base(), srl(), rlvr(start_from="srl:best"))
    return Config(name="arithmetic_srl_rlvr", model=preset("0.2M"), rows=ROWS, stages=stages)
