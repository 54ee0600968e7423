"""A study of seconds: SFT at two learning rates from one base, which is the anchor's stage once more as its repeat."""

from dataclasses import replace

from jaxsrl.evals.evaluate import Evaluation
from jaxsrl.objectives.sft import SFT
from jaxsrl.studies.study import Arm, Estimator, Study
from tests.tiny_config import config

PROBE = Evaluation(modes=("actions",))


def study() -> Study:
    tiny = config()
    first = replace(tiny.stages[0], steps=2, validate=replace(tiny.stages[0].validate, every=0))
    later = lambda name: replace(
        first, name=name, start_from="sft", steps=4, objective=SFT(trunk=("action",)),
        validate=replace(first.validate, every=1),
    )  # fmt: skip
    base = replace(tiny, stages=(first, later("anchor"), later("again"), later("faster")))
    return Study(
        name="tiny-study", question="Does a faster rate help?", fixed="everything", base=base,
        arms=(
            Arm(name="anchor", stage="anchor"),
            Arm(name="again", stage="again"),
            Arm(name="faster", stage="faster", settings={"stages.faster.optimizer.lr": 0.2}),
        ),
        anchor="anchor", repeats=("again",), seeds=(0, 1), smallest_effect=0.1,
        estimator=Estimator(metric="actions/similarity", last=2),
    )  # fmt: skip
