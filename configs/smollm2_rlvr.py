"""RLVR of SmolLM2-135M-Instruct on GSM8K: whole solutions, rewarded where the number behind `####` is the key.

The warm start is that of the other SmolLM2 configs. Greedy it solves a few problems in a hundred, so most groups of
eight are all wrong and are dropped: a step asks for 32 groups that are not, in at most four rounds of 64 problems.

Run:    launch/local.sh configs/smollm2_rlvr.py --data-dir DATA --set weights=FOLDER
LoRA:   --set lora.rank=16 --set lora.alpha=32 --set stages.warm.optimizer.lr=1e-3 --set stages.rlvr.optimizer.lr=2e-5
Sizes:  for one GPU of 80 GB, chosen by count; not run there yet. On a CPU a step takes too long to learn anything.
Expect: not measured; it needs an accelerator.
"""

from jaxsrl.config import Config
from jaxsrl.config.smollm2 import rlvr, run, warm


def config() -> Config:
    return run("smollm2_rlvr", (warm(), rlvr()))
