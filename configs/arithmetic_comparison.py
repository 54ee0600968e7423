"""All arms of the arithmetic comparison from one base model, at equal budgets; a seed is a run.

Run:    launch/local.sh configs/arithmetic_comparison.py --set seed=0 --set name=comparison-0        and seeds 1, 2
Table:  .venv/bin/jaxsrl compare runs/comparison-0 runs/comparison-1 runs/comparison-2

Settings, fixed before these runs: base 400 optimizer steps of 32 short problems. From it, every arm ends when it has
executed 3 million tokens (prefilled, sampled and learned from), at learning rate 3e-4 (none was searched per arm):
SFT on 16 demonstrations a step; SRL on 8 demonstrations, 7 branch points, 8 rollouts; the same with another problem's
actions as the expert's (`srl_shuffled`, the control); RLVR on 16 problems, 8 rollouts; and 1.5 million tokens of SRL
(`srl_half`) followed from its best checkpoint by 1.5 million of RLVR (`srl_rlvr`). 100 held-out long problems, greedy,
in three modes, with and without `<think>` written for the model (the base forced to think is the standing baseline).

Not measured yet.
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
