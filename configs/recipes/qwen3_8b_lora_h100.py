"""SRL with LoRA on Qwen3-8B: one H100 of 80 GB.

Plan:   jaxsrl plan configs/recipes/qwen3_8b_lora_h100.py
Run:    jaxsrl launch configs/recipes/qwen3_8b_lora_h100.py --target TARGET --dry-run
Needs:  55.6 GiB of 79.1 on each device, in `sample` (compiled: XLA for CUDA, jax 0.10.2, 2026-11-29)
Takes:  13.9 h at the least (14 chip-hours), at the roofline; not run yet
Expect: no score was measured
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.models.lora import LoRA
from jaxsrl.sharding import MeshShape

ACCELERATOR = "h100"


def config() -> Config:
    return srl_recipe(
        "qwen3_8b_lora_h100", "qwen3-8b", "weights/Qwen3-8B",
        mesh=MeshShape(), sampler_mesh=MeshShape(), rows=2, prompt_rows=8, lora=LoRA(rank=32, alpha=64.0), lr=2e-5,
    )  # fmt: skip
