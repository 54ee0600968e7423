"""SRL on Qwen3-8B: one node of eight H200.

Plan:   jaxsrl plan configs/recipes/qwen3_8b_8xh200.py
Run:    jaxsrl launch configs/recipes/qwen3_8b_8xh200.py --target TARGET --dry-run
Needs:  @MEM@
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "8xh200"


def config() -> Config:
    return srl_recipe(
        "qwen3_8b_8xh200", "qwen3-8b", "weights/Qwen3-8B", mesh=MeshShape(fsdp=8), sampler_mesh=MeshShape(data=8),
        rows=16, prompt_rows=64,
    )  # fmt: skip
