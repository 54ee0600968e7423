"""How fast a phase of a step was: tokens a second, and the share of the devices' peak that its products took (MFU)."""

from collections.abc import Mapping
from typing import NamedTuple

# FLOP/s of bfloat16 products, dense, of one JAX device, by `device_kind`. Checked on 2026-11-29: TPUs against Google's
# pages, which give them for a chip, which is a JAX device from v4 on. A100 against what others cite of NVIDIA's data
# sheet; H100 and H200 too, where the data sheet's figure, 1,979, is with sparsity: dense is half of it.
PEAK = {
    "TPU v4": 275e12,  # cloud.google.com/tpu/docs/v4
    "TPU v5 lite": 197e12,  # v5e: cloud.google.com/tpu/docs/v5e
    "TPU v5": 459e12,  # v5p: cloud.google.com/tpu/docs/v5p
    "TPU v6 lite": 918e12,  # v6e: cloud.google.com/tpu/docs/v6e
    "NVIDIA A100-SXM4-40GB": 312e12,  # data sheet 1758950 r4, cited at glennklockwood.com/garden/processors/A100
    "NVIDIA A100-SXM4-80GB": 312e12,  # the same
    "NVIDIA H100 80GB HBM3": 989e12,  # SXM, 989.43 dense: hmc-tech.com/gpu/nvidia-gb200-vs-nvidia-h100-sxm
    "NVIDIA H200": 989e12,  # SXM, about 989 dense: itkb.uw.cz/2026/06/nvidia-h200-vs-b300-precisions-cores.html
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
