"""SFT on long arithmetic demonstrations that show actions only, from a base model trained on short ones with thoughts.

Run:    launch/local.sh configs/arithmetic_sft.py
Takes:  three minutes on two CPU cores
Expect: 100 held-out long problems, greedy: exact action after the expert's 0.55 (base) -> 0.00 after 100 steps,
        also with `<think>` written for the model: it has stopped to think and does not know the answer without.
        (one seed, measured 2026-11-21, commit 3e89794)
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, sft
from jaxsrl.models.config import preset


def config() -> Config:
    return Config(name="arithmetic_sft", model=preset("0.2M"), rows=ROWS, stages=(base(), sft()))
