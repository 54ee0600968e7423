"""How fast a phase of a step was: tokens a second, and the share of the devices' peak that its products took (MFU)."""

from collections.abc import Mapping
from typing import NamedTuple

# FLOP/s of bfloat16 products, dense, of one JAX device, by `device_kind`.
# TPUs: cloud.google.com/tpu/docs, the pages of each version. GPUs: NVIDIA's data sheets of A100, H100 and H200 (SXM).
PEAK = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}
FORWARD, TRAIN, TRAIN_ADAPTERS = 2, 6, 4  # FLOPs a parameter and token; frozen matrices get no gradient


class Work(NamedTuple):
    """What a phase did: tokens, and FLOPs of the products of parameters (attention is not in them)."""

    tokens: int
    flops: float


def work(sampled: int, prefilled: int, trained: int, parameters: int, *, adapters: bool) -> dict[str, Work]:
    """Of sampling and learning, without what has no tokens.

    Args:
      sampled, prefilled: tokens of completions and of prompts.
      trained: tokens of learner's rows, each as often as it was learned from.
      parameters: of the model.
      adapters: only these are trained.
    """
    a_token = TRAIN_ADAPTERS if adapters else TRAIN
    found = {
        "sample": Work(sampled, FORWARD * parameters * (sampled + prefilled)),
        "learn": Work(trained, a_token * parameters * trained),
    }
    return {name: one for name, one in found.items() if one.tokens}


def rates(done: Mapping[str, Work], seconds: Mapping[str, float], kind: str, devices: int) -> dict[str, dict]:
    """{"tokens_per_second": {phase: …}, "mfu": {phase: …}}; no "mfu" on a device whose peak is not known.

    Args:
      seconds: of each phase; one that has none is left out.
      kind, devices: `device_kind`, and how many worked together.
    """
    timed = {name: one for name, one in done.items() if seconds.get(name, 0) > 0}
    found = {"tokens_per_second": {name: round(one.tokens / seconds[name], 1) for name, one in timed.items()}}
    if kind in PEAK:
        peak = PEAK[kind] * devices
        found["mfu"] = {name: round(one.flops / seconds[name] / peak, 4) for name, one in timed.items()}
    return found
