"""Does the best learning rate of SFT on arithmetic stay where it is as models get wider, or deeper?

Run:    .venv/bin/jaxsrl study transfer configs/ladders/arithmetic_rates.py
Takes:
Seen:

Four widths at two layers and three depths at width 32, in the standard parametrisation: initial weights of every
matrix as `models/transformer.py` draws them, one learning rate for all. Every run takes the same 150 steps on the same
batches.
"""

from dataclasses import replace

from jaxsrl.collect import Collect
from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base
from jaxsrl.config.demonstrations import ArithmeticTask
from jaxsrl.models.config import preset
from jaxsrl.studies.ladder import shaped
from jaxsrl.studies.transfer import Transfer
from jaxsrl.tasks.arithmetic import SHORT
from jaxsrl.update import AdamW

STEPS = 150


def transfer() -> Transfer:
    stage = base(STEPS)
    stage = replace(
        stage, data=ArithmeticTask(settings=SHORT, train=2_000), collect=Collect(demonstrations=4), test=None,
        optimizer=AdamW(lr=8e-3, warmup_steps=20), validate=replace(stage.validate, problems=4), compact=False,
        device_steps=10,
    )  # fmt: skip
    two = shaped((16, 32, 64, 128), preset("0.2M"), layers=2, head_width=8)
    return Transfer(
        name="arithmetic-rates",
        base=Config(name="arithmetic-rates", model=preset("0.2M"), rows=ROWS, stages=(stage,)),
        widths=two,
        depths=tuple(replace(two[1], layers=layers) for layers in (1, 2, 4)),
        rates=tuple(1e-3 * 2**i for i in range(7)),
        seeds=(0, 1, 2, 3),
        population=28,
    )
