"""SRL on Qwen2.5-7B Instruct: one node of eight H200.

Plan:   jaxsrl plan configs/recipes/qwen2_5_7b_8xh200.py
Run:    jaxsrl launch configs/recipes/qwen2_5_7b_8xh200.py --target TARGET --dry-run
Needs:  41.1 GiB of 140.4 on each device, in `sample` (compiled: XLA for CUDA, jax 0.10.2, 2026-11-29)
Takes:  1.4 h at the least (11 chip-hours), at the roofline; not run yet
Expect: no score was measured
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "8xh200"


def config() -> Config:
    return srl_recipe(
        "qwen2_5_7b_8xh200", "qwen2.5-7b", "weights/Qwen2.5-7B-Instruct",
        mesh=MeshShape(fsdp=8), sampler_mesh=MeshShape(data=8), rows=16, prompt_rows=64,
    )  # fmt: skip
