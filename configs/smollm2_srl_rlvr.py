"""SRL of SmolLM2-135M-Instruct on GSM8K, then RLVR from its best checkpoint, as arXiv:2510.25992 trains.

Run:    launch/local.sh configs/smollm2_srl_rlvr.py --data-dir DATA --set weights=FOLDER
LoRA:   --set lora.rank=16 --set lora.alpha=32 --set stages.warm.optimizer.lr=1e-3 --set stages.srl.optimizer.lr=2e-5
        --set stages.rlvr.optimizer.lr=2e-5
Sizes:  for one GPU of 80 GB, chosen by count; not run there yet
Expect: not measured; it needs an accelerator. What SRL alone does in ten small steps: `smollm2_srl.py`.
"""

from jaxsrl.config import Config
from jaxsrl.config.smollm2 import rlvr, run, srl, warm


def config() -> Config:
    return run("smollm2_srl_rlvr", (warm(), srl(), rlvr(start_from="srl:best")))
