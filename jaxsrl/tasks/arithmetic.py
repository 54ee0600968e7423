"""Programs on a row of digits: problems that make themselves, their exact solution, and a verifier.

A problem is a line for the program and a line for where it starts, and the actions continue the second kind of line:

    g: c+1*3 d+2+3 e*7+1 f+1+2     run until g; at label c are the operations +1 and *3, and so on
    d=47123                        at label d the digits are 47123
    e=92678                        an action: the label reached, and the digits there

An operation acts on each digit alone, modulo 10, without carries (`+2` makes 9 a 1, `*3` makes 4 a 2); `<1` moves the
first digit to the end. The digits between the operations of a line are private: only a thought, `d+2 69345+3 92678`,
shows them. A demonstration without thoughts therefore asks for a computation that it does not show.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from types import MappingProxyType
from typing import Literal

from jaxsrl.types import Demonstration

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SHARES = (6, 1, 1)  # eighths of all problems
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ADDENDS, FACTORS = "123", "379"  # factors without a common divisor with 10: no digit is lost


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """How hard the problems are.

    Args:
      run: fewest and most lines to run; the actions of a solution. Inclusive, as `program`.
      program: fewest and most lines that the problem shows; those not run are there to be passed over.
      operations: on each line.
      digits: of the state; a guessed action is right once in 10**digits.
      multiply, rotate: share of operations `*3 *7 *9`, and `<1`; the others are `+1 +2 +3`.
      thoughts: whether demonstrations show what the expert thought before each action.
      seed: of the problems.
    """

    run: tuple[int, int] = (8, 8)
    program: tuple[int, int] = (8, 8)
    operations: int = 2
    digits: int = 5
    multiply: float = 0.4
    rotate: float = 0.0
    thoughts: bool = False
    seed: int = 0

    def __post_init__(self):
        for name in ("run", "program"):
            low, high = getattr(self, name)
            if not 1 <= low <= high < len(LETTERS):
                raise ValueError(f"arithmetic.{name} must be 1 <= fewest <= most <= 25, got {(low, high)}")
        if self.run[0] > self.program[0] or self.run[1] > self.program[1]:
            raise ValueError(f"arithmetic.run must not exceed program, got run={self.run} program={self.program}")
        if self.operations < 2:
            raise ValueError(f"arithmetic.operations must be >= 2, or a thought has nothing to add, got {self.operations}")
        if self.digits < 5:
            raise ValueError(f"arithmetic.digits must be >= 5, or actions can be guessed, got {self.digits}")
        if min(self.multiply, self.rotate) < 0 or self.multiply + self.rotate > 1:
            raise ValueError(
                f"arithmetic.multiply and rotate must be shares, got multiply={self.multiply} rotate={self.rotate}"
            )
        if self.seed < 0:
            raise ValueError(f"arithmetic.seed must be >= 0, got {self.seed}")


SHORT = Arithmetic(run=(1, 2), program=(2, 8), multiply=0.1, thoughts=True)
LONG = Arithmetic()
PRESETS = MappingProxyType(
    {
        "short": SHORT,
        "long": LONG,
        "ood_length": replace(LONG, run=(12, 12), program=(12, 12)),
        "ood_ops": replace(LONG, operations=3),
    }
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is right in a proposed solution: each of the expert's actions, and all of them with nothing besides."""

    actions: tuple[bool, ...]
    chain: bool


def apply(operation: str, state: str) -> str:
    """The digits after one operation: `+d` and `*d` on each digit modulo 10, `<n` rotates n places to the left."""
    amount = int(operation[1:])
    match operation[0]:
        case "+":
            return "".join(str((int(digit) + amount) % 10) for digit in state)
        case "*":
            return "".join(str(int(digit) * amount % 10) for digit in state)
        case "<":
            return state[amount:] + state[:amount]
    raise ValueError(f"operation must begin with +, * or <, got {operation!r}")


