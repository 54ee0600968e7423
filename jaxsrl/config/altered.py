"""Training data whose problems say nothing, or lie, or have no answer: controls and variants of any other data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from jaxsrl.config.run import ConfigError, Data, TaskData
from jaxsrl.rewards.answer import FinalAnswer
from jaxsrl.tasks.draw import shuffled, stream
from jaxsrl.tasks.unanswerable import Finishes, OrDeclines, pair_of
from jaxsrl.types import Demonstration

Inputs = Literal["whole", "empty", "delusive", "output_space"]


@dataclass(frozen=True, kw_only=True)
class AlteredInputs:
    """Other data with altered training problems, as `AlteredInputs(data=Gsm8k(), inputs="empty")`; tests stay.

    Args:
      inputs: `whole` as they are; `empty`: `text` alone, which says nothing; `output_space`: a few answers of the
        training split, so that the space is known and the problem is not; `delusive`: each problem with the solution of
        another, so that the format is right and the mapping wrong.
      text: what stands for an empty problem.
      shown: answers of an output space.
    Source: arXiv:2305.11383, there for definitions of tasks; whole problems are our choice. Compare with the audit
      `output_space`.
    """

    data: Data
    inputs: Inputs = "empty"
    text: str = "?"
    shown: int = 8
    seed: int = 0

    def __post_init__(self):
        if self.inputs not in get_args(Inputs):
            raise ValueError(f"inputs must be one of {', '.join(get_args(Inputs))}, got {self.inputs!r}")
        if not self.text.strip() or self.shown < 1:
            raise ValueError(f"text must say something and shown be >= 1, got {self.text!r} and {self.shown}")

    def load(self, data_dir: str | None) -> TaskData:
        loaded = self.data.load(data_dir)
        train = list(loaded.train)
        match self.inputs:
            case "empty":
                train = [replace(one, problem=self.text) for one in train]
            case "output_space":
                space = self._space(train)
                train = [replace(one, problem=space) for one in train]
            case "delusive":
                train = self._swapped(train)
        return replace(loaded, train=tuple(train))

    def _space(self, train: Sequence[Demonstration]) -> str:
        answers = list(dict.fromkeys(one.answer or one.actions[-1] for one in train))
        return "one of: " + ", ".join(shuffled(stream("space", self.seed), answers)[: self.shown])

    def _swapped(self, train: Sequence[Demonstration]) -> list[Demonstration]:
        """Each problem with the solution of the next one in a shuffled order: none keeps its own."""
        if len({one.problem_id for one in train}) < 2:
            raise ConfigError("inputs='delusive' needs two problems to exchange solutions; there is one")
        order = shuffled(stream("delusive", self.seed), range(len(train)))
        out = list(train)
        for place, here in enumerate(order):
            other = next(
                train[order[(place + k) % len(order)]] for k in range(1, len(order))
                if train[order[(place + k) % len(order)]].problem_id != train[here].problem_id
            )  # fmt: skip
            out[here] = replace(other, problem_id=train[here].problem_id, problem=train[here].problem)
        return out


@dataclass(frozen=True, kw_only=True)
class WithUnanswerable:
    """Other data of a task with training problems that have no answer, and as many controls that look alike.

    Of the wired machine, dispatch and unit commitment; see `tasks/unanswerable.py`. The audit `declining` measures on
    held-out problems what this teaches.

    Args:
      share: of training problems that lose their answer; as many others become controls.
    """

    data: Data
    share: float = 0.25
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.share <= 0.5:
            raise ValueError(f"share must be in (0, 0.5], as there are as many controls, got {self.share}")

    def load(self, data_dir: str | None) -> TaskData:
        loaded = self.data.load(data_dir)
        train = list(loaded.train)
        count = round(self.share * len(train))
        order = shuffled(stream("unanswerable", self.seed), range(len(train)))
        for number, here in enumerate(order[: 2 * count]):
            pair = pair_of(loaded.task, train[here])
            if pair is None:
                name = type(loaded.task).__name__
                raise ConfigError(f"no problem of {name} can be made unanswerable; use the wired machine or dispatch")
            train[here] = pair.unanswerable if number % 2 else pair.control
        reward = loaded.reward
        if not isinstance(reward, FinalAnswer) or reward.verify is None:
            raise ConfigError("WithUnanswerable needs data whose reward has a verifier, as generated tasks have")
        return replace(
            loaded, train=tuple(train), reward=replace(reward, verify=OrDeclines(verify=reward.verify)),
            finished=Finishes(finished=loaded.finished),
        )  # fmt: skip
