"""What a program can check in each line of a solution: a fact, a rule, a sum, each by itself and as it is reached.

    ally of Tiro is Kela       one finding: whether the fact holds
    1: a=60 b=30               several: bounds, the balance of the hour, ramps from the hour before

A line is judged by what it claims and by the lines before it that were right to go on from, not by the expert's. So one
mistake is one mistake. Feedback says which claim fails and never what would hold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxsrl.tasks import arithmetic, commitment, dispatch, knapsack, mazes, operators
from jaxsrl.tasks.arithmetic import Arithmetic
from jaxsrl.tasks.commitment import Commitment
from jaxsrl.tasks.dispatch import Dispatch
from jaxsrl.tasks.draw import lines_of
from jaxsrl.tasks.facts import Facts
from jaxsrl.tasks.knapsack import Knapsack
from jaxsrl.tasks.mazes import Mazes
from jaxsrl.tasks.operators import Operators
from jaxsrl.tasks.optimum import Judgement
from jaxsrl.types import Demonstration


class Finding(NamedTuple):
    """Something that a line claims: of which kind, whether it holds, and what to tell who wrote it."""

    kind: str
    holds: bool
    feedback: str


Findings = tuple[Finding, ...]
Check = Callable[[Sequence[str], Demonstration], list[Findings]]  # lines of a solution -> findings of each


def check_of(task: object) -> Check | None:
    """The check of a task's solutions, thoughts taken out; None for a task that has none."""
    match task:
        case Operators():
            return _sums
        case Facts():
            return lambda lines, demonstration: _facts(task, lines)
        case Mazes():
            return _mazes
        case Dispatch():
            return lambda lines, demonstration: _dispatch(task, lines, demonstration)
        case Commitment():
            return _commitment
        case Knapsack():
            return lambda lines, demonstration: _knapsack(task, lines, demonstration)
        case Arithmetic():
            return _machine
    return None


@dataclass(frozen=True, kw_only=True)
class StepsHold:
    """1 for every line of a solution with a claim whose claims all hold, else 0: a process of `OutcomeAndProcess`."""

    task: object

    def __post_init__(self):
        if check_of(self.task) is None:
            name = type(self.task).__name__
            raise ValueError(f"no line of {name} can be checked; tasks/checks.py has the tasks whose lines can")

    def __call__(self, text: str, demonstration: Demonstration) -> tuple[float, ...]:
        found = check_of(self.task)(lines_of(text), demonstration)
        return tuple(float(all(one.holds for one in some)) for some in found if some)


def _told(kind: str, holds: bool, feedback: str) -> Finding:
    return Finding(kind, bool(holds), "" if holds else feedback)


def _sums(lines: Sequence[str], demonstration: Demonstration) -> list[Findings]:
    first, *terms = operators.TERM.findall(demonstration.problem.rpartition(":")[2])
    total, left, out = first, "".join(terms), []
    for line in lines:
        found = operators.CLAIM.fullmatch(line)
        if found is None:
            out.append(())
            continue
        goes_on = found[1] == total and left.startswith(found[2]) and not left[len(found[2]) :][:1].isdigit()
        out.append((
            _told("sum", operators.claim_is_right(line), f"{found[1]}{found[2]} does not come to that"),
            _told("next", goes_on, "it does not go on from the value before with the next terms"),
        ))  # fmt: skip
        if goes_on:
            total, left = found[3], left[len(found[2]) :]
    return out


def _facts(task: Facts, lines: Sequence[str]) -> list[Findings]:
    out: list[Findings] = []
    for line in lines:
        held = next(iter(task.true_steps(line)), None)
        out.append(() if held is None else (_told("fact", held, "this fact does not hold"),))
    return out


def _machine(lines: Sequence[str], demonstration: Demonstration) -> list[Findings]:
    """Each label and its digits follow from those of the line before, whatever these are."""
    header, before = demonstration.problem.split("\n")[-2:]
    out: list[Findings] = []
    for line in lines:
        label, equal, digits = line.partition("=")
        if not equal or len(label) != 1 or not digits.isdecimal():
            out.append(())
            continue
        try:
            holds = arithmetic.solve(f"{header}\n{before}")[0][:1] == (line,)
        except ValueError:
            holds = False
        out.append((_told("state", holds, "these are not the next label and its digits"),))
        before = line
    return out


