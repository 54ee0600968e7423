"""How does SFT on worked solutions, as bytes, split a budget between size and data?

Run:    .venv/bin/jaxsrl study scale configs/ladders/gsm8k.py --data-dir DATA
Takes:  TODO
Seen:   TODO
"""

from jaxsrl.collect import BatchShapes, Collect
from jaxsrl.config import Config, Gsm8k, Stage, Validate
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.sft import SFT
from jaxsrl.studies.ladder import Ladder, shaped
from jaxsrl.update import AdamW


def ladder() -> Ladder:
    stage = Stage(
        name="sft", objective=SFT(trunk=("solve",)), data=Gsm8k(held_out=40), steps=10,
        collect=Collect(demonstrations=2), optimizer=AdamW(lr=2.4e-2, warmup_steps=10),
        validate=Validate(every=0, problems=4, evaluation=Evaluation(modes=("actions",))), compact=False,
        device_steps=5, action_tokens=32, solve_tokens=32,
    )  # fmt: skip
    return Ladder(
        name="gsm8k-ladder",
        base=Config(
            name="gsm8k-ladder", model=preset("0.2M"), rows=BatchShapes(), stages=(stage,), checkpoint_every=500,
        ),
        sizes=shaped((8, 16, 24, 32, 48, 64), preset("0.2M"), head_width=4),
        budgets=(6e9, 1.2e10, 2.4e10, 4.8e10),
        rates=(0.5, 1.0, 2.0),
        population=3,
    )  # fmt: skip
