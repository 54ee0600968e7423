"""SRL on long arithmetic demonstrations that show actions only, from a base model trained on short ones with thoughts.

Run:    launch/local.sh configs/arithmetic_srl.py
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, srl
from jaxsrl.models.config import preset


def config() -> Config:
    return Config(name="arithmetic_srl", model=preset("0.2M"), rows=ROWS, stages=(base(), srl()))
