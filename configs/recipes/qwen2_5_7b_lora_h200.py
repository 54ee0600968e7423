"""SRL with LoRA on Qwen2.5-7B Instruct: one H200.

Plan:   jaxsrl plan configs/recipes/qwen2_5_7b_lora_h200.py
Run:    jaxsrl launch configs/recipes/qwen2_5_7b_lora_h200.py --target TARGET --dry-run
Needs:  46.2 GiB of 140.4 on each device, in `sample` (compiled: XLA for CUDA, jax 0.10.2, 2026-11-29)
Takes:  9.8 h at the least (10 chip-hours), at the roofline; not run yet
Expect: no score was measured
"""

from jaxsrl.config import Config
from jaxsrl.config.recipes import srl_recipe
from jaxsrl.models.lora import LoRA
from jaxsrl.sharding import MeshShape

ACCELERATOR = "h200"


def config() -> Config:
    return srl_recipe(
        "qwen2_5_7b_lora_h200", "qwen2.5-7b", "weights/Qwen2.5-7B-Instruct",
        mesh=MeshShape(), sampler_mesh=MeshShape(), rows=2, prompt_rows=16, lora=LoRA(rank=32, alpha=64.0), lr=2e-5,
    )  # fmt: skip
