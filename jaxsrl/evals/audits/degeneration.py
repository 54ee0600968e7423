"""Signs of learning from problems that are too hard: repetition, skipped computation, lost problems, odd successes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from jaxsrl.evals.probe import Call, Measure, ProbedPolicy, Written, measured
from jaxsrl.evals.records import Record
from jaxsrl.rewards.claims import arithmetic_claims
from jaxsrl.rewards.detectors import MASTERED, repeated_ngram_share, repeats_answer, stated_answers
from jaxsrl.rewards.format import without_thoughts
from jaxsrl.tasks.checks import Check, check_of
from jaxsrl.tasks.draw import lines_of
from jaxsrl.types import Demonstration


@dataclass(frozen=True, kw_only=True)
class Degeneration:
    """What each solution looks like, and what became of what the start policy could and could not do.

    Greedy solutions: one answer stated three times or more; the most frequent n-gram's share of all; computations
    (claims that a program can check) over the expert's; short solutions that state an answer all the same.
    Sampled ones, on the first `problems`: the start policy is the one that all are compared with, the frozen scorer.
    What it has right in 7/8 of `samples` is mastered; accuracy there is taken from new samples of both, or luck in
    choosing would look like loss. What it never has right is hard. A first success there is `supported` if the claims
    of its chain hold, it computes at least half of what the expert does, and it says its answer less than three times.
    The others are in the records, to be read: a reward that pays for them is broken, or the problem is.
    Source: detectors after arXiv:2605.28388 as retold; cut-offs and the check of first successes are our choice.
    """

    name: str = "degeneration"
    samples: int = 8
    temperature: float = 1.0
    problems: int = 25
    short_tokens: int = 32
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = True
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(name="right", meaning="share of right solutions", share=True, better="higher"),
        Measure(name="answer_repetition", meaning="share that state one answer three times or more", share=True,
                better="lower"),
        Measure(name="ngram", meaning="share of the most frequent 4-gram of words among all, if it repeats",
                bounded=True, better="lower"),
        Measure(name="computation", meaning="checkable claims over those of the expert's solution"),
        Measure(name="short_answer", meaning="share of solutions under the length floor that state an answer",
                share=True),
        Measure(name="mastered", meaning="share of problems that the start policy has right in 7/8 of its samples",
                share=True),
        Measure(name="kept_start", meaning="of mastered problems, the start policy's accuracy in new samples",
                bounded=True),
        Measure(name="kept", meaning="of mastered problems, this policy's accuracy", bounded=True, better="higher"),
        Measure(name="lost", meaning="kept_start minus kept: contamination of what was mastered", better="lower"),
        Measure(name="hard", meaning="share of problems that no sample of the start policy has right", share=True),
        Measure(name="hard_solved", meaning="of hard problems, the share with a right sample", share=True,
                better="higher"),
        Measure(name="supported", meaning="of first successes on hard problems, share whose chain supports them",
                share=True, better="higher"),
    )  # fmt: skip

    def __post_init__(self):
        if self.samples < 2 or not 0 < self.temperature < float("inf") or self.problems < 1:
            raise ValueError(
                "degeneration: samples must be >= 2, temperature > 0 and problems >= 1, got "
                f"{self.samples}, {self.temperature} and {self.problems}"
            )

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key):
        own = policy.own(demonstrations)
        check = check_of(policy.task)
        solutions = policy.solve(own, key)
        records: list[Record] = []
        for one, solution, right in zip(own, solutions, policy.right(own, solutions), strict=True):
            values = {"right": float(right)} | self.look(solution, one, check)
            records.append({"problem": one.problem_id, "text": solution.text, "values": values})
        first = list(dict.fromkeys(one.problem_id for one in demonstrations))[: self.problems]
        records += self._sampled(policy, [one for one in own if one.problem_id in first], key)
        return measured(policy, demonstrations, self.measures, records), records

    def look(self, solution: Written, demonstration: Demonstration, check: Check | None) -> dict[str, float | None]:
        """The signs that one solution shows."""
        wanted = computations("\n".join(demonstration.actions), demonstration, check)
        short = solution.tokens < self.short_tokens and not solution.truncated
        return {
            "answer_repetition": float(repeats_answer(solution.text)), "ngram": repeated_ngram_share(solution.text),
            "computation": computations(solution.text, demonstration, check) / wanted if wanted else None,
            "short_answer": float(short and states_answer(solution.text)),
        }  # fmt: skip

    def _sampled(self, policy: ProbedPolicy, own: Sequence[Demonstration], key) -> list[Record]:
        start = policy.judge or policy
        chosen_by = self._samples(start, policy, own, jax.random.fold_in(key, 0))
        anew = self._samples(start, policy, own, jax.random.fold_in(key, 1))
        mine = anew if start is policy else self._samples(policy, policy, own, jax.random.fold_in(key, 2))
        check = check_of(policy.task)
        records = []
        rows = zip(own, chosen_by, anew, mine, strict=True)
        for one, (_, first), (_, again), (texts, right) in rows:
            values = {"mastered": float(first.mean() >= MASTERED), "hard": float(not first.any())}
            shown = {}
            if values["mastered"]:
                values |= {"kept_start": again.mean(), "kept": right.mean(), "lost": again.mean() - right.mean()}
            if values["hard"]:
                values["hard_solved"] = float(right.any())
                if right.any():
                    success = texts[int(right.argmax())]
                    faults = unsupported(success, one, check)
                    values["supported"] = float(not faults)
                    shown = {"first_success": success.text, "faults": faults}
            values = {name: float(value) for name, value in values.items()}
            records.append({"problem": one.problem_id, "start": start.name, **shown, "values": values})
        return records

    def _samples(
        self, writer: ProbedPolicy, judge: ProbedPolicy, own: Sequence[Demonstration], key
    ) -> list[tuple[tuple[Written, ...], np.ndarray]]:
        """Of each problem, samples and which are right."""
        written = writer.write(self.calls[0], own, [[()]] * len(own), key, self.temperature, self.samples)
        out = []
        for one, (texts,) in zip(own, written, strict=True):
            out.append((texts, np.asarray(judge.right([one] * len(texts), texts), float)))
        return out


def computations(text: str, demonstration: Demonstration, check: Check | None) -> int:
    """Claims that a program can check: lines with findings of the task, or equations of numbers."""
    if check is None:
        return len(arithmetic_claims(text))
    return sum(bool(found) for found in check(lines_of(without_thoughts(text)), demonstration))


def states_answer(text: str) -> bool:
    """Whether anything is said outside of thoughts that could be an answer: a stated one, or a last line."""
    return bool(stated_answers(text) or lines_of(without_thoughts(text)))


def unsupported(solution: Written, demonstration: Demonstration, check: Check | None) -> list[str]:
    """Why a right answer may not come from its chain; empty where nothing speaks against it."""
    faults = []
    if check is None:
        faults += [f"false: {claim.text}" for claim in arithmetic_claims(solution.text) if not claim.holds]
    else:
        lines = lines_of(without_thoughts(solution.text))
        for line, found in zip(lines, check(lines, demonstration), strict=True):
            faults += [f"false: {line}" for one in found if not one.holds][:1]
    wanted = computations("\n".join(demonstration.actions), demonstration, check)
    if 2 * computations(solution.text, demonstration, check) < wanted:
        faults.append("computes less than half of what the expert does")
    if repeats_answer(solution.text):
        faults.append("states its answer three times or more")
    return faults


PROBE = Degeneration()