def _mazes(lines: Sequence[str], demonstration: Demonstration) -> list[Findings]:
    """Replays the trace without its faulty lines; a step of the plan follows from the cell before it."""
    grid = mazes.read(demonstration.problem)
    trace: list[str] = []
    way: list[mazes.Cell] = []
    out: list[Findings] = []
    for line in lines:
        if found := mazes.PLAN.fullmatch(line):
            cell = (int(found[1]), int(found[2]))
            fault = mazes.plan_fault(grid, [*way, cell])
            legal = fault in (None, "does not end at the goal")
            out.append((_told("plan", legal, "no step of the plan leads there"),))
            way += [cell] if legal else []
            continue
        if line.split(" ")[0] not in ("create", "close"):
            out.append(())
            continue
        fault = mazes.trace_fault(grid, [*trace, line])
        legal = fault in (None, "the goal is not closed last")
        out.append((_told("search", legal, "" if legal else str(fault).rpartition(": ")[2]),))
        trace += [line] if legal else []
    return out


def _dispatch(task: Dispatch, lines: Sequence[str], demonstration: Demonstration) -> list[Findings]:
    problem = dispatch.read(demonstration.problem)
    names = [unit.name for unit in problem.units]
    before: list[int] | None = None
    out: list[Findings] = []
    for line in lines:
        if line.startswith("{"):
            out.append(_families(task.judge(line, demonstration)))
            continue
        hour, made = _hour(line, names, len(problem.load))
        if made is None:
            out.append(())
            continue
        fits = all(u.least <= x <= u.most for u, x in zip(problem.units, made, strict=True))
        found = [
            _told("bounds", fits, "an output is out of its unit's bounds"),
            _told("balance", sum(made) == problem.load[hour], "the outputs do not sum up to the load"),
        ]
        if before is not None:
            slow = all(abs(x - y) <= u.ramp for u, x, y in zip(problem.units, made, before, strict=True))
            found.append(_told("ramps", slow, "a unit changes by more than its ramp"))
        before = made
        out.append(tuple(found))
    return out


def _commitment(lines: Sequence[str], demonstration: Demonstration) -> list[Findings]:
    problem = commitment.read(demonstration.problem)
    names = [name for name, _ in problem.units]
    out: list[Findings] = []
    for line in lines:
        if line.startswith("{"):
            out.append(_families(commitment.judge_text(line, demonstration)))
            continue
        hour, made = _hour(line, names, len(problem.load))
        if made is None:
            out.append(())
            continue
        fits = all(x == 0 or u.least <= x <= u.most for (_, u), x in zip(problem.units, made, strict=True))
        out.append((
            _told("bounds", fits, "an output is neither 0 nor within its unit's bounds"),
            _told("balance", sum(made) == problem.load[hour], "the outputs do not sum up to the load"),
        ))  # fmt: skip
    return out


def _hour(line: str, names: Sequence[str], hours: int) -> tuple[int, list[int] | None]:
    """`2: a=60 b=30` as the hour's index and the outputs; None where it is no such line."""
    number, _, rest = line.partition(": ")
    parts = [word.partition("=") for word in rest.split(" ")]
    numbers = [number, *(x for _, _, x in parts)]
    told = [name for name, _, _ in parts] == list(names) and all(n.isdecimal() and len(n) < 10 for n in numbers)
    if not told or not 1 <= int(number) <= hours:
        return 0, None
    return int(number) - 1, [int(x) for _, _, x in parts]


def _knapsack(task: Knapsack, lines: Sequence[str], demonstration: Demonstration) -> list[Findings]:
    problem = knapsack.read(demonstration.problem)
    weights = {name: weight for name, weight, _ in problem.items}
    taken: list[str] = []
    out: list[Findings] = []
    for line in lines:
        if line.startswith("{"):
            out.append(_families(task.judge(line, demonstration)))
            continue
        name, mark, left = line.partition(", left ")
        if not mark or name not in weights or name in taken or not left.isdecimal() or len(left) > 9:
            out.append(())
            continue
        apart = any({name, other} == {*pair} for other in taken for pair in problem.conflicts)
        taken.append(name)
        room = problem.room - sum(weights[one] for one in taken)
        out.append((
            _told("room", int(left) == room, "so much room is not left"),
            _told("conflicts", not apart, "it excludes an item that was taken"),
        ))  # fmt: skip
    return out


def _families(found: Judgement) -> Findings:
    """Of an answer's constraints, family by family."""
    told = (_told(name, share == 1, f"not all {name} hold") for name, share in found.families.items())
    form = (_told(f"form: {name}", ok, f"the answer's {name} are wrong") for name, ok in found.form.items() if not ok)
    return (*told, *form)
