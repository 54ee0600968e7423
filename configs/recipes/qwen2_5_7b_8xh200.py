"""SRL on Qwen2.5-7B Instruct: one node of eight H200.

Plan:   jaxsrl plan configs/recipes/qwen2_5_7b_8xh200.py
Run:    jaxsrl launch configs/recipes/qwen2_5_7b_8xh200.py --target TARGET --dry-run
Needs:  @MEM@
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "8xh200"


def config() -> Config:
    return srl_recipe(
        "qwen2_5_7b_8xh200", "qwen2.5-7b", "weights/Qwen2.5-7B-Instruct", mesh=MeshShape(fsdp=8), sampler_mesh=MeshShape(data=8),
        rows=16, prompt_rows=64,
    )  # fmt: skip
