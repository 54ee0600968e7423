"""All arms of the arithmetic comparison from one base model; a seed is a run.

Run:    launch/local.sh configs/arithmetic_comparison.py --set seed=0 --set name=comparison-0        and seeds 1, 2
Table:  .venv/bin/jaxsrl compare runs/comparison-0 runs/comparison-1 runs/comparison-2

Settings, fixed before these runs: base 300 optimizer steps of 32 short problems. From it, every arm at learning rate
3e-4 (none was searched per arm): SFT 60 steps of 16 demonstrations; SRL 60 steps of 8 demonstrations, 7 branch points,
8 rollouts; the same with another problem's actions as the expert's (`srl_shuffled`, the control); RLVR 40 steps of 16
problems, 8 rollouts; RLVR from SRL's best checkpoint. 100 held-out long problems, greedy, in three modes, with and
without `<think>` written for the model (the base forced to think is the standing baseline).

Measured 2026-11-21 on one CPU core, commit d9e4542, seeds 0 1 2; mean and half-width of the 95 % interval over seeds
(three seeds make it wide). Learner tokens of a stage in thousands.

    arm            tokens  exact action after the expert's   the same, forced to think   leading right actions of 8
    base             1110  0.32 +- 0.12                      0.32 +- 0.12                2.0 +- 0.8
    SFT               204  0.00 +- 0.00                      0.00 +- 0.00                0.0 +- 0.0
    SRL               810  0.56 +- 0.44 (.69 .63 .35)        0.56 +- 0.44                3.6 +- 2.8
    SRL, shuffled     755  0.04 +- 0.11                      0.04 +- 0.11                0.2 +- 0.6
    RLVR                0  0.32 +- 0.15                      0.32 +- 0.15                1.9 +- 1.3
    SRL -> RLVR         0  0.56 +- 0.44                      0.56 +- 0.44                3.6 +- 2.8

No arm solves a whole long problem, chained or direct. SFT on actions stops thinking and falls to chance. SRL is above
the base in every seed. Thinking itself is no part of that, forcing the base to think changes nothing; form is: the base
leaves 20 % of its completions malformed, SRL 0.2 %. Rewarded by another problem's actions the same training keeps the
form and unlearns the arithmetic. RLVR finds next to nothing to reward (almost every group was all wrong and dropped),
so its rows are those of the policies it started from.
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, rlvr, sft, srl
from jaxsrl.models.config import preset


def config() -> Config:
    stages = (
        base(),
        sft(60),
        srl(60, every=20),
        srl(60, every=20, name="srl_shuffled", shuffled=True),
        rlvr(40, every=20),
        rlvr(40, every=20, name="srl_rlvr", start_from="srl:best"),
    )
    return Config(name="comparison", model=preset("0.2M"), rows=ROWS, stages=stages)
