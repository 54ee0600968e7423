"""A machine on a row of digits: problems that make themselves, their exact solution, and a verifier.

A problem names the label to reach and two settings of the machine, and then where it starts; the actions continue
that second line:

    g:BP             reach label g; the machine is set to B and P
    d=47123          at label d the digits are 47123
    e=76814          an action: the next label, and the digits there

On the way from one label to the next the machine does three operations: the first setting, the operation that belongs
to the label it leaves (`WIRING`, the same in all problems and written in none), and the second setting. An operation
acts on every digit alone, modulo 10, without carries: it adds 1, 2 or 3, or multiplies by 3, 7 or 9. The digits
between the operations are private: only a thought, `B69345W92678P76814`, shows them and the label's operation. A
demonstration without thoughts therefore asks for a computation that it does not show.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from jaxsrl.tasks.draw import SPLITS, Split, below, problem_id, split_of, stream
from jaxsrl.types import Demonstration

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Each place of a step has letters of its own for the six operations +1 +2 +3 *3 *7 *9; factors without a common
# divisor with 10 lose no digit.
OPERATIONS = ((1, 1), (1, 2), (1, 3), (3, 0), (7, 0), (9, 0))  # (factor, addend) of digit -> factor * digit + addend
PLACES = ("ABCMNO", "UVWXYZ", "DEFPQR")  # first setting, the label's own, second setting
WIRING = "VXUWVYUZWVUXWUVYWVZUXVWUY"  # the operation of labels a, b, c, …


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """How hard the problems are.

    Args:
      run: fewest and most labels to go; the actions of a solution. Inclusive.
      digits: of the state; a guessed action is right once in 10**digits.
      multiply: share of settings that multiply; the others add.
      thoughts: whether demonstrations show what the expert thought before each action.
      seed: of the problems.
    """

    run: tuple[int, int] = (8, 8)
    digits: int = 5
    multiply: float = 0.5
    thoughts: bool = False
    seed: int = 0

    def __post_init__(self):
        low, high = self.run
        if not 1 <= low <= high < len(LETTERS):
            raise ValueError(f"arithmetic.run must be 1 <= fewest <= most <= 25, got {self.run}")
        if self.digits < 5:
            raise ValueError(f"arithmetic.digits must be >= 5, or actions can be guessed, got {self.digits}")
        if not 0 <= self.multiply <= 1:
            raise ValueError(f"arithmetic.multiply must be a share, got {self.multiply}")
        if self.seed < 0:
            raise ValueError(f"arithmetic.seed must be >= 0, got {self.seed}")


SHORT = Arithmetic(run=(1, 2), multiply=0.15, thoughts=True)
LONG = Arithmetic()
PRESETS = MappingProxyType(
    {
        "short": SHORT,
        "long": LONG,
        "ood_length": replace(LONG, run=(12, 12)),
        "ood_ops": replace(LONG, multiply=1.0),
    }
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is right in a proposed solution: each of the expert's actions, and all of them with nothing besides."""

    actions: tuple[bool, ...]
    chain: bool


def apply(operation: str, state: str) -> str:
    """The digits after one operation, named by its letter."""
    for letters in PLACES:
        if operation in letters:
            factor, addend = OPERATIONS[letters.index(operation)]
            return "".join(str((int(digit) * factor + addend) % 10) for digit in state)
    raise ValueError(f"unknown operation {operation!r}; there are: {''.join(PLACES)}")


