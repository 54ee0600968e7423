"""SRL on Qwen2.5-0.5B Instruct: one H100 of 80 GB.

Plan:   jaxsrl plan configs/recipes/qwen2_5_0_5b_h100.py
Run:    jaxsrl launch configs/recipes/qwen2_5_0_5b_h100.py --target TARGET --dry-run
Needs:  16.0 GiB of 79.1 on each device, in `gradient` (compiled: XLA for CUDA, jax 0.10.2, 2026-11-29)
Takes:  1.5 h at the least (1.5 chip-hours), at the roofline; not run yet
Expect: no score was measured
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "h100"


def config() -> Config:
    return srl_recipe(
        "qwen2_5_0_5b_h100", "qwen2.5-0.5b", "weights/Qwen2.5-0.5B-Instruct",
        mesh=MeshShape(), sampler_mesh=MeshShape(), rows=4, prompt_rows=32,
    )  # fmt: skip
