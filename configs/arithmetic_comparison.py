"""All arms of the arithmetic comparison from one base model; a seed is a run.

Run:    launch/local.sh configs/arithmetic_comparison.py --set seed=0 --set name=comparison-0        and seeds 1, 2
"""

from jaxsrl.config import Config
from jaxsrl.config.arithmetic import ROWS, base, rlvr, sft, srl
from jaxsrl.models.config import preset


def config() -> Config:
    stages = (
        base(),
        sft(),
        srl(),
        srl(name="srl_shuffled", shuffled=True),
        srl(name="srl_exact", metric="exact"),
        rlvr(),
        rlvr(name="srl_rlvr", start_from="srl:best"),
    )
    return Config(name="comparison", model=preset("0.2M"), rows=ROWS, stages=stages)
