"""Intermediate verification: a solution is checked line by line while it is written, and told what is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

import jax

from jaxsrl.data.templates import THINK_CLOSE, THINK_OPEN
from jaxsrl.data.tree import path_tokens
from jaxsrl.evals.paths import completion_tree
from jaxsrl.evals.probe import Call, DoesNotApply, Measure, ProbedPolicy, Written, measured
from jaxsrl.evals.records import Record
from jaxsrl.rewards.claims import arithmetic_claims
from jaxsrl.rewards.format import without_thoughts
from jaxsrl.tasks.checks import Check, check_of
from jaxsrl.tasks.draw import lines_of
from jaxsrl.types import Demonstration

Arm = Literal["none", "final", "intermediate"]
ARMS: tuple[Arm, ...] = get_args(Arm)


@dataclass(frozen=True, kw_only=True)
class Verified:
    """Accuracy without checks, with a check of finished solutions, and with checks of each line, in the same tokens.

    Each problem has one attempt of each kind, of at most `budget` sampled tokens (0: twice the cap of a solution).
    `none` writes once. `final` starts anew at `temperature` where a check fails in a finished solution, and says
    nothing. `intermediate` keeps it up to and with the first line that fails, puts `feedback` behind that, and lets the
    policy go on greedily, at most `corrections` times. With feedback="" the line is taken back instead and written
    again at `temperature`, for a policy that never saw feedback. Tokens behind a fault count as well. What is judged is
    without feedback and refused lines. Checks are those of the problems' task (`tasks/checks.py`), else arithmetic;
    none compares with the expert. `StepsHold` is the same checks as a reward.
    Source: arXiv:2602.11202, its 5 corrections and its marked block; arms, budget and false alarms are our choice.
    """

    name: str = "verified"
    corrections: int = 5
    budget: int = 0
    temperature: float = 1.0
    feedback: str = "wrong: {}\n"
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve", behind="solution"),)
    needs_answer: ClassVar[bool] = True
    measures: ClassVar[tuple[Measure, ...]] = (
        *(Measure(name=f"right_{arm}", meaning=f"share of right solutions, checks: {arm}", share=True, better="higher")
          for arm in ARMS),
        *(Measure(name=f"tokens_{arm}", meaning=f"sampled tokens of an attempt, checks: {arm}") for arm in ARMS),
        *(Measure(name=f"clean_{arm}", meaning=f"share of solutions in which no check fails, checks: {arm}", share=True)
          for arm in ARMS),
        Measure(name="gained", meaning="right_intermediate minus right_final: what is due to when it is told",
                better="higher"),
        Measure(name="interventions", meaning="corrections of a solution that is checked line by line"),
        Measure(name="false_alarm", meaning="of solutions that are right without checks, share with an intervention",
                share=True, better="lower"),
        Measure(name="broken", meaning="of solutions that are right without checks, share that is wrong with them",
                share=True, better="lower"),
        Measure(name="leak", meaning="of interventions, share whose feedback holds the answer and the line does not",
                bounded=True, better="lower"),
    )  # fmt: skip

    def __post_init__(self):
        if self.corrections < 1 or self.budget < 0 or not self.temperature > 0:
            raise ValueError(
                "verified: corrections must be >= 1, budget >= 0 and temperature > 0, got "
                f"{self.corrections}, {self.budget} and {self.temperature}"
            )
        if self.feedback and self.feedback.count("{}") != 1:
            raise ValueError(f"verified.feedback must hold one {{}} or be empty, got {self.feedback!r}")

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key):
        own = policy.own(demonstrations)
        budget = self.budget or 2 * policy.sampler(self.calls[0]).max_new_tokens
        attempts = {arm: self.attempts(arm, policy, own, budget, key) for arm in ARMS}
        if not any(one.checked for some in attempts.values() for one in some) and policy.share.count == 1:
            raise DoesNotApply("no line of any solution could be checked; it needs a task with checks, or arithmetic")
        rights = {arm: policy.right(own, [one.solution for one in some]) for arm, some in attempts.items()}
        records: list[Record] = []
        for m, one in enumerate(own):
            some = {arm: attempts[arm][m] for arm in ARMS}
            right = {arm: bool(rights[arm][m]) for arm in ARMS}
            values = {f"right_{arm}": float(right[arm]) for arm in ARMS}
            values |= {f"tokens_{arm}": float(some[arm].spent) for arm in ARMS}
            values |= {f"clean_{arm}": float(some[arm].fault is None) for arm in ARMS}
            told = some["intermediate"].told
            values |= {
                "gained": values["right_intermediate"] - values["right_final"], "interventions": float(len(told)),
                "false_alarm": float(bool(told)) if right["none"] else None,
                "broken": float(not right["intermediate"]) if right["none"] else None,
                "leak": sum(leaks(*pair, one.answer) for pair in told) / len(told) if told else None,
            }  # fmt: skip
            texts = {arm: some[arm].solution.text for arm in ARMS}
            records.append({"problem": one.problem_id, "texts": texts, "told": [*map(list, told)], "values": values})
        return measured(policy, demonstrations, self.measures, records), records

    def attempts(
        self, arm: Arm, policy: ProbedPolicy, own: Sequence[Demonstration], budget: int, key
    ) -> "list[Attempt]":
        """One attempt at each problem, all that go on in one call a round. All processes make as many calls."""
        done = [Attempt() for _ in own]
        for number in range(1 if arm == "none" else self.corrections + 1):
            going = [
                m for m, one in enumerate(done)
                if number == 0 or one.fault is not None and one.spent < budget and _fits(policy, own[m], one.path)
            ]  # fmt: skip
            for m in going if number and arm == "intermediate" else ():
                done[m] = replace(done[m], told=(*done[m].told, done[m].fault))
            hot = number > 0 and (arm == "final" or not self.feedback)
            written = policy.write(
                self.calls[0], [own[m] for m in going], [[done[m].path] for m in going],
                jax.random.fold_in(key, number), self.temperature if hot else 0.0,
            )  # fmt: skip
            for m, ((new,),) in zip(going, written, strict=True):
                done[m] = self._after(arm, done[m], new, own[m], policy, budget)
        return done

    def _after(
        self, arm: Arm, before: "Attempt", new: Written, demonstration: Demonstration, policy: ProbedPolicy, budget: int
    ) -> "Attempt":
        """The attempt with what was written on from its path."""
        pieces = pieces_of(new.text)
        held = before.held if arm == "intermediate" else ()
        # a line that was cut off says nothing yet
        claims, fault = first_fault(
            check_of(policy.task), demonstration, held, pieces[:-1] if new.truncated else pieces
        )
        spent = before.spent + new.tokens
        solution = Written(
            text="".join((*held, *pieces)), tokens=spent, truncated=new.truncated or spent > budget
        )  # fmt: skip
        after = replace(before, solution=solution, spent=spent, checked=before.checked or claims, fault=None)
        if fault is None:
            return after
        at, line, said = fault
        note = self.feedback.format(said) if self.feedback else ""
        if arm == "intermediate":
            good = tuple(pieces[:at])
            shown = (pieces[at].rstrip("\n") + "\n", note) if note else ()
            after = replace(after, held=(*held, *good), path=(*before.path, *good, *shown))
        return replace(after, fault=(line, note))


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What was written of one problem so far.

    Args:
      solution: as it is judged: without feedback and without the lines that it refused.
      spent: sampled tokens, also those behind a fault.
      checked: whether any line had a claim.
      fault: the first line that fails and what is said of it; None where none does.
      held: pieces that were accepted. path: these with refused lines and feedback, which the policy goes on behind.
      told: the faults that the policy went on from.
    """

    solution: Written = field(default_factory=lambda: Written(text="", tokens=0, truncated=False))
    spent: int = 0
    checked: bool = False
    fault: tuple[str, str] | None = None
    held: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    told: tuple[tuple[str, str], ...] = ()


