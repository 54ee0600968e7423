"""SRL on Qwen3-1.7B: two v5e-16 slices (32 chips).

Plan:   jaxsrl plan configs/recipes/qwen3_1_7b_2xv5e_16.py
Run:    jaxsrl launch configs/recipes/qwen3_1_7b_2xv5e_16.py --target TARGET --dry-run
Needs:  9.3 GiB of 15.8 on each device, in `sample` (compiled: libtpu 0.0.42.1, quick effort, 2026-11-29)
Takes:  1.6 h at the least (51 chip-hours), at the roofline; not run yet
Expect: no score was measured
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "2xv5e-16"


def config() -> Config:
    return srl_recipe(
        "qwen3_1_7b_2xv5e_16", "qwen3-1.7b", "weights/Qwen3-1.7B",
        mesh=MeshShape(dcn=2, fsdp=16), sampler_mesh=MeshShape(dcn=2, data=16), rows=32, prompt_rows=32,
    )  # fmt: skip
