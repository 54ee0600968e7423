"""Which objective learns most from the same demonstrations at equal executed tokens: SFT, SRL, RLVR, both, or CHORD?

Run:    .venv/bin/jaxsrl study run configs/studies/objectives.py
Page:   .venv/bin/jaxsrl study report configs/studies/objectives.py
Takes:  four runs of at most 2.2e7 tokens and 1.4e13 FLOPs together, as `--plan` counts them
Seen:   nothing yet: all arms were checked and costed, and the study has not been run.

All arms are stages of one run, so that a seed's arms share its base. `srl_again` is the anchor once more and gives the
noise floor. `srl_rlvr` is RLVR for half of the tokens, after `srl_half`, which is SRL for the other half.
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

TOKENS, MOST = 700_000, 10_000  # executed by an arm; the budget ends it long before so many steps
# By length_against_size_rates.py; those of RLVR and CHORD were not searched.
RATES = {"sft": 3e-5, "srl": 3e-4, "rlvr": 3e-4, "chord": 3e-4}


def arm(stage: Stage, every: int, *, rate: str, name: str | None = None) -> Stage:
    return replace(probed(stage, name, every=every), optimizer=AdamW(lr=RATES[rate]))


def chord(tokens: int) -> Stage:
    """RLVR with SFT mixed in, on the demonstrations of the same problems."""
    made = rlvr(MOST, tokens=tokens, name="chord")
    return replace(made, objective=CHORD(reward=made.objective.reward, mu=MuSchedule(decay=8)))


def study(seeds: tuple[int, ...] = (0, 1, 2, 3), tokens: int = TOKENS) -> Study:
    half = tokens // 2
    stages = (
        starting_point(),
        arm(srl(MOST, tokens=tokens), 8, rate="srl"),
        arm(srl(MOST, tokens=tokens), 8, rate="srl", name="srl_again"),
        arm(sft(MOST, tokens=tokens), 80, rate="sft"),
        arm(rlvr(MOST, tokens=tokens), 4, rate="rlvr"),
        arm(srl(MOST, tokens=half), 4, rate="srl", name="srl_half"),
        arm(rlvr(MOST, tokens=half, start_from="srl_half"), 2, rate="rlvr", name="srl_rlvr"),
        arm(chord(tokens), 3, rate="chord"),
    )
    compared = [stage for stage in stages[1:] if stage.name != "srl_half"]
    return Study(
        name="objectives",
        question="Which objective learns most from the same demonstrations at equal executed tokens?",
        fixed=(
            "base of 400 steps on problems of one and two actions with thoughts; from it 700,000 executed tokens "
            "an arm on problems of 8 actions, which it never solves whole; learning rates of SFT and SRL by a sweep, "
            "those of RLVR and CHORD 3e-4; 50 validation problems, actions after the expert's"
        ),
        base=Config(name="objectives", model=preset("0.1M"), rows=ROWS, stages=stages),
        arms=tuple(Arm(name=stage.name, stage=stage.name) for stage in compared),
        anchor="srl",
        repeats=("srl_again",),
        seeds=seeds,
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
