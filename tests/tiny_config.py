"""A run of seconds with every kind of stage: SFT, SRL from its end, and RLVR from the best of that.

Tests load it, and start it as a process: `jaxsrl train tests/tiny_config.py --runs FOLDER`.
"""

from dataclasses import dataclass

from jaxsrl.collect import BatchShapes, Collect
from jaxsrl.config import Config, Stage, TaskData, Validate
from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.models.config import ModelConfig
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.types import Demonstration
from jaxsrl.update import AdamW


def even(text: str, demonstration: Demonstration) -> bool:
    """A judge that finds about half of everything right, so that groups are kept however bad the policy is."""
    return sum(text.encode()) % 2 == 0


def _finished(action: str, demonstration: Demonstration) -> bool:
    return action.startswith("c")


def _whole(text: str) -> str:
    return text


def spelled(index: int) -> Demonstration:
    """Three actions of three letters."""
    word = format(index, "03b").replace("0", "x").replace("1", "y")
    return Demonstration(
        problem_id=str(index), problem=f"{index}:{word}", answer=word,
        actions=tuple(f"{label}{word}" for label in "abc"),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """Problems that need no file."""

    train: int = 5

    def load(self, data_dir: str | None) -> TaskData:
        some = lambda first, count: tuple(spelled(index) for index in range(first, first + count))
        return TaskData(
            train=some(0, self.train), validation=some(20, 2), test=some(30, 2), reward=FinalAnswer(verify=even),
            finished=_finished, first_action=_whole,
        )  # fmt: skip


def config() -> Config:
    steps = Evaluation(modes=("actions",))
    # Five problems in draws of two: an epoch ends inside a step.
    common = dict(
        data=Spelling(), sampling=Sampling(max_new_tokens=6), action_tokens=6,
        solve_tokens=6, test_problems=2, optimizer=AdamW(lr=2e-2, warmup_steps=2),
        validate=Validate(every=2, problems=2, evaluation=steps, metric="actions/similarity"),
    )  # fmt: skip
    similarity = ActionSimilarity(autojunk=False, malformed=0.0, think="optional")
    spread = GRPO(filter_std=0.18)  # so much that some steps of SRL are refilled, and some stay short
    return Config(
        name="tiny",
        model=ModelConfig(vocab=272, width=24, layers=1, heads=2, kv_heads=1, head_width=12, mlp_width=32),
        rows=BatchShapes(tokens=160, rows=2, prompt_tokens=48, prompt_rows=2, slots=12, evaluate_rows=2,
                         evaluate_slots=4),
        checkpoint_every=2,
        stages=(
            Stage(
                name="sft", objective=SFT(trunk=("action",)), steps=9, collect=Collect(demonstrations=2), **common,
            ),
            Stage(
                name="srl", objective=SRL(reward=similarity, policy=spread, group_size=4), steps=7,
                start_from="sft", collect=Collect(demonstrations=2, prompts=4, max_refills=1), **common,
            ),
            Stage(
                name="rlvr", objective=RLVR(reward=FinalAnswer(verify=even), group_size=4), steps=6,
                start_from="srl:best", collect=Collect(demonstrations=2), updates_per_rollout=2, test=steps, **common,
            ),
        ),
    )  # fmt: skip
