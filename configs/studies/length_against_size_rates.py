"""Learning rates for `length_against_size.py`: a small sweep for each objective, before that study.

Run:    .venv/bin/jaxsrl study run configs/studies/length_against_size_rates.py
Page:   .venv/bin/jaxsrl study report configs/studies/length_against_size_rates.py
Takes:  two minutes on two CPU cores; at most 4.4e6 tokens and 5.5e12 FLOPs
Seen:   exact actions after the expert's, 50 validation problems, one seed, 2026-11-29, on commit b7b965e:

    base of 400 steps    0.363
    SFT, 3e-5            0.251 after 80 steps, 0.029 after 160, then 0.000 to the end (413)
    SFT, 3e-4            0.000 from the first evaluation, after 80 steps
    SRL, 1e-4            0.463 after 25 steps
    SRL, 3e-4            0.577 after 24 steps

So 3e-5 for SFT, which both rates end at 0 and this one later, and 3e-4 for SRL. A first look, at 300,000 tokens from
a base of 250 steps that was right on 0.163, found 0.000 for SFT at 3e-5, 3e-4 and 3e-3; 0.140 for SRL at 1e-4, 0.111
at 3e-4, 0.000 at 1e-3. So SRL gains little or loses from a base that is too weak. One seed tells rates this far apart,
and no finer ones.

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
        fixed="700,000 executed tokens a stage; two rates each, after a first look at other ones and 300,000 tokens",
        base=config,
        arms=tuple(Arm(name=name, stage=made.name) for name, made in zip(arms, stages, strict=True)),
        anchor="srl_0.0003",
        seeds=seeds,
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
