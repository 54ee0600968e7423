"""The Pallas kernels for machines that are not there: their lowered text, and what the real compilers say."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, SingleDeviceSharding

from jaxsrl.ops.similarity import pallas_gpu, pallas_tpu

# What the compiler needs to know of an H100; an H200 differs in the size and speed of its memory alone.
HOPPER = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def arguments(pairs, length, sharding=None):
    """Shapes of a batch whose experts serve eight pairs each."""
    of = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding)
    return of(pairs, length), of(pairs), of(pairs // 8, length), of(pairs // 8), of(pairs)


def traced_gpu(*args, autojunk):
    return pallas_gpu.with_row_reads.trace(*args, autojunk=autojunk, interpret=False)


def traced_tpu(*args, autojunk):
    return pallas_tpu._matched.trace(*args, autojunk=autojunk, interpret=False)


def test_gpu_text_holds_the_kernel_and_no_callback():
    device = AbstractDevice("NVIDIA H100 80GB HBM3", num_cores=132, platform="cuda")
    mesh = AbstractMesh((1,), ("x",), axis_types=(AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        text = traced_gpu(*arguments(16, 200), autojunk=True).lower(lowering_platforms=("cuda",)).as_text()
    assert "mosaic_gpu" in text and "callback" not in text


def test_tpu_text_holds_the_kernels_and_no_callback():
    text = traced_tpu(*arguments(16, 200), autojunk=True).lower(lowering_platforms=("tpu",)).as_text()
    assert "tpu_custom_call" in text and "callback" not in text
    assert all(f"similarity_{name}" in text for name in ("equal", "down", "up"))


# 4,096 elements are what fits least: v5p has half of v5e's on-chip memory.
TPU_CASES = [("v5e:2x2", 128, False), ("v5p:2x2x1", 4096, True), ("v6e:2x2", 200, True)]


@pytest.mark.needs("libtpu")
@pytest.mark.parametrize("chip, length, autojunk", TPU_CASES, ids=[chip for chip, *_ in TPU_CASES])
def test_tpu_compiles(chip, length, autojunk, monkeypatch):
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    device = topologies.get_topology_desc(platform="tpu", topology_name=chip).devices[0]
    args = arguments(1024, length, SingleDeviceSharding(device))
    compiled = traced_tpu(*args, autojunk=autojunk).lower(lowering_platforms=("tpu",)).compile()
    assert compiled.as_text().count("tpu_custom_call") >= 3
    assert compiled.memory_analysis().temp_size_in_bytes < 3 << 30  # `equal` of one group: 2 GiB at 4,096


@pytest.mark.needs("jax_cuda13_plugin", "jax_cuda13_pjrt")
@pytest.mark.parametrize("length, autojunk", [(128, False), (4096, True)])
def test_gpu_compiles(length, autojunk):
    topology = topologies.get_topology_desc(platform="cuda", target_config=HOPPER, topology="1x1x1")
    args = arguments(64, length, SingleDeviceSharding(topology.devices[0]))
    compiled = traced_gpu(*args, autojunk=autojunk).lower().compile()
    assert "mosaic_gpu" in compiled.as_text()
