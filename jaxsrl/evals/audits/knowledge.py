"""Knowledge index: of the steps that claim something a program can check, the share whose claims all hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxsrl.data.templates import THINK_CLOSE, THINK_OPEN
from jaxsrl.evals.probe import Call, Measure, ProbedPolicy, measured
from jaxsrl.evals.records import Record
from jaxsrl.rewards.claims import arithmetic_claims
from jaxsrl.rewards.format import without_thoughts
from jaxsrl.tasks.checks import Check, check_of
from jaxsrl.tasks.draw import lines_of
from jaxsrl.types import Demonstration

Said = tuple[str, str, bool]  # kind of a claim, what it says, whether it holds


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """KI = (1/t) sum over steps of 1[what the step claims holds], over the t steps with a checkable claim.

    A step is a line. Claims are arithmetic (`rewards/claims.py`) or, where the problems' task has checks, its facts and
    rules (`tasks/checks.py`); thoughts are then no steps.
    Source: arXiv:2506.02126 defines the index over all steps, with a language model as judge of retrieved texts; claims
    that a program checks, and steps without a claim left out, are our choice. Its code counts a step without a query
    as true: `index_all_steps`.
    """

    name: str = "knowledge"
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = True
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(name="index", meaning="share of the steps with a claim whose claims all hold", bounded=True,
                better="higher"),
        Measure(name="coverage", meaning="share of steps with a checkable claim", bounded=True),
        Measure(name="index_all_steps", meaning="the same over all steps, those without a claim as true, as the "
                "paper's code does", bounded=True, better="higher"),
        Measure(name="arithmetic", meaning="share of arithmetic claims that hold", bounded=True, better="higher"),
        Measure(name="rules", meaning="share of the task's facts and rules that hold", bounded=True, better="higher"),
        Measure(name="steps", meaning="t, steps of a solution"),
        Measure(name="right", meaning="share of right solutions", share=True, better="higher"),
        Measure(name="right_without", meaning="right, and yet a claim is false", share=True),
    )  # fmt: skip

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key):
        own = policy.own(demonstrations)
        solutions = policy.solve(own, key)
        check = check_of(policy.task)
        records: list[Record] = []
        for one, solution, right in zip(own, solutions, policy.right(own, solutions), strict=True):
            steps = said_in_steps(solution.text, one, check)
            values = index(steps)
            false = values["index"] is not None and values["index"] < 1
            wrong = [[kind, claim] for step in steps for kind, claim, holds in step if not holds]
            values |= {"right": float(right), "right_without": float(right and false)}
            records.append({
                "problem": one.problem_id, "text": solution.text, "claims": sum(map(len, steps)), "false": wrong,
                "values": values,
            })  # fmt: skip
        return measured(policy, demonstrations, self.measures, records), records


def said_in_steps(text: str, demonstration: Demonstration, check: Check | None = None) -> list[list[Said]]:
    """What each step of a solution claims."""
    if check is None:
        lines = lines_of(text.replace(THINK_OPEN, "\n").replace(THINK_CLOSE, "\n"))
        return [[("arithmetic", *claim) for claim in arithmetic_claims(line)] for line in lines]
    lines = lines_of(without_thoughts(text))
    found = check(lines, demonstration)
    return [[(one.kind, line, one.holds) for one in some] for line, some in zip(lines, found, strict=True)]


def index(steps: Sequence[Sequence[Said]]) -> dict[str, float | None]:
    """The values of one solution: of 4 steps, two true, one false and one without a claim, 2/3; of all steps 3/4."""
    checked = [all(holds for *_, holds in step) for step in steps if step]
    share = lambda some: sum(some) / len(some) if some else None
    of_kind = lambda arithmetic: [h for step in steps for k, _, h in step if (k in ("arithmetic", "sum")) == arithmetic]
    return {
        "index": share(checked), "coverage": len(checked) / len(steps) if steps else None,
        "index_all_steps": (sum(checked) + len(steps) - len(checked)) / len(steps) if steps else None,
        "arithmetic": share(of_kind(True)), "rules": share(of_kind(False)), "steps": float(len(steps)),
    }  # fmt: skip


PROBE = Knowledge()
