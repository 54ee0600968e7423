"""Is it the problem that a demonstration teaches, or its form? SFT on problems that are whole, empty, or of others.

From one base that knows some of the sums of 1 to 4 operators, SFT on more of them: with their problems; with `?` in the
place of each; with a list of answers there; and with each problem beside another's solution. Tests stay as they are.

Run:    launch/local.sh configs/task_altered_inputs.py
Takes:  three minutes on two CPU cores
Seen:   right answers to 49 test problems, greedy, in brackets the 95 % interval over problems. One seed, 2026-11-29.

    base                                0.41 (0.28-0.55)
    SFT on whole problems, 60 steps     0.33 (0.21-0.47)
    SFT on empty ones                   0.24 (0.15-0.38)
    SFT on a list of answers            0.20 (0.11-0.34)
    SFT on others' problems             0.02 (0.00-0.11)
    guessing: evenly, as often as each answer occurs, always the most frequent one     0.05, 0.06, 0.10 (0.04-0.22)

Solutions without their problems take some of the skill, about as much in both ways; wrong pairs take all of it, and all
keep the form: no solution was cut or malformed. Whole problems add nothing in 60 steps at this rate, so the differences
are what is lost. That training without problems does as well as with them, as arXiv:2305.11383 found of instructions,
cannot be excluded here by the intervals of the first three; by those of the last it can.
"""

from jaxsrl.collect import Collect
from jaxsrl.config import Config
from jaxsrl.config.altered import AlteredInputs, Inputs
from jaxsrl.config.generated import Generated
from jaxsrl.config.run import Stage, Validate
from jaxsrl.evals.audits.output_space import OutputSpace
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.sft import SFT
from jaxsrl.tasks.operators import Operators
from jaxsrl.update import AdamW

SUMS = Generated(task=Operators(operators=(1, 4), per_action=(1, 2), largest=9), train=8000)


def stage(name: str, steps: int, inputs: Inputs = "whole", **settings) -> Stage:
    return Stage(
        name=name, objective=SFT(trunk=("solve",)), steps=steps, data=AlteredInputs(data=SUMS, inputs=inputs),
        collect=Collect(demonstrations=32), action_tokens=24, solve_tokens=96, test_problems=50,
        validate=Validate(every=0, problems=25, evaluation=Evaluation(modes=("direct",)), metric="direct/answer"),
        test=Evaluation(modes=("direct",), probes=(OutputSpace(),)), **settings,
    )  # fmt: skip


def config() -> Config:
    warm = AdamW(lr=3e-3, warmup_steps=20, schedule="cosine", final_share=0.1)
    arm = lambda inputs: stage(inputs, 60, inputs, start_from="base", optimizer=AdamW(lr=1e-3))
    return Config(
        name="task-altered-inputs", model=preset("0.2M"),
        stages=(stage("base", 500, optimizer=warm), *map(arm, ("whole", "empty", "output_space", "delusive"))),
    )  # fmt: skip
