"""All arms of the arithmetic comparison from one base model; a seed is a run.

Run:    launch/local.sh configs/arithmetic_comparison.py --set seed=0 --set name=comparison-0        and seeds 1, 2
Table:  .venv/bin/jaxsrl compare runs/comparison-0 runs/comparison-1 runs/comparison-2

Settings, fixed before these runs: base 300 optimizer steps of 32 short problems. From it, every arm at learning rate
3e-4 (none was searched per arm): SFT 60 steps of 16 demonstrations; SRL 60 steps of 8 demonstrations, 7 branch points,
8 rollouts; the same with another problem's actions as the expert's (`srl_shuffled`, the control); RLVR 40 steps of 16
problems, 8 rollouts; RLVR from SRL's best checkpoint. 100 held-out long problems, greedy, in three modes, with and
without `<think>` written for the model (the base forced to think is the standing baseline).
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
