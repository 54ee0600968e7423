"""Does SRL learn more from how close an action is to the expert's than from whether it is equal?

Run:    .venv/bin/jaxsrl study run configs/studies/arithmetic_reward.py
Page:   .venv/bin/jaxsrl study report configs/studies/arithmetic_reward.py
Takes:  eight runs of at most 3.5e7 tokens and 2.1e13 FLOPs together, as `--plan` counts them; a run takes some 90
        processor seconds, and half as much again where the cores have other work
Seen:   2026-11-29. Exact actions after the expert's, of 50 validation problems: mean of the last three evaluations, and
        its difference to `similarity` over eight seeds from one base, which is right on 0.414. Student's 95 %
        intervals, p after Holm's correction:

    arm                seeds 0 to 7
    similarity         0.530  0.553  0.541  0.533  0.535  0.506  0.523  0.556
    similarity_again   0.522  0.540  0.546  0.472  0.521  0.471  0.524  0.538    (noise floor: 0.027)
    exact              0.537  0.522  0.527  0.530  0.554  0.519  0.528  0.526
    shuffled           0.253  0.319  0.002  0.343  0.180  0.206  0.264  0.261

    arm        less similarity                p
    exact      -0.004 (-0.020 to +0.012)      0.55
    shuffled   -0.306 (-0.395 to -0.218)      0.0002

The two learn the same here, and the control loses, as it must. Both gain: `exact` ends at 0.557, `similarity` at 0.562
and once more at 0.549. `exact` takes 23 to 25 steps for its tokens, as it samples 19 % more for groups that differ, and
`similarity` 32. So its average begins at 36 % of its tokens and not at 50 %, which the page says and which is to its
disadvantage. It holds for a base that is right on four of ten actions: where hardly any is right, equality rewards
nothing. In a first look, from a base of 250 steps at 0.2M and for 24 steps of each, neither learned much: 0.02 by
similarity, 0.04 by equality, which took half as many tokens again. Four seeds run earlier on another machine, which
rounds otherwise, gave -0.065 to +0.047.

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


def study(seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7), tokens: int = TOKENS) -> Study:
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
