"""Environment of a run by platform: each variable with why, where it is from, and when that was looked up.

All of it is set before Python starts, as JAX reads it when it is imported. What the user has set already wins.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxsrl.clusters.hardware import Hardware


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One setting. Flags of one variable are joined with a space.

    Args:
      variable: of the environment. value: or a flag of XLA within it.
      only: `slices` where there are several, `nodes` of GPUs; "" everywhere on the platform.
    """

    variable: str
    value: str
    reason: str
    source: str
    date: str
    only: str = ""


GPU_MEMORY = "docs.jax.dev/en/latest/gpu_memory_allocation.html"
GPU_TIPS = "docs.jax.dev/en/latest/gpu_performance_tips.html"
MAXTEXT = "github.com/AI-Hypercomputer/maxtext, benchmarks/xla_flags_library.py, DATA_PARALLEL_OVERLAP"

EVERYWHERE = (
    Flag(
        variable="PYTHONUNBUFFERED", value="1", reason="a log shows a line when it is written, not when it is full",
        source="docs.python.org/3/using/cmdline.html", date="2026-11-29",
    ),
)  # fmt: skip
PLATFORM = {
    "gpu": (
        Flag(
            variable="XLA_PYTHON_CLIENT_MEM_FRACTION", value="0.92",
            reason="JAX takes 75 % of a GPU unless told otherwise; plans fill 92 %", source=GPU_MEMORY,
            date="2026-11-29",
        ),
        Flag(
            variable="XLA_FLAGS", value="--xla_gpu_enable_latency_hiding_scheduler=true",
            reason="collectives run behind products", source=GPU_TIPS, date="2026-11-29", only="nodes",
        ),
        Flag(
            variable="NCCL_DEBUG", value="WARN", reason="a failing link says so in the log",
            source="docs.nvidia.com/deeplearning/nccl, environment variables", date="2026-11-29",
        ),
    ),
    "tpu": (
        Flag(
            variable="LIBTPU_INIT_ARGS", value="--xla_tpu_enable_data_parallel_all_reduce_opt=true",
            reason="sums of gradients between slices run behind the backward pass", source=MAXTEXT, date="2026-11-29",
            only="slices",
        ),
        Flag(
            variable="LIBTPU_INIT_ARGS", value="--xla_tpu_data_parallel_opt_different_sized_ops=true",
            reason="the same for sums of several sizes, as those of tables and layers are", source=MAXTEXT,
            date="2026-11-29", only="slices",
        ),
    ),
}  # fmt: skip


def flags_of(devices: Hardware) -> tuple[Flag, ...]:
    """What applies to these devices."""
    several = devices.groups > 1
    own = [flag for flag in PLATFORM[devices.chip.platform] if not flag.only or several]
    return *EVERYWHERE, *own


def environment(devices: Hardware | None, given: Mapping[str, str]) -> dict[str, str]:
    """Variable -> value; `given` replaces what is set here.

    Args:
      devices: None leaves the platform's out, as on a machine whose devices are not known.
    """
    out: dict[str, str] = {}
    for flag in EVERYWHERE if devices is None else flags_of(devices):
        out[flag.variable] = f"{out.get(flag.variable, '')} {flag.value}".strip()
    return out | dict(given)
