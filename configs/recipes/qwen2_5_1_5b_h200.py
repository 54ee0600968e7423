"""SRL on Qwen2.5-1.5B Instruct: one H200.

Plan:   jaxsrl plan configs/recipes/qwen2_5_1_5b_h200.py
Run:    jaxsrl launch configs/recipes/qwen2_5_1_5b_h200.py --target TARGET --dry-run
Needs:  38.6 GiB of 140.4 on each device, in `sample` (compiled: XLA for CUDA, jax 0.10.2, 2026-11-29)
Takes:  2.6 h at the least (2.6 chip-hours), at the roofline; not run yet
Expect: no score was measured
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "h200"


def config() -> Config:
    return srl_recipe(
        "qwen2_5_1_5b_h200", "qwen2.5-1.5b", "weights/Qwen2.5-1.5B-Instruct",
        mesh=MeshShape(), sampler_mesh=MeshShape(), rows=4, prompt_rows=32,
    )  # fmt: skip
