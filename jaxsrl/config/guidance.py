"""How much of the demonstration the reward looks at: its answer, the whole of it, or every step."""

from dataclasses import replace
from typing import Literal, get_args

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.srl import SRL
from jaxsrl.old_names import moved
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rewards.solution import SolutionSimilarity

Granularity = Literal["answer", "one_shot", "action"]


def at_granularity(
    granularity: Granularity, *, answer: FinalAnswer, policy: GRPO | None = None, group_size: int = 8,
    autojunk: bool = False, filter_std: float = 0.05,
) -> RLVR | SRL:  # fmt: skip
    """The objective of one granularity; all else equal, as the ablation of arXiv:2510.25992 has it.

    Args:
      answer: the reward of `answer`, which drops groups that are all right or all wrong.
      filter_std: of the two similarities.
    """
    policy = policy or GRPO()
    similar = replace(policy, filter_std=filter_std)
    match granularity:
        case "answer":
            return RLVR(reward=answer, policy=replace(policy, filter_std=0.0), group_size=group_size)
        case "one_shot":
            return RLVR(reward=SolutionSimilarity(autojunk=autojunk), policy=similar, group_size=group_size)
        case "action":
            return SRL(reward=ActionSimilarity(autojunk=autojunk), policy=similar, group_size=group_size)
        case unknown:
            raise ValueError(f"unknown granularity {unknown!r}; there are: {', '.join(get_args(Granularity))}")


def __getattr__(name: str):
    return moved(name, __name__, {"guided": at_granularity})
