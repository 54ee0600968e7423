"""SRL on Qwen3-8B: a v5p-16 slice (8 chips).

Plan:   jaxsrl plan configs/recipes/qwen3_8b_v5p_16.py
Run:    jaxsrl launch configs/recipes/qwen3_8b_v5p_16.py --target TARGET --dry-run
Needs:  67.5 GiB of 95.7 on each device, in `sample` (compiled: libtpu 0.0.42.1, quick effort, 2026-11-29)
Takes:  3.3 h at the least (26 chip-hours), at the roofline; not run yet
Expect: no score was measured
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.sharding import MeshShape

ACCELERATOR = "v5p-16"


def config() -> Config:
    return srl_recipe(
        "qwen3_8b_v5p_16", "qwen3-8b", "weights/Qwen3-8B",
        mesh=MeshShape(fsdp=8), sampler_mesh=MeshShape(data=8), rows=16, prompt_rows=64,
    )  # fmt: skip