def solve(problem: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The expert: actions and thoughts of a problem, from its text alone.

    Raises: ValueError if the text is not a problem of this family.
    """
    try:
        header, start = problem.split("\n")
        stop, (first, second) = header.split(":")
        label, state = start.split("=")
        actions, thoughts = [], []
        while label != stop:
            thought = ""
            for operation in (first, WIRING[LETTERS.index(label)], second):
                state = apply(operation, state)
                thought += operation + state
            label = LETTERS[LETTERS.index(label) + 1]
            actions.append(f"{label}={state}")
            thoughts.append(thought)
    except (ValueError, IndexError) as error:
        raise ValueError(f"not an arithmetic problem: {problem!r}") from error
    return tuple(actions), tuple(thoughts)


def generate(settings: Arithmetic, count: int, split: Split = "train", first: int = 0) -> list[Demonstration]:
    """Demonstrations `first` to `first + count - 1` of a split; each a function of settings, split and its index.

    Splits share no problem, whatever the seeds and settings: which one a problem belongs to is read off its text.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    return [_demonstration(settings, split, index) for index in range(first, first + count)]


def verify(demonstration: Demonstration, actions: Sequence[str]) -> Verdict:
    """Compares proposed actions with the exact solution of the problem."""
    expected, _ = solve(demonstration.problem)
    right = tuple(i < len(actions) and actions[i].strip() == action for i, action in enumerate(expected))
    return Verdict(actions=right, chain=all(right) and len(actions) == len(expected))


def verify_answer(text: str, demonstration: Demonstration, *, chain: bool = True) -> bool:
    """Whether a whole solution, its thoughts taken out, is right.

    Args:
      text: one action on a line; empty lines do not count.
      chain: every action has to be right; otherwise the last line alone.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if chain:
        return verify(demonstration, lines).chain
    expected, _ = solve(demonstration.problem)
    return bool(lines) and lines[-1] == expected[-1]


def same_action(found: str, expert: str) -> bool:
    """Whether two actions put the machine in the same state; white space around label and digits does not count."""
    state = lambda text: tuple(part.strip() for part in text.split("="))
    return len(state(found)) == 2 and state(found) == state(expert)


def right_steps(text: str, demonstration: Demonstration) -> tuple[float, ...]:
    """1 for every line of a solution, its thoughts taken out, that is the expert's at its place, else 0."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    expected, _ = solve(demonstration.problem)
    return tuple(float(i < len(expected) and line == expected[i]) for i, line in enumerate(lines))


def corrupt(
    demonstration: Demonstration, seed: int, kind: Literal["digit", "slip", "drop"] = "digit"
) -> tuple[str, ...]:
    """The expert's actions with one mistake, for tests of rewards.

    Args:
      kind: `digit` writes one digit of one action wrong; `slip` goes on from that wrong digit without another
        mistake, so every later action is wrong too; `drop` leaves one action out.
    """
    rng = stream("corrupt", seed, demonstration.problem)
    actions = list(demonstration.actions)
    at = below(rng, len(actions))
    if kind == "drop":
        return tuple(actions[:at] + actions[at + 1 :])
    place = 2 + below(rng, len(actions[at]) - 2)
    wrong = str((int(actions[at][place]) + 1 + below(rng, 9)) % 10)
    actions[at] = actions[at][:place] + wrong + actions[at][place + 1 :]
    if kind == "slip" and at + 1 < len(actions):
        header, _ = demonstration.problem.split("\n")
        actions[at + 1 :] = solve(f"{header}\n{actions[at]}")[0]
    return tuple(actions)


def _demonstration(settings: Arithmetic, split: Split, index: int) -> Demonstration:
    rng = stream(settings.seed, split, index)
    run = settings.run[0] + below(rng, settings.run[1] - settings.run[0] + 1)
    begin = below(rng, len(LETTERS) - run)
    first, second = (_setting(settings, rng, letters) for letters in (PLACES[0], PLACES[2]))
    header = f"{LETTERS[begin + run]}:{first}{second}\n{LETTERS[begin]}="
    while split_of(problem := header + "".join(str(below(rng, 10)) for _ in range(settings.digits))) != split:
        pass  # another start of the same machine
    actions, thoughts = solve(problem)
    return Demonstration(
        problem_id=problem_id("arithmetic", problem),
        problem=problem,
        actions=actions,
        answer=actions[-1].partition("=")[2],
        thoughts=thoughts if settings.thoughts else None,
        source=f"arithmetic:{settings.seed}/{split}/{index}",
    )


def _setting(settings: Arithmetic, rng: random.Random, letters: str) -> str:
    return letters[below(rng, 3) + (3 if rng.random() < settings.multiply else 0)]
