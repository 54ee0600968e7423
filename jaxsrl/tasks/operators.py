"""Sums of known length: T operators in a problem, t of them in an action, so that a chain has ceil(T / t) actions.

    17+25-8+40-3     a problem of T = 4 operators
    17+25-8=34       an action of t = 2: the total so far, the next t terms, and what they come to
    34+40-3=71       the last one; its value is the answer

Numbers are whole ones with carries. A problem may say t before it, `t2:17+25-8+40-3`: then the length of a chain is
told, and a model can be asked for any. Source of the question: arXiv:2502.07266, whose sums these are like.
"""

import re
from dataclasses import dataclass, replace
from types import MappingProxyType

from jaxsrl.tasks.draw import Split, below, lines_of, pick, problem_id, split_of, stream
from jaxsrl.types import Demonstration

TERM = re.compile(r"[+-]?\d+")
CLAIM = re.compile(r"(\d+)((?:[+-]\d+)+)=(-?\d+)")


@dataclass(frozen=True, kw_only=True)
class Operators:
    """How long sums and their chains are.

    Args:
      operators: fewest and most of a problem (T). Inclusive.
      per_action: those that an action does (t); each problem draws one of them.
      tells: whether the problem says t.
      largest: of the terms; totals stay between 0 and 10 times as much.
      seed: of the problems.
    """

    operators: tuple[int, int] = (8, 8)
    per_action: tuple[int, ...] = (1, 2, 4)
    tells: bool = True
    largest: int = 99
    seed: int = 0

    def __post_init__(self):
        low, high = self.operators
        if not 1 <= low <= high:
            raise ValueError(f"operators must be 1 <= fewest <= most, got {self.operators}")
        if not self.per_action or min(self.per_action) < 1:
            raise ValueError(f"per_action must hold numbers >= 1, got {self.per_action}")
        if self.largest < 9 or self.seed < 0:
            raise ValueError(f"largest must be >= 9 and seed >= 0, got largest={self.largest} seed={self.seed}")

    def demonstration(self, split: Split, index: int) -> Demonstration:
        rng = stream("operators", self.seed, split, index)
        low, high = self.operators
        count, step = low + below(rng, high - low + 1), pick(rng, self.per_action)
        while True:
            terms, total = [str(below(rng, self.largest + 1))], 0
            total = int(terms[0])
            for _ in range(count):
                value = below(rng, self.largest + 1)
                plus = value > total or (total + value <= 10 * self.largest and below(rng, 2) == 0)
                total += value if plus else -value
                terms.append(f"{'+' if plus else '-'}{value}")
            problem = (f"t{step}:" if self.tells else "") + "".join(terms)
            actions = chain(problem, step)
            # The last action is known by its terms: no other one may have them.
            ends = [action.partition("=")[0].lstrip("0123456789") for action in actions]
            if split_of(problem) == split and ends.count(ends[-1]) == 1:
                break
        return Demonstration(
            problem_id=problem_id("operators", problem), problem=problem, actions=actions, answer=str(total),
            source=f"operators:{self.seed}/{split}/{index}",
        )  # fmt: skip

    def right(self, text: str, demonstration: Demonstration) -> bool:
        """The value of the last line is the sum's."""
        lines = lines_of(text)
        return bool(lines) and lines[-1].rpartition("=")[2].strip() == demonstration.answer

    def finished(self, action: str, demonstration: Demonstration) -> bool:
        """It adds the problem's last terms, as many as it has."""
        found = CLAIM.fullmatch(action.strip())
        return found is not None and demonstration.problem.endswith(found[2]) and found[2] == _last(demonstration)

    def difficulty(self, demonstration: Demonstration) -> float:
        """T."""
        return float(len(_terms(demonstration.problem)) - 1)


SHORT = Operators(operators=(1, 3), per_action=(1, 2))
LONG = Operators(operators=(12, 12))
PRESETS = MappingProxyType({
    "short": SHORT, "long": LONG, "ood_length": replace(LONG, operators=(20, 20)),
    "ood_step": replace(LONG, per_action=(3,)),
})  # fmt: skip


def chain(problem: str, step: int) -> tuple[str, ...]:
    """The actions that do `step` operators each.

    Raises: ValueError if the text is not a problem of this family.
    """
    first, *terms = _terms(problem)
    total, actions = int(first), []
    for at in range(0, len(terms), step):
        some = terms[at : at + step]
        after = total + sum(map(int, some))
        actions.append(f"{total}{''.join(some)}={after}")
        total = after
    return tuple(actions)


def claim_is_right(action: str) -> bool | None:
    """Whether the sum that an action states is so; None where it states none."""
    found = CLAIM.fullmatch(action.strip())
    return None if found is None else int(found[1]) + sum(map(int, TERM.findall(found[2]))) == int(found[3])


def right_steps(text: str, demonstration: Demonstration) -> tuple[float, ...]:
    """1 for every line that goes on from the value before it with the problem's next terms and sums up rightly.

    A chain may do any number of operators an action.
    """
    first, *terms = _terms(demonstration.problem)
    total, left, out = int(first), "".join(terms), []
    for line in lines_of(text):
        found = CLAIM.fullmatch(line)
        going_on = found is not None and int(found[1]) == total and left.startswith(found[2])
        going_on = going_on and not left[len(found[2]) :][:1].isdigit()
        out.append(float(going_on and bool(claim_is_right(line))))
        if not out[-1]:
            return (*out, *[0.0] * (len(lines_of(text)) - len(out)))
        total, left = int(found[3]), left[len(found[2]) :]
    return tuple(out)


def _terms(problem: str) -> list[str]:
    text = problem.rpartition(":")[2]
    terms = TERM.findall(text)
    if "".join(terms) != text or len(terms) < 2:
        raise ValueError(f"not a sum of this task: {problem!r}")
    return terms


def _last(demonstration: Demonstration) -> str:
    return demonstration.actions[-1].partition("=")[0].lstrip("0123456789")
