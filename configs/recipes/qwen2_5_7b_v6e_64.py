"""SRL on Qwen2.5-7B Instruct: a v6e-64 slice (64 chips).

Plan:   jaxsrl plan configs/recipes/qwen2_5_7b_v6e_64.py
Run:    jaxsrl launch configs/recipes/qwen2_5_7b_v6e_64.py --target TARGET --dry-run
Needs:  9.7 GiB of 31.2 on each device, in `gradient` (compiled: libtpu 0.0.42.1, quick effort, 2026-11-29)
Takes:  0.8 h at the least (49 chip-hours), at the roofline; not run yet
Expect: no score was measured
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "v6e-64"


def config() -> Config:
    return srl_recipe(
        "qwen2_5_7b_v6e_64", "qwen2.5-7b", "weights/Qwen2.5-7B-Instruct",
        mesh=MeshShape(fsdp=64), sampler_mesh=MeshShape(data=16, tensor=4),
        rows=64, prompt_rows=128, demonstrations=128,
    )  # fmt: skip
