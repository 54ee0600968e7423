"""The stages that the SmolLM2 configs share: a warm start on the format, and objectives that start from it.

The sizes are for one GPU. `--set` makes them small enough for a CPU, see `configs/smollm2_sft.py`.
"""

from collections.abc import Sequence

from jaxsrl.collect import Collect
from jaxsrl.config.demonstrations import Gsm8k
from jaxsrl.config.run import Config, Stage, Validate
from jaxsrl.data.chat import Template
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import preset
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.types import Objective
from jaxsrl.update import AdamW

ACTION_TOKENS, SOLVE_TOKENS = 96, 320  # 95 % of GSM8K's solutions have at most 229 tokens, without thoughts
LONGEST = 800  # characters of problem and solution; leaves out one problem in fourteen
SOLVE = (
    "Solve the problem step by step, one step a line. Before a step you may think inside <think> and </think>. End "
    "with a line of #### and the number that answers the problem."
)


def run(name: str, stages: Sequence[Stage]) -> Config:
    """A run from SmolLM2-135M-Instruct, in the chat template of its folder; thoughts stand in `<think>`."""
    return Config(
        name=name, model=preset("smollm2-135m"), weights="SmolLM2-135M-Instruct", template=Template(solve_system=SOLVE),
        stages=tuple(stages),
    )  # fmt: skip


def _stage(
    name: str, objective: Objective, *, steps: int, start_from: str | None = None, metric: str = "actions/similarity",
    annotations="drop", **settings,
) -> Stage:  # fmt: skip
    mode = metric.partition("/")[0]
    return Stage(
        name=name, objective=objective, steps=steps, start_from=start_from,
        data=Gsm8k(annotations=annotations, max_characters=LONGEST), action_tokens=ACTION_TOKENS,
        solve_tokens=SOLVE_TOKENS, test=Evaluation(modes=("actions", "direct")), test_problems=100,
        validate=Validate(every=50, problems=32, evaluation=Evaluation(modes=(mode,)), metric=metric), **settings,
    )  # fmt: skip


def warm() -> Stage:
    """SFT on the format: GSM8K's calculator annotations (`48/2=24`) are the thought before their step."""
    return _stage(
        "warm", SFT(trunk=("action", "solve")), steps=50, annotations="thought", collect=Collect(demonstrations=32),
        optimizer=AdamW(lr=1e-4, warmup_steps=4),
    )  # fmt: skip


def sft() -> Stage:
    """SFT on the same solutions without thoughts, as most demonstrations are: three epochs."""
    return _stage(
        "sft", SFT(trunk=("action", "solve")), steps=640, start_from="warm", collect=Collect(demonstrations=32),
        optimizer=AdamW(lr=1e-4, warmup_steps=20, schedule="cosine", final_share=0.1),
    )  # fmt: skip


def srl() -> Stage:
    """SRL on the same solutions: the model thinks, writes a step, and is rewarded as it is like the expert's."""
    return _stage(
        "srl", SRL(reward=ActionSimilarity(autojunk=False), group_size=8), steps=200, start_from="warm",
        collect=Collect(demonstrations=32, prompts=96, max_refills=2), optimizer=AdamW(lr=2e-6, warmup_steps=5),
        sampling=Sampling(max_new_tokens=ACTION_TOKENS),
    )  # fmt: skip


def rlvr(start_from: str = "warm", steps: int = 200) -> Stage:
    """RLVR: whole solutions, rewarded where the number behind `####` is the key."""
    return _stage(
        "rlvr", RLVR(reward=FinalAnswer(extract="hash"), policy=GRPO(filter_std=0.0), group_size=8), steps=steps,
        start_from=start_from, metric="direct/answer", collect=Collect(demonstrations=64, prompts=32, max_refills=3),
        optimizer=AdamW(lr=2e-6, warmup_steps=5), sampling=Sampling(max_new_tokens=SOLVE_TOKENS),
    )  # fmt: skip