def pieces_of(text: str) -> list[str]:
    """Lines with their ends, a thought of several lines with the line that it comes to; joined they are the text."""
    pieces: list[str] = []
    for line in text.splitlines(keepends=True):
        if pieces and pieces[-1].count(THINK_OPEN) > pieces[-1].count(THINK_CLOSE):
            pieces[-1] += line
        else:
            pieces.append(line)
    return pieces


def first_fault(
    check: Check | None, demonstration: Demonstration, held: Sequence[str], pieces: Sequence[str]
) -> tuple[bool, tuple[int, str, str] | None]:
    """Whether any piece claims something, and of the first that fails its index, its line and what is wrong.

    Args:
      held: the pieces before these, all accepted.
    """
    if check is None:
        claims = [[(c.holds, f"{c.text} does not hold") for c in arithmetic_claims(piece)] for piece in pieces]
        lines = [piece.strip() for piece in pieces]
    else:
        visible = [lines_of(without_thoughts(piece)) for piece in pieces]
        before = [line for piece in held for line in lines_of(without_thoughts(piece))]
        found = check([*before, *(line for some in visible for line in some)], demonstration)[len(before) :]
        rows = iter(found)
        claims = [[(c.holds, c.feedback) for _ in some for c in next(rows)] for some in visible]
        lines = [" ".join(some) for some in visible]
    for at, some in enumerate(claims):
        for holds, said in some:
            if not holds:
                return True, (at, lines[at], said)
    return any(claims), None


def leaks(line: str, note: str, answer: str | None) -> bool:
    """Whether feedback says the answer and the line that it is about does not."""
    return bool(answer) and answer in note and answer not in line


def _fits(policy: ProbedPolicy, demonstration: Demonstration, path: Sequence[str]) -> bool:
    """Whether a prompt row holds what the policy would go on behind."""
    tree = completion_tree(policy.template, policy.tokenizer, demonstration.problem, [tuple(path)])
    return len(path_tokens(tree, tree.branch["solve", 0])) <= policy.sampler(Verified.calls[0]).row_tokens


PROBE = Verified()
