"""All arms of the arithmetic comparison from one base model, at equal budgets; a seed is a run.

Run:    launch/local.sh configs/arithmetic_comparison.py --set seed=0 --set name=comparison-0        and seeds 1, 2
Table:  .venv/bin/jaxsrl compare runs/comparison-0 runs/comparison-1 runs/comparison-2

Settings, fixed before these runs: base 400 optimizer steps of 32 short problems. From it, every arm ends when it has
executed 3 million tokens (prefilled, sampled and learned from), at learning rate 3e-4 (none was searched per arm):
SFT on 16 demonstrations a step; SRL on 8 demonstrations, 7 branch points, 8 rollouts; the same with another problem's
actions as the expert's (`srl_shuffled`, the control); RLVR on 16 problems, 8 rollouts; and 1.5 million tokens of SRL
(`srl_half`) followed from its best checkpoint by 1.5 million of RLVR (`srl_rlvr`). 100 held-out long problems, greedy,
in three modes, with and without `<think>` written for the model (the base forced to think is the standing baseline).

Measured 2026-11-21 on one CPU core, commit 3e89794, before SRL refilled dropped groups; seeds 0 1 2 in brackets; +- is
the half-width of the 95 % interval over seeds, which three seeds make wide. `leading`: right actions of 8 before the
first wrong one, on its own (chained); `whole`: whole problems solved that way. Forced to think, every arm has the
numbers it has without, except SFT.

    arm            steps        exact action after the expert's   leading   whole            direct
    base           400          0.44 +- 0.52 (.58 .54 .20)        2.7       0                0
    SFT            885          0.44 +- 0.59 (.48 .66 .19)        0.9       0.01             0.01
      forced                    0.00                              0.0       0                0
    SRL            132 to 161   0.81 +- 0.61 (.98 .93 .53)        5.8       0.23 (.46 .22 0) 0
    SRL, shuffled  136 to 150   0.04 +- 0.11 (.04 .08 .00)        0.2       0                0
    RLVR           533 to 572   0.39 +- 0.76 (.58 .55 .03)        2.4       0                0.01
    SRL, half      66 to 75     0.63 +- 0.64 (.81 .74 .33)        4.2       0                0
      -> RLVR      324 to 381   0.53 +- 0.64 (.79 .54 .27)        2.8       0                0.01

The base differs much between seeds, the gain on it little: SRL is 0.37 +- 0.09 above the base of the same seed, and
0.37 +- 0.29 above SFT with the same tokens, which learns to write actions without thinking. SRL's two better seeds are
the first arms here to solve whole long problems. Thinking itself is no part of the gain, the base thinks already, and
the control has the form and unlearns the arithmetic. RLVR on whole long solutions finds next to nothing to reward; what
it finds are lucky last lines, and following them does harm, also to what SRL had learned.
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, rlvr, sft, srl
from jaxsrl.models.config import preset

TOKENS = 3_000_000
MOST = 10_000  # optimizer steps; the budget ends every arm long before


def config() -> Config:
    stages = (
        base(400),
        sft(MOST, every=200, tokens=TOKENS),
        srl(MOST, every=25, tokens=TOKENS),
        srl(MOST, every=25, tokens=TOKENS, name="srl_shuffled", shuffled=True),
        rlvr(MOST, every=25, tokens=TOKENS),
        srl(MOST, every=25, tokens=TOKENS // 2, name="srl_half"),
        rlvr(MOST, every=25, tokens=TOKENS // 2, name="srl_rlvr", start_from="srl_half:best"),
    )
    return Config(name="comparison", model=preset("0.2M"), rows=ROWS, stages=stages)
