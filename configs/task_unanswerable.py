"""Teaching a policy to decline what has no answer, and nothing else: the wired machine with a wire cut.

From one base, SFT on problems of one to three actions: as they are (`sft`), and with a quarter of them cut on the way,
which have no answer, and a quarter cut elsewhere, which have theirs (`declines`). `before` is the base, tested alike.

Run:    launch/local.sh configs/task_unanswerable.py
Seen:   TODO
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
