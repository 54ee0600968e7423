"""Teaching a policy to decline what has no answer, and nothing else: the wired machine with a wire cut.

From one base, SFT on problems of one to three actions: as they are (`sft`), and with a quarter of them cut on the way,
which have no answer, and a quarter cut elsewhere, which have theirs (`declines`). `before` is the base, tested alike.

Run:    launch/local.sh configs/task_unanswerable.py
Takes:  two minutes on two CPU cores
Seen:   50 test problems, greedy, in brackets the 95 % interval over problems. One seed, 2026-11-29.

    policy             right              declined, cut on the way   declined, cut elsewhere   right, cut elsewhere
    base               0.42 (0.29-0.56)   0.00 (0.00-0.07)           0.00 (0.00-0.07)          0.16 (0.08-0.29)
    SFT, all answered  0.98 (0.90-1.00)   0.00 (0.00-0.07)           0.00 (0.00-0.07)          0.48 (0.35-0.61)
    SFT, half cut      0.96 (0.87-0.99)   0.78 (0.65-0.87)           0.80 (0.67-0.89)          0.18 (0.10-0.31)

It learned that a cut is declined, and not which cut matters: calibration, the difference of the two shares, is -0.02
(-0.13 to 0.08), though a quarter of the problems it learned from had a cut and an answer. Without the controls, 0.78
would look like knowing what it cannot solve. On problems without a cut nothing was lost.
"""

from dataclasses import replace

from jaxsrl.collect import Collect
from jaxsrl.config import Config
from jaxsrl.config.altered import WithUnanswerable
from jaxsrl.config.arithmetic import ACTION_TOKENS, ROWS, base
from jaxsrl.config.demonstrations import ArithmeticTask
from jaxsrl.config.run import Data, Stage, Validate
from jaxsrl.evals.audits.declining import Declining
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.sft import SFT
from jaxsrl.tasks.arithmetic import Arithmetic
from jaxsrl.update import AdamW

ANSWERED = ArithmeticTask(settings=Arithmetic(run=(1, 3), thoughts=True), train=4096)


def stage(name: str, steps: int, data: Data) -> Stage:
    return Stage(
        name=name, objective=SFT(trunk=("solve",)), steps=steps, data=data, start_from="base",
        optimizer=AdamW(lr=1e-3), collect=Collect(demonstrations=32), action_tokens=ACTION_TOKENS, solve_tokens=96,
        validate=Validate(every=0, problems=25, evaluation=Evaluation(modes=("direct",)), metric="direct/answer"),
        test=Evaluation(modes=("direct",), probes=(Declining(),)), test_problems=50,
    )  # fmt: skip


def config() -> Config:
    return Config(
        name="task-unanswerable", model=preset("0.2M"), rows=ROWS,
        stages=(
            replace(base(300), test=None), stage("before", 0, ANSWERED), stage("sft", 150, ANSWERED),
            stage("declines", 150, WithUnanswerable(data=ANSWERED)),
        ),
    )  # fmt: skip
