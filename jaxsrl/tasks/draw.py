"""Drawing problems: the same ones on every machine and Python, and no problem on two sides of a split."""

import random
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Literal, Protocol, TypeVar

from jaxsrl.types import Demonstration

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SHARES = (6, 1, 1)  # eighths of all problems
TRIES = 10_000
T = TypeVar("T")


class Task(Protocol):
    """A frozen settings value that makes problems, solves them and judges solutions."""

    def demonstration(self, split: Split, index: int) -> Demonstration:
        """Problem `index` of a split with its exact solution: a function of the settings and these two."""
        ...

    def right(self, text: str, demonstration: Demonstration) -> bool:
        """Whether a whole solution, its thoughts taken out, is right."""
        ...

    def finished(self, action: str, demonstration: Demonstration) -> bool:
        """Whether an action ends a solution."""
        ...

    def difficulty(self, demonstration: Demonstration) -> float:
        """How hard a problem is, in a unit of the task's own; more is harder."""
        ...


def generate(task: Task, count: int, split: Split = "train", first: int = 0) -> list[Demonstration]:
    """Demonstrations `first` to `first + count - 1` of a split.

    Raises: ValueError for a split that there is none of.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    return [task.demonstration(split, index) for index in range(first, first + count)]


def split_of(problem: str) -> Split:
    """The split that a problem belongs to, by its text alone: whatever the seeds and settings, none has two."""
    eighth = digest(problem)[0] % sum(SHARES)
    return "train" if eighth < SHARES[0] else "validation" if eighth < SHARES[0] + SHARES[1] else "test"


def first_of(draw: Callable[[], T | None], what: str) -> T:
    """The first value that is drawn; None is another try.

    Raises: ValueError after so many tries that there is likely none.
    """
    for _ in range(TRIES):
        if (made := draw()) is not None:
            return made
    raise ValueError(f"{TRIES} draws gave no {what}; widen the settings of the task")


def problem_id(task: str, problem: str) -> str:
    return f"{task}/{digest(problem).hex()}"


def digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()


def stream(*words: object) -> random.Random:
    """Random numbers of an address. Those of a text seed are the same in every version of Python."""
    return random.Random("/".join(map(str, words)))


def below(rng: random.Random, bound: int) -> int:
    """A whole number in 0..bound-1; `randrange` may change between versions of Python."""
    return int(rng.random() * bound)


def pick(rng: random.Random, some: Sequence[T]) -> T:
    return some[below(rng, len(some))]


def shuffled(rng: random.Random, some: Sequence[T]) -> list[T]:
    """Fisher-Yates, by `below`."""
    out = list(some)
    for i in range(len(out) - 1, 0, -1):
        j = below(rng, i + 1)
        out[i], out[j] = out[j], out[i]
    return out


def lines_of(text: str) -> list[str]:
    """The lines of a solution, without white space around them; empty ones do not count."""
    return [line.strip() for line in text.split("\n") if line.strip()]
