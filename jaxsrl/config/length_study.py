"""The stages that studies on arithmetic share: one base model, and SFT and SRL on demonstrations of a length."""

from dataclasses import replace

from jaxsrl.collect import Collect
from jaxsrl.config.arithmetic import ACTION_TOKENS, PROBE, base
from jaxsrl.config.demonstrations import ArithmeticTask
from jaxsrl.config.run import Stage, Validate
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.tasks.arithmetic import Arithmetic
from jaxsrl.update import AdamW

TOKENS, MOST = 700_000, 4000  # executed by each stage but the base; the budget ends it long before so many steps


def starting_point(steps: int = 400, seed: int | None = None) -> Stage:
    """The base of `arithmetic.py`, evaluated at its end alone; with a seed, the same for runs of every seed."""
    return replace(base(steps), seed=seed, test=None, validate=Validate(every=0, problems=50, evaluation=PROBE))


def probed(stage: Stage, name: str | None = None, *, every: int) -> Stage:
    """Judged by the next action after the expert's on 50 validation problems, every so many steps; not tested."""
    validate = Validate(every=every, problems=50, evaluation=PROBE)
    return replace(stage, name=name or stage.name, test=None, validate=validate)


def stage(kind: str, length: int, *, rate: float, name: str | None = None) -> Stage:
    """`sft` or `srl` on demonstrations of so many actions, evaluated about six times on 50 problems of that length."""
    task = Arithmetic(run=(length, length))
    more = {
        "sft": dict(objective=SFT(trunk=("action", "solve")), collect=Collect(demonstrations=64 // length)),
        "srl": dict(
            objective=SRL(reward=ActionSimilarity(autojunk=False), group_size=8),
            collect=Collect(demonstrations=64 // length, prompts=40, max_refills=2),
            sampling=Sampling(max_new_tokens=ACTION_TOKENS),
        ),
    }[kind]
    return Stage(
        name=name or f"{kind}_{length}", data=ArithmeticTask(settings=task, train=1024), start_from="base", steps=MOST,
        tokens=TOKENS, optimizer=AdamW(lr=rate), action_tokens=ACTION_TOKENS,
        validate=Validate(every={"sft": 80, "srl": 8}[kind], problems=50, evaluation=PROBE), **more,
    )  # fmt: skip