def solve(problem: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The expert: actions and thoughts of a problem, from its text alone.

    Raises: ValueError if the text is not a problem of this family.
    """
    try:
        header, start = problem.split("\n")
        stop, program = header.split(": ")
        label, state = start.split("=")
        lines = {line[0]: [line[i : i + 2] for i in range(1, len(line), 2)] for line in program.split(" ")}
        actions, thoughts = [], []
        while label != stop:
            thought = label
            for operation in lines[label]:
                state = apply(operation, state)
                thought += f"{operation} {state}"
            label = LETTERS[LETTERS.index(label) + 1]
            actions.append(f"{label}={state}")
            thoughts.append(thought)
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"not an arithmetic problem: {problem!r}") from error
    return tuple(actions), tuple(thoughts)


def generate(settings: Arithmetic, count: int, split: Split = "train", first: int = 0) -> list[Demonstration]:
    """Demonstrations `first` to `first + count - 1` of a split; each a function of settings, split and its index.

    Splits share no problem, whatever the seeds and settings: which one a problem belongs to is read off its text.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    return [_demonstration(settings, split, index) for index in range(first, first + count)]


def split_of(problem: str) -> Split:
    """The split that a problem belongs to."""
    eighth = _digest(problem)[0] % sum(SHARES)
    return "train" if eighth < SHARES[0] else "validation" if eighth < SHARES[0] + SHARES[1] else "test"


def verify(demonstration: Demonstration, actions: Sequence[str]) -> Verdict:
    """Compares proposed actions with the exact solution of the problem."""
    expected, _ = solve(demonstration.problem)
    right = tuple(i < len(actions) and actions[i].strip() == action for i, action in enumerate(expected))
    return Verdict(actions=right, chain=all(right) and len(actions) == len(expected))


def verify_answer(text: str, demonstration: Demonstration, *, chain: bool = True) -> bool:
    """Whether a whole solution, its thoughts taken out, is right.

    Args:
      text: one action on a line; empty lines do not count.
      chain: every action has to be right; otherwise the last line's digits alone.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if chain:
        return verify(demonstration, lines).chain
    expected, _ = solve(demonstration.problem)
    return bool(lines) and lines[-1] == expected[-1]


def corrupt(demonstration: Demonstration, seed: int, kind: Literal["digit", "slip", "drop"] = "digit") -> tuple[str, ...]:
    """The expert's actions with one mistake, for tests of graders.

    Args:
      kind: `digit` writes one digit of one action wrong; `slip` goes on from that wrong digit without another
        mistake, so every later action is wrong too; `drop` leaves one action out.
    """
    rng = random.Random(f"corrupt/{seed}/{demonstration.problem}")
    actions = list(demonstration.actions)
    at = _below(rng, len(actions))
    if kind == "drop":
        return tuple(actions[:at] + actions[at + 1 :])
    place = 2 + _below(rng, len(actions[at]) - 2)
    wrong = str((int(actions[at][place]) + 1 + _below(rng, 9)) % 10)
    actions[at] = actions[at][:place] + wrong + actions[at][place + 1 :]
    if kind == "slip" and at + 1 < len(actions):
        header, _ = demonstration.problem.split("\n")
        actions[at + 1 :] = solve(f"{header}\n{actions[at]}")[0]
    return tuple(actions)


def _demonstration(settings: Arithmetic, split: Split, index: int) -> Demonstration:
    # The bits of random.Random.random() for a text seed are the same in every version of Python.
    rng = random.Random(f"{settings.seed}/{split}/{index}")
    most = max(settings.program[0], settings.run[0])
    length = most + _below(rng, settings.program[1] - most + 1)
    run = settings.run[0] + _below(rng, min(settings.run[1], length) - settings.run[0] + 1)
    offset = _below(rng, len(LETTERS) - length)
    begin = _below(rng, length - run + 1)
    lines = ("".join(_operation(settings, rng) for _ in range(settings.operations)) for _ in range(length))
    program = " ".join(LETTERS[offset + i] + line for i, line in enumerate(lines))
    header = f"{LETTERS[offset + begin + run]}: {program}\n{LETTERS[offset + begin]}="
    while split_of(problem := header + "".join(str(_below(rng, 10)) for _ in range(settings.digits))) != split:
        pass  # another start of the same program
    actions, thoughts = solve(problem)
    return Demonstration(
        problem_id=f"arithmetic/{_digest(problem).hex()}",
        problem=problem,
        actions=actions,
        answer=actions[-1].partition("=")[2],
        thoughts=thoughts if settings.thoughts else None,
        source=f"arithmetic:{settings.seed}/{split}/{index}",
    )


def _operation(settings: Arithmetic, rng: random.Random) -> str:
    share = rng.random()
    if share < settings.multiply:
        return "*" + FACTORS[_below(rng, len(FACTORS))]
    return "<1" if share < settings.multiply + settings.rotate else "+" + ADDENDS[_below(rng, len(ADDENDS))]


def _below(rng: random.Random, bound: int) -> int:
    return int(rng.random() * bound)


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()
