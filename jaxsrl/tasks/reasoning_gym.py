"""Problems of the package Reasoning Gym, with its scorers.

`pip install jaxsrl[gym]`. For example, `ReasoningGym(dataset="letter_counting")`. Its problems have an answer and no
steps. Of `basic_arithmetic` without parentheses, products and quotients a program knows them, and the solution is

    7 - 2 = 5                a running total, with steps="running_totals"
    5 + 4 = 9
    answer: 9                the answer that the package gives

Some of its scorers evaluate what a model wrote as an expression of Python; those datasets are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Literal, get_args

from jaxsrl.tasks.draw import Split, digest, first_of, lines_of, problem_id, split_of
from jaxsrl.types import Demonstration

Steps = Literal["none", "running_totals"]
MARK = "answer: "


@dataclass(frozen=True, kw_only=True)
class ReasoningGym:
    """One dataset of Reasoning Gym.

    Args:
      dataset: its name there.
      settings: of the dataset, as pairs of a name and a number, a truth value or a text; see its documentation.
      steps: the actions before the answer; `none`: the answer is the one action, and nothing is left for SRL.
      seed: of the problems.
    """

    dataset: str
    settings: tuple[tuple[str, Any], ...] = ()
    steps: Steps = "none"
    seed: int = 0

    def __post_init__(self):
        if self.steps not in get_args(Steps):
            raise ValueError(f"steps must be one of {', '.join(get_args(Steps))}, got {self.steps!r}")

    def demonstration(self, split: Split, index: int) -> Demonstration:
        """The steps, if there are any, and the answer.

        Raises: ImportError if the package is not installed; ValueError for a dataset that is refused, or that has no
          such steps.
        """
        draws = count()

        def draw() -> tuple[int, dict[str, Any]] | None:
            number = next(draws)
            entry = _entry(self, split, index, number)
            return (number, entry) if split_of(entry["question"]) == split else None

        number, entry = first_of(draw, f"problem of {self} in {split}")
        answer = str(entry["answer"])
        actions = (answer,) if self.steps == "none" else (*running_totals(entry), MARK + answer)
        return Demonstration(
            problem_id=problem_id(self.dataset, entry["question"]), problem=entry["question"], actions=actions,
            answer=answer,
            source=f"{self.dataset}:{self.seed}/{split}/{index}/{number}",
        )  # fmt: skip

    def right(self, text: str, demonstration: Demonstration) -> bool:
        """Its scorer gives the last line, or what that has behind the mark, full marks."""
        _, split, index, draw = demonstration.source.rsplit("/", 3)
        entry = _entry(self, split, int(index), int(draw))
        lines = lines_of(text)
        return bool(lines) and _dataset(self, 0).score_answer(lines[-1].removeprefix(MARK), entry) == 1.0

    def finished(self, action: str, demonstration: Demonstration) -> bool:
        return self.steps == "none" or action.strip().startswith(MARK)

    def difficulty(self, demonstration: Demonstration) -> float:
        """Characters of the problem: the package's own measures are not numbers."""
        return float(len(demonstration.problem))


def running_totals(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Of a problem with the expression `7 - 2 + 4`: `7 - 2 = 5` and `5 + 4 = 9`.

    Raises: ValueError for a problem that is no sum, or whose answer is another.
    """
    words = str(entry["metadata"].get("expression", "")).split(" ")
    first, signs, terms = words[0], words[1::2], words[2::2]
    if len(words) % 2 == 0 or not set(signs) <= {"+", "-"} or not all(one.isdecimal() for one in (first, *terms)):
        raise ValueError(f"no sum of whole numbers, which steps='running_totals' needs: {entry['question']!r}")
    total, lines = int(first), []
    for sign, term in zip(signs, terms, strict=True):
        after = total + int(term) * (1 if sign == "+" else -1)
        lines.append(f"{total} {sign} {term} = {after}")
        total = after
    if str(total) != str(entry["answer"]):
        raise ValueError(
            f"the running totals of {entry['question']!r} end with {total}, and not with {entry['answer']}"
        )
    return tuple(lines)


def _entry(settings: ReasoningGym, split: str, index: int, draw: int) -> dict[str, Any]:
    address = digest(f"{settings.seed}/{split}/{index}/{draw}")
    return _dataset(settings, int.from_bytes(address, "big") % 2**31)[0]


@lru_cache(256)
def _dataset(settings: ReasoningGym, seed: int):
    try:
        import reasoning_gym
        from reasoning_gym.dataset import ProceduralDataset
    except ImportError as error:
        raise ImportError("ReasoningGym needs the package reasoning-gym: pip install jaxsrl[gym]") from error
    made = reasoning_gym.create_dataset(settings.dataset, size=1, seed=seed, **dict(settings.settings))
    if type(made).score_answer is not ProceduralDataset.score_answer:
        raise ValueError(
            f"dataset={settings.dataset!r} has a scorer of its own, and some evaluate what a model wrote; take "
            "one that compares texts, such as gcd or letter_counting"
        )
    return made
