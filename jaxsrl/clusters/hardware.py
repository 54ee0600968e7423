"""Accelerators by the names that people order them by, and what one chip can do.

`v5e-16` is Google's accelerator type (v5litepod-16), `2xv5e-16` two slices of it, `h200` one GPU, `8xh200` a node of
eight, `2x8xh200` two such nodes.
"""

import difflib
import math
import re
from dataclasses import dataclass
from typing import Literal

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One device as a program sees it. Figures are the maker's, rates per second.

    Args:
      kind: JAX's `device_kind`.
      flops: of bfloat16 products, dense.
      hbm_bytes: that the compiler or the driver gives a program.
      hbm_rate: bytes from and to that memory.
      link_rate: bytes that a device receives from its neighbours on one axis of its torus, both directions together;
        of GPUs through NVLink.
      network_rate: bytes that a device receives from another slice or node, its share of the host's network card.
      source: where the figures are from.
    """

    name: str
    kind: str
    platform: Literal["tpu", "gpu"]
    flops: float
    hbm_bytes: int
    hbm_rate: float
    link_rate: float
    network_rate: float
    source: str


TPU_PAGES = "cloud.google.com/tpu/docs (system architecture of each version), 2026-11; HBM asked of libtpu 0.0.42.1"
GPU_PAGES = "NVIDIA's data sheets of H100 SXM and H200 SXM, 2026-11; a network card of 400 Gb/s for each GPU"


def _tpu(name, kind, flops, hbm, rate, link, network):
    return Chip(
        name=name, kind=kind, platform="tpu", flops=flops, hbm_bytes=int(hbm * GIB), hbm_rate=rate, link_rate=link,
        network_rate=network, source=TPU_PAGES,
    )  # fmt: skip


def _gpu(name, kind, hbm, rate):
    return Chip(
        name=name, kind=kind, platform="gpu", flops=989e12, hbm_bytes=hbm, hbm_rate=rate, link_rate=450e9,
        network_rate=50e9, source=GPU_PAGES,
    )  # fmt: skip


CHIPS = {
    "v5e": _tpu("v5e", "TPU v5 lite", 197e12, 15.75, 0.82e12, 90e9, 3.1e9),
    "v5p": _tpu("v5p", "TPU v5", 459e12, 95.74, 2.77e12, 180e9, 6.25e9),
    "v6e": _tpu("v6e", "TPU v6 lite", 918e12, 31.25, 1.64e12, 180e9, 12.5e9),
    "h100": _gpu("h100", "NVIDIA H100 80GB HBM3", 84_942_979_072, 3.35e12),
    "h200": _gpu("h200", "NVIDIA H200", 150_754_820_096, 4.8e12),
}
# Slices of each version: chips -> topology. Names of v5p count TensorCores, two on a chip; the others count chips.
FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
CUBES = {
    4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8", 512: "8x8x8",
    1024: "8x8x16",
}  # fmt: skip
TOPOLOGIES = {"v5e": FLAT, "v5p": CUBES, "v6e": FLAT}
CORES = {"v5e": 1, "v5p": 2, "v6e": 1}
GPUS_A_NODE = 8


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Devices of a run.

    Args:
      groups: slices of TPUs, or nodes of GPUs.
      group_devices: devices of one group.
      topology: of a slice, as libtpu names it; of GPUs "".
    """

    name: str
    chip: Chip
    groups: int
    group_devices: int
    topology: str = ""

    @property
    def devices(self) -> int:
        return self.groups * self.group_devices

    @property
    def host_devices(self) -> int:
        """Of one host: slices of up to 8 v5e or v6e are one host, larger ones have hosts of 4."""
        if self.chip.platform == "gpu":
            return self.group_devices
        return self.group_devices if self.chip.name != "v5p" and self.group_devices <= 8 else 4

    @property
    def hosts(self) -> int:
        return self.devices // self.host_devices

    @property
    def accelerator_type(self) -> str:
        """Of one slice, as Google's tools take it; of a node of GPUs, as Slurm and SkyPilot count them."""
        if self.chip.platform == "gpu":
            return f"{self.chip.name}:{self.group_devices}"
        version = {"v5e": "v5litepod"}.get(self.chip.name, self.chip.name)
        return f"{version}-{self.group_devices * CORES[self.chip.name]}"

    def described(self) -> str:
        """`v5p-16: 8 chips (2x2x2), 2 hosts, 95.7 GiB each`."""
        hosts = f"{self.hosts} host{'s' * (self.hosts > 1)}"
        what = {"tpu": "chip", "gpu": "GPU"}[self.chip.platform] + "s" * (self.devices > 1)
        slices = f"{self.groups} slices of {self.topology}" if self.groups > 1 and self.topology else self.topology
        shape = f" ({slices})" if slices else ""
        return f"{self.name}: {self.devices} {what}{shape}, {hosts}, {self.chip.hbm_bytes / GIB:.1f} GiB each"


