"""Form against substance of constrained optimisation: does an answer look right, is it allowed, is it best?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxsrl.evals.probe import Call, DoesNotApply, Measure, ProbedPolicy, measured
from jaxsrl.evals.records import Record
from jaxsrl.rewards.format import without_thoughts
from jaxsrl.tasks.commitment import Commitment
from jaxsrl.tasks.dispatch import Dispatch
from jaxsrl.tasks.knapsack import Knapsack
from jaxsrl.tasks.optimum import Judgement
from jaxsrl.types import Demonstration

FORM = ("parses", "keys", "identifiers", "decimals")
FAMILIES = ("bounds", "balance", "ramps", "reserve", "times", "room", "conflicts")


@dataclass(frozen=True, kw_only=True)
class Form:
    """Four signs of form, each family of constraints, all at once, and the distance from the optimum, all apart.

    `satisfied` is the mean over families of the share of constraints that hold; an answer whose constraints cannot be
    read has 0. `gap` = (cost - least) / |least| is of feasible answers alone; `squared_error` is of every answer whose
    numbers can be read, so a low one beside no feasibility is what imitation looks like.
    Source: arXiv:2603.23004 reports satisfied constraints and squared error; the other axes are our choice.
    """

    name: str = "form"
    calls: ClassVar[tuple[Call, ...]] = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = True
    measures: ClassVar[tuple[Measure, ...]] = (
        *(Measure(name=name, meaning=f"share of answers whose form is right: {name}", share=True, better="higher")
          for name in FORM),
        Measure(name="form", meaning="share of answers that are right in all of form", share=True, better="higher"),
        Measure(name="satisfied", meaning="share of constraints that hold, mean over families; 0 if unreadable",
                bounded=True, better="higher"),
        *(Measure(name=f"held_{name}", meaning=f"share of constraints that hold of the family {name}, of readable "
                  "answers", bounded=True, better="higher") for name in FAMILIES),
        Measure(name="feasible", meaning="share of answers whose constraints all hold", share=True, better="higher"),
        Measure(name="feasible_formed", meaning="the same among answers of right form", share=True, better="higher"),
        Measure(name="best", meaning="share of answers that are feasible and optimal", share=True, better="higher"),
        Measure(name="gap", meaning="(cost - least) / |least| of feasible answers", better="lower"),
        Measure(name="squared_error", meaning="mean squared difference to the solver's numbers", better="lower"),
    )  # fmt: skip

    def __call__(self, policy: ProbedPolicy, demonstrations: Sequence[Demonstration], key):
        if not isinstance(policy.task, Dispatch | Commitment | Knapsack):
            raise DoesNotApply("it needs problems of dispatch, unit commitment or the knapsack")
        own = policy.own(demonstrations)
        records: list[Record] = []
        for one, solution in zip(own, policy.solve(own, key), strict=True):
            text = "" if solution.truncated else without_thoughts(solution.text)  # cut at the cap, it says nothing
            found = policy.task.judge(text, one)
            records.append({"problem": one.problem_id, "text": solution.text, "values": axes(found)})
        return measured(policy, demonstrations, self.measures, records), records


def axes(found: Judgement) -> dict[str, float | None]:
    """The values of one answer."""
    formed = all(found.form.values())
    return {
        **{name: float(found.form[name]) for name in FORM}, "form": float(formed), "satisfied": max(found.dense, 0.0),
        **{f"held_{name}": found.families.get(name) for name in FAMILIES}, "feasible": float(found.feasible),
        "feasible_formed": float(found.feasible) if formed else None, "best": float(found.best), "gap": found.gap,
        "squared_error": found.squared_error,
    }  # fmt: skip


PROBE = Form()
