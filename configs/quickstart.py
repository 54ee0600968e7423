"""A base model on short problems with thoughts; from it SFT and SRL on the same long demonstrations, without thoughts.

Run:    launch/local.sh configs/quickstart.py
Takes:  1 to 3 minutes on two CPU cores, compilation included (after the installation)
Expect: exact actions after the expert's, 50 held-out problems: base 0.35, SFT 0.00, SRL 0.39 or 0.41 (one seed on two
        machines, which round otherwise; its interval is 0.08 to each side); no whole long problem is solved by any.
        Measured 2026-11-29
"""

from dataclasses import replace

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, sft, srl
from jaxsrl.models.config import preset


def config() -> Config:
    problems = 50  # of the test split, each solved in three ways, with and without `<think>` written for the model
    rollouts = replace(srl(30, problems, every=15), rows=replace(ROWS, rows=4))  # 5 of 4 rows hold it, or 3 of 8
    return Config(
        name="quickstart",
        model=preset("0.2M"),
        rows=ROWS,
        stages=(base(250, problems), sft(40, problems, every=20), rollouts),
    )
