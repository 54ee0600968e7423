"""Length of demonstrations against model size: where does SFT stop learning, and does SRL go on there?

Run:    .venv/bin/jaxsrl study run configs/studies/length_against_size.py
Page:   .venv/bin/jaxsrl study report configs/studies/length_against_size.py
Takes:  eight runs of at most 3.5e7 tokens and 3.4e13 FLOPs together; 1,357 processor seconds, 25 minutes on one of two
        CPU cores that other work loaded. 4 x 4 x 8, with SIZES 0.1M, 0.2M, 1M and 10M, LENGTHS 2, 4, 8 and 16 and eight
        SEEDS below, and the same command: 32 runs, at most 2.2e8 tokens and 3.1e15 FLOPs.
Seen:   2026-11-29. Exact actions after the expert's, of 50 validation problems: of the base, and the mean of the last
        three evaluations, seeds 0 to 3. Student's 95 % intervals over four seeds, each with a base of its own:

    size   actions   base                       SFT   SRL                        SRL less base
    0.1M   4         0.71, 0.81, 0.37, 0.13     0     0.92, 0.97, 0.66, 0.36     0.23 (+0.14 to +0.31)
    0.2M   4         0.91, 0.91, 0.42, 0.65     0     0.98, 0.99, 0.56, 0.91     0.14 (+0.01 to +0.28)
    0.1M   8         0.41, 0.41, 0.15, 0.11     0     0.50, 0.62, 0.26, 0.11     0.10 (-0.03 to +0.23)
    0.2M   8         0.54, 0.51, 0.24, 0.32     0     0.65, 0.61, 0.28, 0.48     0.10 (+0.02 to +0.18)

So SFT did not stop somewhere on this grid: in all four cells and on all seeds it unlearned, even at the lower of two
rates: it learned to write actions without the thoughts that they need and that the demonstrations leave out. SRL went
on in all four. It is ahead of SFT by 0.37 (+0.01 to +0.74) at least, and after Holm's correction one cell of four
decides it (0.2M, 4 actions: p 0.024; the others 0.05, 0.07, 0.19): bases differ much, and what SFT loses is what a base
had. `objectives.py` asks the same at 0.1M and 8 actions from one base, and there it is decided. Of size nothing can be
said: at 8 actions both sizes gain 0.10, and the difference is 0.00 (-0.18 to +0.19). The base is right on a third of
the actions or so at length 8 alone; at length 4 it knows most on two seeds.

A run is one size and one seed: a base, and from it SFT and SRL on demonstrations of 4 and of 8 actions, at equal
executed tokens.

The page compares SRL in each of the four cells with SFT there, and SFT with SFT on 8 actions at the larger size.
"""

from collections.abc import Sequence

from jaxsrl.collect import BatchShapes
from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS
from jaxsrl.config.length_study import stage, starting_point
from jaxsrl.models.config import preset
from jaxsrl.studies.study import Arm, Estimator, Study

SIZES, LENGTHS, SEEDS = ("0.1M", "0.2M"), (4, 8), (0, 1, 2, 3)
RATES = {"sft": 3e-5, "srl": 3e-4}  # by length_against_size_rates.py


def config(size: str, lengths: Sequence[int]) -> Config:
    both = tuple(stage(kind, length, rate=RATES[kind]) for length in lengths for kind in ("sft", "srl"))
    stages = (starting_point(), *both)
    rows = ROWS if max(lengths) <= 8 else BatchShapes()  # which is then chosen from the data
    return Config(name=f"length-against-size-{size}", model=preset(size), rows=rows, stages=stages)


def study(
    sizes: Sequence[str] = SIZES, lengths: Sequence[int] = LENGTHS, seeds: Sequence[int] = SEEDS
) -> Study:  # fmt: skip
    found = {size: config(size, lengths) for size in sizes}
    largest = sizes[-1]
    sft = lambda name, size: f"{name.replace('srl', 'sft')}_{size}"
    arms = [
        Arm(name=f"{made.name}_{size}", config=found[size], stage=made.name,
            against=sft(made.name, size) if made.name.startswith("srl") else None)
        for size in sizes for made in found[size].stages[1:]
    ]  # fmt: skip
    return Study(
        name="length-against-size",
        question="Where does SFT stop learning from demonstrations as they get longer, and does SRL go on there?",
        fixed=(
            "base of 400 steps on problems of one and two actions with thoughts; from it 700,000 executed tokens of "
            "SFT or SRL on demonstrations without thoughts, at the learning rates that a sweep on another seed, at 8 "
            "actions and 0.2M, chose; 50 validation problems of the length trained on"
        ),
        base=found[largest],
        arms=tuple(arms),
        anchor=f"sft_{lengths[-1]}_{largest}",
        seeds=tuple(seeds),
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
