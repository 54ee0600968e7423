"""SRL on Qwen3-8B: one node of eight H200.

Plan:   jaxsrl plan configs/recipes/qwen3_8b_8xh200.py
Run:    jaxsrl launch configs/recipes/qwen3_8b_8xh200.py --target TARGET --dry-run
Needs:  67.7 GiB of 140.4 on each device, in `sample` (compiled: XLA for CUDA, jax 0.10.2, 2026-11-29)
Takes:  1.6 h at the least (13 chip-hours), at the roofline; not run yet
Expect: no score was measured
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "8xh200"


def config() -> Config:
    return srl_recipe(
        "qwen3_8b_8xh200", "qwen3-8b", "weights/Qwen3-8B",
        mesh=MeshShape(fsdp=8), sampler_mesh=MeshShape(data=8), rows=16, prompt_rows=64,
    )  # fmt: skip
