"""How does SFT on arithmetic split a budget between size and data?

Run:    .venv/bin/jaxsrl study scale configs/ladders/arithmetic.py
Takes:  54 runs of 1.7e7 tokens and 6.6e12 FLOPs together, as `--plan` counts them
Seen:   nothing yet: all runs were checked and costed, and the ladder has not been run whole.

Six sizes of one shape, three budgets, three learning rates each. Demonstrations are seen once.
"""

from dataclasses import replace

from jaxsrl.collect import Collect
from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base
from jaxsrl.config.demonstrations import ArithmeticTask
from jaxsrl.models.config import preset
from jaxsrl.studies.ladder import Ladder, shaped
from jaxsrl.tasks.arithmetic import SHORT
from jaxsrl.update import AdamW


def ladder() -> Ladder:
    stage = base(10)
    stage = replace(
        stage, data=ArithmeticTask(settings=SHORT, train=25_000), collect=Collect(demonstrations=4), test=None,
        optimizer=AdamW(lr=2.4e-2), validate=replace(stage.validate, problems=4), compact=False, device_steps=5,
    )  # fmt: skip
    return Ladder(
        name="arithmetic-ladder",
        base=Config(
            name="arithmetic-ladder",
            model=preset("0.2M"),
            rows=replace(ROWS, rows=4),
            stages=(stage,),
            checkpoint_every=500,
        ),
        sizes=shaped((16, 32, 48, 64, 96, 128), preset("0.2M"), head_width=8),
        budgets=(2.5e10, 5e10, 1e11),
        rates=(0.5, 1.0, 2.0),
        population=3,
    )
