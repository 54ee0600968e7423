"""A base model on short problems with thoughts, then SFT and SRL on long ones that show actions only.

Run:    launch/local.sh configs/quickstart.py
"""

from jaxsrl.collect import Collect, Rows
from jaxsrl.config import ArithmeticTask, Config, Stage, Validate
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import StepSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.tasks.arithmetic import LONG, SHORT
from jaxsrl.update import AdamW


def config() -> Config:
    short, long = ArithmeticTask(settings=SHORT, held_out=LONG, train=20000), ArithmeticTask(settings=LONG, train=512)
    steps = Evaluation(modes=("steps",))
    test = Evaluation(modes=("steps", "direct", "chained"), forced_think=(False, True))
    common = dict(test=test, test_problems=50, step_tokens=32, solve_tokens=288)
    return Config(
        name="quickstart",
        model=preset("0.2M"),
        rows=Rows(tokens=384, rows=8, prompt_tokens=176, prompt_rows=8, slots=56),
        stages=(
            Stage(
                name="base", objective=SFT(trunk=("solve", "step")), data=short, steps=300,
                optimizer=AdamW(lr=3e-3, warmup_steps=20, schedule="cosine", final_share=0.1),
                collect=Collect(demonstrations=32), validate=Validate(every=150, problems=16, evaluation=steps),
                **common,
            ),
            Stage(
                name="sft", objective=SFT(trunk=("solve", "step")), data=long, steps=60, start_from="base",
                optimizer=AdamW(lr=5e-4), collect=Collect(demonstrations=16),
                validate=Validate(every=30, problems=16, evaluation=steps), **common,
            ),
            Stage(
                name="srl", objective=SRL(grader=StepSimilarity(autojunk=False), samples=8), data=long, steps=60,
                start_from="base", optimizer=AdamW(lr=5e-4), collect=Collect(demonstrations=8),
                sampling=Sampling(max_new_tokens=32),
                validate=Validate(every=30, problems=16, evaluation=steps), **common,
            ),
        ),
    )  # fmt: skip
