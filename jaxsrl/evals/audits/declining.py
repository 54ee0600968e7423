"""Calibration of declining: is a problem without an answer declined, and is one with an answer not?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from jaxsrl.evals.probe import Call, DoesNotApply, Measure, ProbedPolicy, Written, measured
from jaxsrl.evals.records import Record
from jaxsrl.rewards.format import without_thoughts
from jaxsrl.tasks.unanswerable import declines, pair_of
from jaxsrl.types import Demonstration


@dataclass(frozen=True, kw_only=True)
class Declining:
    """Each problem is asked in a variant without an answer, and in a control that looks alike and has one.

    A solution declines if its last line, thoughts and a full stop aside, is `no answer` or another of the forms in
    `tasks/unanswerable.py`. `calibration` is the share declined of those without an answer minus the share declined of
    the controls: 1 is perfect, 0 who always declines and who never does. Before and after training are two policies
    set side by side. `say` is put behind each problem, for a policy that was not trained to decline.
    Source: our choice; a wire cut, and loads above what all units make.
    """

    name: str = "declining"
    say: str = ""
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = True
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(name="declined", meaning="share declined of problems without an answer", share=True, better="higher"),
        Measure(name="declined_control", meaning="share declined of controls, which have one", share=True,
                better="lower"),
        Measure(name="calibration", meaning="declined minus declined_control", better="higher"),
        Measure(name="right_control", meaning="share of controls solved", share=True, better="higher"),
        Measure(name="answered", meaning="of problems without an answer, share with one nevertheless", share=True,
                better="lower"),
        Measure(name="capped", meaning="share of solutions cut at the cap; these decline nothing", share=True),
    )  # fmt: skip

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key):
        pairs = [(one, pair_of(policy.task, one)) for one in policy.own(demonstrations)]
        asked = [(one, pair) for one, pair in pairs if pair is not None]
        if not asked:
            raise DoesNotApply("it needs problems of the wired machine, dispatch or unit commitment")
        without = policy.solve([self._said(pair.unanswerable) for _, pair in asked], key)
        controls = policy.solve([self._said(pair.control) for _, pair in asked], key)
        # The answer of a control is that of the problem as it was.
        right = policy.right([one for one, _ in asked], controls)
        records: list[Record] = []
        for (one, pair), bare, control, ok in zip(asked, without, controls, right, strict=True):
            gave_up, gave_up_control = _declined(bare), _declined(control)
            records.append({
                "problem": one.problem_id, "asked": pair.unanswerable.problem, "text": bare.text,
                "control": pair.control.problem, "control_text": control.text,
                "values": {
                    "declined": float(gave_up), "declined_control": float(gave_up_control),
                    "calibration": float(gave_up) - float(gave_up_control), "right_control": float(ok),
                    "answered": float(not gave_up and not bare.truncated),
                    "capped": float(bare.truncated or control.truncated),
                },
            })  # fmt: skip
        return measured(policy, demonstrations, self.measures, records), records

    def _said(self, demonstration: Demonstration) -> Demonstration:
        return replace(demonstration, problem=demonstration.problem + self.say)


def _declined(solution: Written) -> bool:
    return not solution.truncated and declines(without_thoughts(solution.text))


PROBE = Declining()
