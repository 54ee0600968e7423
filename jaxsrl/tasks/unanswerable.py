"""Problems that have no answer, made from ones that have, and what it is to decline.

    cut e                    the wired machine: the wire of label e is cut
    g:BP
    d=47123                  the way from d to g passes e: there is no answer
    no answer                the one right solution

Beside each stands a control that looks alike and has its old answer: a wire that is not on the way is cut. Dispatch and
unit commitment have an hour whose load is more than all units make; their control is the problem as it was.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxsrl.tasks import commitment, dispatch
from jaxsrl.tasks.arithmetic import LETTERS, Arithmetic
from jaxsrl.tasks.commitment import Commitment
from jaxsrl.tasks.dispatch import Dispatch
from jaxsrl.tasks.draw import below, digest, lines_of, pick, stream
from jaxsrl.types import Demonstration

DECLINE = "no answer"
CUT = re.compile(r"cut [a-z]\n")
# What else a published model may write as its last line, alone or in a box, case and marks around it aside. A form is
# the whole line: one that goes on to an answer declines nothing.
_IT = "(?:it|this|that|there|(?:the|this) (?:problem|question|instance|answer|solution))"
_CANNOT = "(?:cannot|can not|can't)"
SAID = re.compile("|".join((
    rf"(?:{_IT} (?:has|is|are|exists?) )?no (?:valid |feasible )?(?:answer|solution)s?(?: exists?| found| is possible)?"
    rf"(?: (?:to|for) {_IT})?",
    rf"(?:{_IT} is )?(?:infeasible|unsolvable|unanswerable|not solvable|(?:impossible|not possible)"
    rf"(?: to (?:solve|answer|determine)(?: {_IT})?)?)",
    rf"(?:{_IT} )?{_CANNOT} be (?:determined|solved|answered|found)(?: from the (?:given )?information)?",
    rf"{_IT} (?:does not|doesn't) exist",
    rf"i (?:{_CANNOT} (?:solve|answer|determine)(?: {_IT})?|(?:do not|don't) know(?: the answer)?)",
    rf"(?:there is )?(?:not enough|insufficient) (?:information|data)(?: to (?:solve|answer) {_IT})?",
)))  # fmt: skip
OPENING = re.compile(r"(?:(?:so|thus|therefore|hence),? )?(?:(?:final )?answer: |the answer is:? )?")
BOX = re.compile(r".*\\boxed\{(?:\\text\{)?([^{}]*)\}?\}\W*")  # the last one, and no word behind it
MARKUP = re.compile(r"[*`$\"#]|\\text")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A problem without an answer, and its control with one. Both are `Demonstration`s of what to write."""

    unanswerable: Demonstration
    control: Demonstration


def declines(text: str) -> bool:
    """Whether the last line of a solution, thoughts taken out, says that there is no answer, and nothing else."""
    lines = lines_of(text)
    if not lines:
        return False
    boxed = BOX.fullmatch(lines[-1])
    said = MARKUP.sub("", boxed[1] if boxed else lines[-1]).strip(" .!(){}-").casefold().replace("\u2019", "'")
    return SAID.fullmatch(OPENING.sub("", said, count=1)) is not None


def pair_of(task: object, demonstration: Demonstration) -> Pair | None:
    """The two variants of a problem; None where the task has none, or all wires lie on the way."""
    match task:
        case Arithmetic():
            return _cut(demonstration)
        case Dispatch():
            return Pair(unanswerable=_declined(demonstration, _overloaded(dispatch, demonstration)),
                        control=demonstration)  # fmt: skip
        case Commitment():
            return Pair(unanswerable=_declined(demonstration, _overloaded(commitment, demonstration)),
                        control=demonstration)  # fmt: skip
    return None


def without_cut(demonstration: Demonstration) -> Demonstration:
    """The problem as it was before a wire was cut that it does not need."""
    return replace(demonstration, problem=CUT.sub("", demonstration.problem, count=1))


@dataclass(frozen=True, kw_only=True)
class OrDeclines:
    """A verifier for problems of both kinds: where the key is `no answer`, declining is right, and nothing else is."""

    verify: Callable[[str, Demonstration], bool]

    def __call__(self, text: str, demonstration: Demonstration) -> bool:
        if demonstration.answer == DECLINE:
            return declines(text)
        return not declines(text) and bool(self.verify(text, without_cut(demonstration)))


@dataclass(frozen=True, kw_only=True)
class Finishes:
    """When such a solution ends: at the decline, or where the task says."""

    finished: Callable[[str, Demonstration], bool]

    def __call__(self, action: str, demonstration: Demonstration) -> bool:
        return declines(action) or demonstration.answer != DECLINE and self.finished(action, without_cut(demonstration))


def _cut(demonstration: Demonstration) -> Pair | None:
    header, start = demonstration.problem.split("\n")
    on_the_way = LETTERS[LETTERS.index(start[0]) : LETTERS.index(header[0])]
    away = [letter for letter in LETTERS[:-1] if letter not in on_the_way]
    rng = stream("cut", demonstration.problem)
    if not away:
        return None
    needed, spare = (f"cut {pick(rng, some)}\n{demonstration.problem}" for some in (on_the_way, away))
    control = replace(demonstration, problem=spare, problem_id=_named(demonstration, spare))
    return Pair(unanswerable=_declined(demonstration, needed), control=control)


def _overloaded(task, demonstration: Demonstration) -> str:
    """The problem with one hour's load above what all units make."""
    problem = task.read(demonstration.problem)
    rng = stream("overload", demonstration.problem)
    units = problem.units if task is dispatch else [unit for _, unit in problem.units]
    hour, most = below(rng, len(problem.load)), sum(unit.most for unit in units)
    load = (*problem.load[:hour], most + 1 + below(rng, 20), *problem.load[hour + 1 :])
    return task.spell(replace(problem, load=load))


def _declined(demonstration: Demonstration, problem: str) -> Demonstration:
    return replace(
        demonstration, problem=problem, problem_id=_named(demonstration, problem), actions=(DECLINE,), answer=DECLINE,
        thoughts=None, titles=None, observations=None,
    )  # fmt: skip


def _named(demonstration: Demonstration, problem: str) -> str:
    return f"{demonstration.problem_id.partition('/')[0]}/{digest(problem).hex()}"
