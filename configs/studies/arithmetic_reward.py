"""Does SRL learn more from how close an action is to the expert's than from whether it is equal?

Run:    .venv/bin/jaxsrl study run configs/studies/arithmetic_reward.py
Page:   .venv/bin/jaxsrl study report configs/studies/arithmetic_reward.py
Takes:  four runs of at most 1.7e7 tokens and 1.1e13 FLOPs together, as `--plan` counts them; 365 processor seconds
Seen:   2026-11-29. Exact actions after the expert's, of 50 validation problems: mean of the last three evaluations, and
        its difference to `similarity` over four seeds from one base, which is right on 0.414. Student's 95 % intervals,
        p after Holm's correction:

    arm                seeds 0 to 3                  less similarity               p
    similarity         0.514  0.552  0.532  0.551
    similarity_again   0.526  0.537  0.554  0.522    (noise floor: 0.021)
    exact              0.552  0.508  0.525  0.530    -0.009 (-0.065 to +0.047)     0.64
    shuffled           0.064  0.263  0.016  0.281    -0.382 (-0.574 to -0.190)     0.016

The control loses, as it must. Between similarity and equality nothing is decided: the page asks for seven seeds, which
is not done. At a base that is right on 0.41 both learn: `exact` ends at 0.557, `similarity` at 0.564. `exact` takes 24
steps for its tokens, as it samples 19 % more for groups that differ, and `similarity` 32. So its average begins at 38 %
of its tokens and not at 50 %, which the page says and which is to its disadvantage. In a first look, from a base of 250
steps at 0.2M and for 24 steps of each, hardly anything was learned: 0.02 by similarity, 0.04 by equality, which took
half as many tokens again.

The arms are stages of one run, and the base has a seed of its own: arms and seeds share it. Intervals hold for it.
`similarity_again` is the anchor once more and gives the noise floor. `shuffled` is a control that must lose.
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, srl
from jaxsrl.config.length_study import probed, starting_point
from jaxsrl.models.config import preset
from jaxsrl.studies.study import Arm, Estimator, Study

TOKENS, MOST = 700_000, 10_000  # executed by an arm; the budget ends it long before so many steps
ARMS = {"similarity": {}, "similarity_again": {}, "exact": {"metric": "exact"}, "shuffled": {"shuffled": True}}


def study(seeds: tuple[int, ...] = (0, 1, 2, 3), tokens: int = TOKENS) -> Study:
    trained = [probed(srl(MOST, tokens=tokens, **change), name, every=8) for name, change in ARMS.items()]
    return Study(
        name="arithmetic-reward",
        question="Does SRL learn more from how close an action is to the expert’s than from whether it is equal?",
        fixed=(
            "one base for all runs, of seed 0 and 400 steps, on problems of one and two actions with thoughts; from "
            "it 700,000 executed tokens an arm on problems of 8 actions, with 8 rollouts a branch point, learning "
            "rate 3e-4 for every arm: a sweep chose it for `similarity` alone; 50 validation problems, actions after "
            "the expert’s; the shuffled arm is a control that must lose, as its experts are those of other problems"
        ),
        base=Config(
            name="arithmetic-reward", model=preset("0.1M"), rows=ROWS, stages=(starting_point(seed=0), *trained)
        ),
        arms=tuple(Arm(name=name, stage=name) for name in ARMS),
        anchor="similarity",
        repeats=("similarity_again",),
        seeds=seeds,
        estimator=Estimator(metric="actions/exact", last=3),
        smallest_effect=0.05,
    )
