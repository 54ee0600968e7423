"""Arithmetic data told another way: critiques of solutions, and problems asked backwards."""

from dataclasses import dataclass, field, replace

from jaxsrl.config.demonstrations import ArithmeticTask
from jaxsrl.config.run import TaskData
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks.backward import backward
from jaxsrl.tasks.critique import critique
from jaxsrl.types import Demonstration


@dataclass(frozen=True, kw_only=True)
class Critiques:
    """Critique fine-tuning: what is trained on are critiques, what is tested are the problems themselves.

    Args:
      task: whose solutions are criticised; its validation and test splits stay as they are: the model answers.
      wrong_share: of proposed solutions.
    Source: arXiv:2501.17703; there a larger model writes the critiques, here the verifier.
    """

    task: ArithmeticTask = field(default_factory=ArithmeticTask)
    wrong_share: float = 0.5

    def load(self, data_dir: str | None) -> TaskData:
        splits = self.task.load(data_dir)
        made = (critique(d, i, wrong_share=self.wrong_share) for i, d in enumerate(splits.train))
        return replace(splits, train=tuple(made))


@dataclass(frozen=True, kw_only=True)
class WithBackward:
    """The task's training problems and, after each, its backward items; answers are last lines in all of them.

    Args:
      forward: whether the problems themselves stay among the training problems.
    Source: the mitigation of arXiv:2605.28388 for problems that no rollout solves.
    """

    task: ArithmeticTask = field(default_factory=ArithmeticTask)
    forward: bool = True

    def load(self, data_dir: str | None) -> TaskData:
        splits = self.task.load(data_dir)
        items: list[Demonstration] = []
        for demonstration in splits.train:
            items += [_keyed(demonstration)] if self.forward else []
            items += backward(demonstration)
        away = {name: tuple(map(_keyed, getattr(splits, name))) for name in ("validation", "test")}
        return replace(splits, train=tuple(items), reward=FinalAnswer(extract="last_line"), **away)


def _keyed(demonstration: Demonstration) -> Demonstration:
    """The demonstration with its last action as key."""
    return replace(demonstration, answer=demonstration.actions[-1])