def hardware(name: str) -> Hardware:
    """What a name stands for.

    Raises: ValueError naming the nearest name that there is, or the slices of that version.
    """
    found = re.fullmatch(r"(?:(\d+)x)?(?:(\d+)x)?([a-z]\w*?)(?:-(\d+))?", name.lower())
    chip = found and {"v5litepod": "v5e"}.get(found[3], found[3])
    if chip not in CHIPS:
        near = difflib.get_close_matches(name.lower(), examples(), 1, cutoff=0.0)[0]
        raise ValueError(f"no accelerator {name!r}; nearest is {near}; there are: {', '.join(examples())}")
    first, second, size = (int(x) if x else None for x in (found[1], found[2], found[4]))
    if CHIPS[chip].platform == "gpu":
        groups, each = (first, second) if second else (1, first or 1)
        if size is not None or not 0 < each <= GPUS_A_NODE or groups < 1:
            raise ValueError(
                f"{name!r}: GPUs are written {chip}, 8x{chip} (a node) or 2x8x{chip} (nodes of at most {GPUS_A_NODE})"
            )
        return Hardware(name=name, chip=CHIPS[chip], groups=groups, group_devices=each)
    sizes = {chips * CORES[chip]: (chips, shape) for chips, shape in TOPOLOGIES[chip].items()}
    if size not in sizes or second or first == 0:
        there = ", ".join(f"{chip}-{size}" for size in sizes)
        raise ValueError(f"{name!r} is no slice of {chip}; there are: {there}; 2x{chip}-{max(sizes)} are two slices")
    chips, shape = sizes[size]
    return Hardware(
        name=name, chip=CHIPS[chip], groups=first or 1, group_devices=chips, topology=f"{chip}:{shape}"
    )  # fmt: skip


def examples() -> list[str]:
    """A name of every kind."""
    return ["v5e-16", "v5litepod-16", "v5p-16", "v6e-64", "2xv5e-16", "h100", "h200", "8xh200", "2x8xh200"]


def gpu_description(chip: Chip) -> str:
    """What XLA's compiler for CUDA wants to know of a GPU that is not there, as its text format has it.

    Limits are those of compute capability 9.0 (CUDA C++ Programming Guide, table of compute capabilities).
    """
    return f"""gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  memory_bandwidth: {int(chip.hbm_rate)} l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: {chip.hbm_bytes} shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{chip.kind}"
"""


def axis_link(chip: Chip, groups: int, axes: tuple[str, ...], sizes: dict[str, int]) -> str:
    """`ici`, `nvlink`, or `network` where the devices of a collective lie in several slices or nodes.

    Args:
      axes: of the mesh, along which the devices of the collective differ; sizes: of all axes, outermost first.
    """
    inside = math.prod(sizes.values()) // groups
    stride = 1
    for axis in reversed(sizes):
        stride *= sizes[axis]
        if axis in axes and sizes[axis] > 1 and stride > inside:
            return "network"
    return "ici" if chip.platform == "tpu" else "nvlink"
