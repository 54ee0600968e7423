"""Validity of traces: is what a policy writes before its plan the search that it looks like?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from jaxsrl.evals.probe import Call, DoesNotApply, Measure, ProbedPolicy, measured
from jaxsrl.evals.records import Record
from jaxsrl.evals.resampled import as_metrics, rank_correlation
from jaxsrl.rewards.format import without_thoughts
from jaxsrl.tasks import mazes
from jaxsrl.tasks.draw import generate
from jaxsrl.tasks.grids import FAMILIES
from jaxsrl.tasks.mazes import Mazes
from jaxsrl.types import Demonstration


@dataclass(frozen=True, kw_only=True)
class Traces:
    """Of mazes: plans and traces judged apart, in the task's family of mazes and in others (`away`).

    A trace is valid if a replay of A* accepts each of its lines and the goal is closed last. `spearman` is the rank
    correlation of the trace's lines with the operations of A* on that maze; a trace that was cut counts as far as it
    goes, see `capped`. Mazes of other families are as large and no longer to read than the longest asked.
    Source: checks and conditions are arXiv:2505.13775, the correlation arXiv:2509.07339 (there: tokens); shares among
    right and among wrong plans, and intervals, are our choice.
    """

    name: str = "traces"
    away: tuple[str, ...] = ("kruskal", "depth_first", "free_space")
    problems: int = 25
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = True

    def __post_init__(self):
        if unknown := set(self.away) - set(FAMILIES):
            raise ValueError(f"traces.away: no mazes {sorted(unknown)}; there are {', '.join(FAMILIES)}")

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (*_measures("", "the task's mazes"), *(m for f in self.away for m in _measures(f"{f}_", f"{f} mazes")))

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key):
        if not isinstance(policy.task, Mazes):
            raise DoesNotApply("it needs problems of mazes (tasks/mazes.py)")
        longest = max(len(one.problem) for one in demonstrations)
        asked = {"": list(demonstrations)}
        for family in self.away:
            if family != policy.task.family:
                drawn = generate(replace(policy.task, family=family), self.problems, "test")
                asked[f"{family}_"] = [one for one in drawn if len(one.problem) <= longest]
        records: list[Record] = []
        metrics = {}
        for prefix, some in asked.items():
            own = policy.own(some)
            found = [traced(one, s.text, s.truncated) for one, s in zip(own, policy.solve(own, key), strict=True)]
            pairs = [(values["trace_lines"], values["work"]) for _, values in found]
            every = policy.share.of_all({"pair": np.array(pairs, float).reshape(-1, 2)})["pair"]
            metrics |= as_metrics(f"{prefix}spearman", rank_correlation(*every.T))
            records += [
                {"problem": one.problem_id, **about, "values": {f"{prefix}{n}": v for n, v in values.items()}}
                for one, (about, values) in zip(own, found, strict=True)
            ]
        every = [one for some in asked.values() for one in some]
        found = measured(policy, every, self.measures, records)
        return found | {"problems": len({one.problem_id for one in asked[""]})} | metrics, records


def _measures(prefix: str, of: str) -> tuple[Measure, ...]:
    return (
        Measure(name=f"{prefix}plan", meaning=f"share of legal plans from start to goal; {of}", share=True,
                better="higher"),
        Measure(name=f"{prefix}right", meaning=f"share of plans that are legal and shortest; {of}", share=True,
                better="higher"),
        Measure(name=f"{prefix}trace_valid", meaning=f"share of valid traces; {of}", share=True, better="higher"),
        Measure(name=f"{prefix}trace_valid_right", meaning=f"the same among right plans; {of}", share=True),
        Measure(name=f"{prefix}trace_valid_wrong", meaning=f"the same among wrong plans; {of}", share=True),
        Measure(name=f"{prefix}trace_lines", meaning=f"lines of a trace; {of}"),
        Measure(name=f"{prefix}work", meaning=f"operations of A*; {of}"),
        Measure(name=f"{prefix}spearman", meaning=f"rank correlation of trace_lines and work; {of}"),
        Measure(name=f"{prefix}capped", meaning=f"share of solutions cut at the cap; {of}", share=True),
    )  # fmt: skip


def traced(demonstration: Demonstration, text: str, truncated: bool) -> tuple[Record, dict[str, float | None]]:
    """What is seen of one solution, and its values. No trace at all is no valid one."""
    grid, text = mazes.read(demonstration.problem), without_thoughts(text)
    lines, way = mazes.trace_of(text), mazes.plan_of(text)
    plan_fault, trace_fault = mazes.plan_fault(grid, way), mazes.trace_fault(grid, lines)
    right = not truncated and plan_fault is None and len(way) == len(mazes.shortest(grid))
    valid = float(trace_fault is None)
    return {"text": text, "plan_fault": plan_fault, "trace_fault": trace_fault}, {
        "plan": float(plan_fault is None), "right": float(right), "trace_valid": valid,
        "trace_valid_right": valid if right else None, "trace_valid_wrong": None if right else valid,
        "trace_lines": float(len(lines)), "work": float(len(mazes.search(grid))), "capped": float(truncated),
    }  # fmt: skip


PROBE = Traces()
