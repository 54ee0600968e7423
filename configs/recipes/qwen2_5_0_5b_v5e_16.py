"""SRL on Qwen2.5-0.5B Instruct: a v5e-16 slice (16 chips).

Plan:   jaxsrl plan configs/recipes/qwen2_5_0_5b_v5e_16.py
Run:    jaxsrl launch configs/recipes/qwen2_5_0_5b_v5e_16.py --target TARGET --dry-run
Needs:  3.9 GiB of 15.8 on each device, in `gradient` (compiled: libtpu 0.0.42.1, quick effort, 2026-11-29)
Takes:  0.4 h at the least (7 chip-hours), at the roofline; not run yet
Expect: no score was measured
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "v5e-16"


def config() -> Config:
    return srl_recipe(
        "qwen2_5_0_5b_v5e_16", "qwen2.5-0.5b", "weights/Qwen2.5-0.5B-Instruct",
        mesh=MeshShape(fsdp=16), sampler_mesh=MeshShape(data=16), rows=16, prompt_rows=64,
    )  # fmt: skip
