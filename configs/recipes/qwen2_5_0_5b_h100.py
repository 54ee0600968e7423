"""SRL on Qwen2.5-0.5B Instruct: one H100 of 80 GB.

Plan:   jaxsrl plan configs/recipes/qwen2_5_0_5b_h100.py
Run:    jaxsrl launch configs/recipes/qwen2_5_0_5b_h100.py --target TARGET --dry-run
Needs:  @MEM@
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "h100"


def config() -> Config:
    return srl_recipe(
        "qwen2_5_0_5b_h100", "qwen2.5-0.5b", "weights/Qwen2.5-0.5B-Instruct", mesh=MeshShape(), sampler_mesh=MeshShape(),
        rows=4, prompt_rows=32,
    )  # fmt: skip
