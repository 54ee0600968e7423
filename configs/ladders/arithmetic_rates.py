"""Does the best learning rate of SFT on arithmetic stay where it is as models get wider, or deeper?

Run:    .venv/bin/jaxsrl study transfer configs/ladders/arithmetic_rates.py
Takes:  168 runs of at most 1.3e7 tokens and 8.3e12 FLOPs together, in six populations; 32 minutes at low priority on
        two CPU cores that other work loaded fivefold
Seen:   2026-11-29. Loss over the last 15 of 150 steps, mean of four seeds, and the best rate with its 95 % interval:

    width  layers  1e-3  2e-3  4e-3  8e-3  1.6e-2  3.2e-2  6.4e-2   best rate
     16    2       3.09  2.70  2.42  2.10  2.01    2.02    2.13     0.0235 (0.0161 to 0.0343)
     32    2       2.58  2.16  1.98  1.95  1.98    1.98    2.00     0.0123 (0.0094 to 0.0161)
     64    2       2.06  1.91  1.84  1.89  1.99    2.00    2.01     0.0046 (0.0038 to 0.0055)
    128    2       1.84  1.77  1.80  1.89  1.97    2.00    2.01     0.0026 (0.0016 to 0.0043)
     32    1       2.67  2.46  2.09  1.94  1.95    1.96    2.00     0.0147 (0.0101 to 0.0213)
     32    4       2.38  2.04  1.95  1.96  1.98    1.99    2.00     0.0067 (0.0061 to 0.0074)

Along width the optimum moves by a factor of 0.47 [0.41, 0.54] a doubling: it does not transfer, lr ~ width^-a with
a = 1.09 [0.90, 1.28]. The largest width loses 0.22 [0.18, 0.25] nats a token at the smallest one's optimum. Along depth
it moves by 0.68 [0.59, 0.78] a doubling, lr ~ layers^-0.57 [0.36, 0.77], and loses 0.02 [0.01, 0.04] over two
doublings. So a ladder may take lr ~ 1 / width, its default, which is within the interval. Beyond 1.6e-2 all but the
narrowest models end on a plateau near 2.0. This holds for 150 steps of one task: how the optimum moves with the length
of a run was not asked.

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
