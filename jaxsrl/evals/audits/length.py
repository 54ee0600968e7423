"""Accuracy over the number of steps: bins, the number at which it is highest, and the same with the number given."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from jaxsrl.evals.paths import cut_text
from jaxsrl.evals.probe import Call, Measure, ProbedPolicy, Written, measured
from jaxsrl.evals.records import Record
from jaxsrl.evals.resampled import as_metrics, peak
from jaxsrl.rewards.format import without_thoughts
from jaxsrl.tasks.arithmetic import Arithmetic
from jaxsrl.tasks.draw import lines_of
from jaxsrl.tasks.operators import Operators, chain
from jaxsrl.types import Demonstration

LEVELS = ("easy", "medium", "hard")


@dataclass(frozen=True, kw_only=True)
class Length:
    """Accuracy by the number of steps N of a solution, and N*, where a fitted curve is highest.

    N counts actions as the data cut them, or lines. Bins hold as many solutions each; ties go to the lower one.
    logit P(right) = a + b / N + c log N is fitted over problems, for all and for each third of difficulty (the task's,
    else the expert's number of actions). `optimum_inside`: share of draws whose peak is not at an end; near 0 there is
    no inverted U. Policies, say of several sizes, stand side by side.

    Where the problem tells the length (sums, `t2:`), each is asked again with every t of `per_action`: then accuracy
    over t is not a matter of which problems get long chains.
    Source: the question and the inverted U are arXiv:2502.07266; bins, curve and intervals are our choice.
    """

    name: str = "length"
    bins: int = 5
    per_action: tuple[int, ...] = (1, 2, 3, 4)
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = True

    def __post_init__(self):
        if self.bins < 2 or not self.per_action or min(self.per_action) < 1:
            raise ValueError(f"length: bins must be >= 2 and per_action >= 1, got {self.bins} and {self.per_action}")

    @property
    def measures(self) -> tuple[Measure, ...]:
        asked = "share of right solutions when told to do"
        return (
            Measure(name="right", meaning="share of right solutions", share=True, better="higher"),
            Measure(name="steps", meaning="N, steps of a solution"),
            Measure(name="capped", meaning="share of solutions cut at the cap", share=True),
            *(Measure(name=f"right_bin_{i + 1}", meaning=f"share of right solutions in bin {i + 1} of N", share=True)
              for i in range(self.bins)),
            *(Measure(name=f"steps_bin_{i + 1}", meaning=f"mean N in bin {i + 1}") for i in range(self.bins)),
            Measure(name="optimum", meaning="N*: steps at which the fitted accuracy is highest"),
            Measure(name="optimum_inside", meaning="share of draws in which N* is not the least or the most N"),
            *(Measure(name=f"optimum_{level}", meaning=f"N* of the {level} third of problems") for level in LEVELS),
            *(Measure(name=f"right_{level}", meaning=f"share of right solutions of {level} problems", share=True)
              for level in LEVELS),
            *(Measure(name=f"right_told_{t}", meaning=f"{asked} {t} operators a step", share=True)
              for t in self.per_action),
            *(Measure(name=f"steps_told_{t}", meaning=f"N when told to do {t} operators a step")
              for t in self.per_action),
        )  # fmt: skip

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key):
        own = policy.own(demonstrations)
        solutions = policy.solve(own, key)
        right = policy.right(own, solutions).astype(float)
        steps = [float(count_steps(policy, solution)) for solution in solutions]
        hard = [difficulty(policy, one) for one in own]
        every = policy.share.of_all({"steps": np.array(steps), "right": right, "hard": np.array(hard)})
        edges, thirds = quantiles(every["steps"], self.bins), quantiles(every["hard"], len(LEVELS))
        records: list[Record] = []
        for one, solution, n, ok, level in zip(own, solutions, steps, right, hard, strict=True):
            b, third = within(n, edges), LEVELS[within(level, thirds)]
            values = {
                "right": ok, "steps": n, "capped": float(solution.truncated), f"right_bin_{b + 1}": ok,
                f"steps_bin_{b + 1}": n, f"right_{third}": ok,
            }  # fmt: skip
            records.append({
                "problem": one.problem_id, "text": solution.text, "difficulty": level, "values": values
            })  # fmt: skip
        if isinstance(policy.task, Operators) and policy.task.tells:
            records += self._told(policy, own, key)
        return measured(policy, demonstrations, self.measures, records) | peaks(every, thirds), records

    def _told(self, policy: ProbedPolicy, own: Sequence[Demonstration], key) -> list[Record]:
        records: list[Record] = []
        for t in self.per_action:
            asked = [told(one, t) for one in own]
            solutions = policy.solve(asked, key)
            for one, solution, ok in zip(own, solutions, policy.right(asked, solutions), strict=True):
                values = {f"right_told_{t}": float(ok), f"steps_told_{t}": float(count_steps(policy, solution))}
                records.append({"problem": one.problem_id, "told": t, "text": solution.text, "values": values})
        return records


def told(demonstration: Demonstration, t: int) -> Demonstration:
    """The same sum, which says that t operators are done a step."""
    problem = f"t{t}:{demonstration.problem.rpartition(':')[2]}"
    return replace(
        demonstration, problem_id=f"{demonstration.problem_id}/t{t}", problem=problem, actions=chain(problem, t)
    )


def count_steps(policy: ProbedPolicy, solution: Written) -> int:
    """Actions of a solution as its data cut them; lines outside of thoughts where the data do not say."""
    if policy.splitter is not None:
        return len(cut_text(solution.text, policy.splitter))
    return len(lines_of(without_thoughts(solution.text)))


def difficulty(policy: ProbedPolicy, demonstration: Demonstration) -> float:
    """The task's own, else how many actions the expert took."""
    if policy.task is None or isinstance(policy.task, Arithmetic):
        return float(len(demonstration.actions))
    return policy.task.difficulty(demonstration)


def quantiles(values: np.ndarray, parts: int) -> np.ndarray:
    """The upper ends of all parts but the last; each part holds about as many values."""
    return np.quantile(values, np.arange(1, parts) / parts, method="lower")


def within(value: float, edges: np.ndarray) -> int:
    """The part that a value is in; one on an edge is in the lower."""
    return int(np.searchsorted(edges, value, side="left"))


def peaks(every: dict[str, np.ndarray], thirds: np.ndarray) -> dict[str, float | None]:
    """N* of all problems and of each third of difficulty."""
    found = peak(every["steps"], every["right"])
    metrics = as_metrics("optimum", found.at) | {"optimum_inside": found.inside}
    parts = np.array([within(level, thirds) for level in every["hard"]])
    for number, level in enumerate(LEVELS):
        some = parts == number
        metrics |= as_metrics(f"optimum_{level}", peak(every["steps"][some], every["right"][some]).at)
    return metrics


PROBE = Length()
