"""How does SFT on arithmetic split a budget between size and data?

Run:    .venv/bin/jaxsrl study scale configs/ladders/arithmetic.py
Takes:  54 runs of 2.1e7 tokens and 3.3e12 FLOPs together, as `--plan` counts them; 20 minutes at low priority on two
        CPU cores that other work loaded fivefold
Seen:   2026-11-29, one seed. Loss in nats a token at the best of three rates; `<` where that was the lowest, `*` the
        best size of a budget. The budgets came out at 2.9e10, 5.8e10 and 1.16e11: tokens of a demonstration were then
        estimated from 16 of them, which is mended.

    parameters   2.5e10   5e10     1e11
      7,040      1.72 <   1.72 <   1.71 <
     20,224      0.78 *   0.13 *   0.15
     38,400      1.46 <   0.58     0.039 <
     61,952      1.72     0.76     0.033 *
    228,864      2.50     1.98     1.74 <
    578,560      2.93     2.54     2.01

The best size lies inside the ladder at every budget and grows with it; parabolas put it at 2.3e4, 3.5e4 and 4.0e4
parameters. But there is no law: points lie 150 % beside L(N, D), E is -0.4 (-12 to 0.02), alpha 1.5 (0.02 to 2), beta
0.7 (0.02 to 2), and N* ~ C^0.32 with an interval of 0.01 to 0.99. Fitted to the lower half of the budgets it is off by
386 % on the rest (carrying on the best loss, 744 %). What is seen is a transition: a run stays on a plateau near 1.7,
and then falls to 0.03 within a doubling of its tokens. The smallest size never leaves the plateau, and at the largest
of the three rates, 0.77 / width, no size does. So the page's law is not to be used, and the page says so.

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
