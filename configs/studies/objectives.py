"""Which objective learns most from the same demonstrations at equal executed tokens: SFT, SRL, RLVR, both, or CHORD?

Run:    .venv/bin/jaxsrl study run configs/studies/objectives.py
Page:   .venv/bin/jaxsrl study report configs/studies/objectives.py
Takes:  eight runs of at most 4.6e7 tokens and 2.9e13 FLOPs together, as `--plan` counts them; 1,235 processor seconds,
        23 minutes on one of two CPU cores that other work loaded
Seen:   2026-11-29. Exact actions after the expert's, of 50 validation problems: mean of the last three evaluations,
        and its difference to `srl` over eight seeds from one base, which is right on 0.414. Student's 95 % intervals,
        p after Holm's correction:

    arm         seeds 0 to 7                                              less srl                      p
    srl         0.530  0.553  0.541  0.533  0.536  0.509  0.523  0.556
    srl_again   0.522  0.540  0.539  0.486  0.521  0.471  0.524  0.541    (noise floor: 0.023)
    srl_rlvr    0.523  0.440  0.489  0.503  0.497  0.511  0.486  0.491    -0.043 (-0.073 to -0.012)     0.012
    rlvr        0.414  0.414  0.414  0.414  0.414  0.414  0.407  0.414    -0.122 (-0.134 to -0.109)     1.5e-7
    sft         0.005  0.005  0.005  0.004  0.005  0.005  0.005  0.005    -0.530 (-0.543 to -0.517)     1.2e-11
    chord       0.000  0.001  0.000  0.000  0.001  0.000  0.000  0.000    -0.535 (-0.548 to -0.522)     1.2e-11

All four arms are worse than SRL, `srl_rlvr` by less than the 0.05 that was said to matter. RLVR learns nothing from a
base that solves no problem: on seven seeds every group was dropped, so that its value is the base's to the digit. On
six seeds the same happens to RLVR after SRL, and `srl_rlvr` is there what SRL has after half of the tokens. SFT and
CHORD unlearn: both are taught actions without the thoughts that come before them; so this holds for demonstrations that
leave thoughts out. It holds for this base, too: in an earlier look with four bases, right on 0.11 to 0.41, SRL was
ahead of all arms on every one, and the intervals of four seeds decided nothing after the correction. The rates of SFT
and SRL come from a sweep at 0.2M; those of RLVR and CHORD were not searched.

All arms are stages of one run, and the base has a seed of its own: arms and seeds share it. Intervals hold for it.
`srl_again` is the anchor once more and gives the noise floor. `srl_rlvr` is RLVR for half of the tokens, after
`srl_half`, which is SRL for the other half.
"""

from dataclasses import replace

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, rlvr, sft, srl
from jaxsrl.config.length_study import probed, starting_point
from jaxsrl.config.run import Stage
from jaxsrl.models.config import preset
from jaxsrl.objectives.chord import CHORD, MuSchedule
from jaxsrl.studies.study import Arm, Estimator, Study
from jaxsrl.update import AdamW

BASE = 0  # its seed; in an earlier look it was right on 0.41 of the actions and on no whole problem
TOKENS, MOST = 700_000, 10_000  # executed by an arm; the budget ends it long before so many steps
# By length_against_size_rates.py; those of RLVR and CHORD were not searched.
RATES = {"sft": 3e-5, "srl": 3e-4, "rlvr": 3e-4, "chord": 3e-4}


def arm(stage: Stage, every: int, *, rate: str, name: str | None = None) -> Stage:
    return replace(probed(stage, name, every=every), optimizer=AdamW(lr=RATES[rate]))


def chord(tokens: int) -> Stage:
    """RLVR with SFT mixed in, on the demonstrations of the same problems."""
    made = rlvr(MOST, tokens=tokens, name="chord")
    return replace(made, objective=CHORD(reward=made.objective.reward, mu=MuSchedule(decay=8)))


def study(seeds: tuple[int, ...] = tuple(range(8)), tokens: int = TOKENS) -> Study:
    half = tokens // 2
    stages = (
        starting_point(seed=BASE),
        arm(srl(MOST, tokens=tokens), 8, rate="srl"),
        arm(srl(MOST, tokens=tokens), 8, rate="srl", name="srl_again"),
        arm(sft(MOST, tokens=tokens), 40, rate="sft"),
        arm(rlvr(MOST, tokens=tokens), 16, rate="rlvr"),
        arm(srl(MOST, tokens=half), 8, rate="srl", name="srl_half"),
        arm(rlvr(MOST, tokens=half, start_from="srl_half"), 8, rate="rlvr", name="srl_rlvr"),
        arm(chord(tokens), 8, rate="chord"),
    )
    compared = [stage for stage in stages[1:] if stage.name != "srl_half"]
    return Study(
        name="objectives",
        question="Which objective learns most from the same demonstrations at equal executed tokens?",
        fixed=(
            "one base for all runs, of seed 0 and 400 steps, on problems of one and two actions with thoughts; from "
            "it 700,000 executed tokens an arm on problems of 8 actions, which it never solves whole; learning rates "
            "of SFT and SRL by a sweep, those of RLVR and CHORD 3e-4; 50 validation problems, actions after the "
            "expert's"
        ),
        base=Config(name="objectives", model=preset("0.1M"), rows=ROWS, stages=stages),
        arms=tuple(Arm(name=stage.name, stage=stage.name) for stage in compared),
        anchor="srl",
        repeats=("srl_again",),
        seeds=seeds,
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
