"""Learning rates for `length_against_size.py`: a small sweep for each objective, before that study.

Run:    .venv/bin/jaxsrl study run configs/studies/length_against_size_rates.py
Page:   .venv/bin/jaxsrl study report configs/studies/length_against_size_rates.py
Seen:   not measured yet

One run: a base of 0.2M, and every rate from it on demonstrations of 8 actions. Its seed is none of that study's.
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS
from jaxsrl.config.length_study import stage, starting_point
from jaxsrl.models.config import preset
from jaxsrl.studies.study import Arm, Estimator, Study

RATES = {"sft": (3e-5, 3e-4), "srl": (1e-4, 3e-4)}


def study(seeds: tuple[int, ...] = (100,)) -> Study:
    arms = {f"{kind}_{rate:g}": (kind, rate) for kind, rates in RATES.items() for rate in rates}
    stages = tuple(stage(kind, 8, rate=rate, name=name.replace(".", "_")) for name, (kind, rate) in arms.items())
    config = Config(
        name="length-rates", model=preset("0.2M"), rows=ROWS, stages=(starting_point(), *stages)
    )  # fmt: skip
    return Study(
        name="length-against-size-rates",
        question="Which learning rates for SFT and SRL on demonstrations of 8 actions?",
        fixed="700,000 executed tokens a stage; two rates for each objective, chosen after a first look at 300,000 tokens",
        base=config,
        arms=tuple(Arm(name=name, stage=made.name) for name, made in zip(arms, stages, strict=True)),
        anchor="srl_0.0003",
        seeds=seeds,
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
