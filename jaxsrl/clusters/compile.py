"""A program compiled for devices that are not there: what its compiler says of memory and collectives.

Only shapes go in. libtpu compiles for TPUs, JAX's CUDA plugin for GPUs; each is asked for nothing else.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
from jax.experimental import topologies

from jaxsrl.clusters.collectives import Collective, collectives
from jaxsrl.clusters.hardware import Hardware, gpu_description

Effort = Literal["quick", "full"]
# libtpu's own effort levels: `quick` compiles several times as fast, and its memory may differ by a GiB or two.
EFFORT = {"quick": 9, "full": 29}
PACKAGE = {"tpu": "libtpu", "gpu": "jax_cuda13_plugin"}
INSTALL = {
    "tpu": "pip install 'jaxsrl[tpu]'",
    "gpu": "pip install 'jaxsrl[gpu]'",
}
# libtpu reads these when it is loaded: it is to ask no metadata server, and to mind no other process with it.
LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8", "TPU_WORKER_ID": "0",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A program of a stage, and what lies in memory around it.

    Args:
      phase: of the step, see `programs.PHASES`.
      run: jitted. mesh: the program's own; the sampler has another than the learner.
      args: (part of memory, shapes with where they lie), in the order of the arguments.
      buffers: part -> bytes on a device of what the program makes and holds, known from shapes: caches, gradients.
      beside: part -> bytes on a device of arrays of the run that lie there meanwhile.
      turns: of loops that do not say how often they run, a sampler's, the outer one first.
      times: how often it runs in an optimizer step; of an evaluation, in one evaluation.
    """

    stage: str
    phase: str
    run: Callable
    mesh: jax.sharding.Mesh
    args: tuple[tuple[str, Any], ...]
    times: float = 1
    buffers: Mapping[str, int] = field(default_factory=dict)
    beside: Mapping[str, int] = field(default_factory=dict)
    turns: tuple[int, ...] = ()

    @property
    def parts(self) -> dict[str, int]:
        """Part -> bytes on one device of arguments and known buffers."""
        found: dict[str, int] = {}
        for part, tree in self.args:
            found[part] = found.get(part, 0) + device_bytes(tree)
        for part, size in self.buffers.items():
            found[part] = found.get(part, 0) + size
        return {part: size for part, size in found.items() if size}


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is known of one program on one device, in bytes.

    Args:
      peak_bytes: the most that it holds at once, arguments and results included; what it would need where refused.
      parts: of arguments and known buffers, exact; what the peak has beyond them is the compiler's own.
      beside: arrays of the run that lie there meanwhile.
      compiled: whether a compiler said it; else it is `memory.py`'s estimate.
      refused: the compiler's words where it found no way to fit the program, which then has no collectives.
    """

    stage: str
    phase: str
    times: float
    peak_bytes: int
    parts: Mapping[str, int]
    beside: Mapping[str, int]
    collectives: tuple[Collective, ...] = ()
    compiled: bool = True
    refused: str = ""

    @property
    def other_bytes(self) -> int:
        """Of the peak, what is no argument and no known buffer."""
        return max(0, self.peak_bytes - sum(self.parts.values()))

    @property
    def needed_bytes(self) -> int:
        return self.peak_bytes + sum(self.beside.values())


def device_bytes(tree: Any) -> int:
    """That one device holds of placed shapes."""
    return sum(_leaf_bytes(x) for x in jax.tree.leaves(tree))


def _leaf_bytes(x) -> int:
    size = 8 if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x.dtype.itemsize
    shape = (
        x.shape if not isinstance(x, jax.ShapeDtypeStruct) or x.sharding is None else x.sharding.shard_shape(x.shape)
    )
    return math.prod(shape) * size


def has_compiler(devices: Hardware) -> bool:
    """Whether the package that compiles for these devices is installed."""
    return importlib.util.find_spec(PACKAGE[devices.chip.platform]) is not None


def describe_devices(devices: Hardware) -> list[jax.Device]:
    """Devices to compile for, which need not be there.

    Raises: ValueError naming the package that is missing, with its install command.
    """
    platform = devices.chip.platform
    if not has_compiler(devices):
        raise ValueError(f"compiling for {devices.name} needs {PACKAGE[platform]}: {INSTALL[platform]}")
    if platform == "gpu":
        return topologies.get_topology_desc(
            platform="cuda", target_config=gpu_description(devices.chip),
            topology=f"1x{devices.groups}x{devices.group_devices}",
        ).devices  # fmt: skip
    for name, value in LIBTPU.items():
        os.environ.setdefault(name, value)
    more = {"num_slices": devices.groups} if devices.groups > 1 else {}
    if devices.group_devices == 1:
        more["chips_per_host_bounds"] = (1, 1, 1)
    return topologies.get_topology_desc(platform="tpu", topology_name=devices.topology, **more).devices


def compile_program(wanted: Wanted, devices: Hardware, effort: Effort = "full", cache: Path | None = None) -> Program:
    """Compiles a program for its mesh, which lies on those devices.

    Args:
      cache: folder of what compilers said before, by a hash of program, devices, effort and compiler; None asks anew.
    Raises: whatever the compiler raises but for want of memory, which `Program.refused` says.
    """
    lowered = wanted.run.lower(*(tree for _, tree in wanted.args))
    sizes = dict(zip(wanted.mesh.axis_names, wanted.mesh.devices.shape, strict=True))
    path = None if cache is None else cache / f"{_key(lowered.as_text(), sizes, devices, effort, wanted.turns)}.json"
    if path is not None and path.exists():
        said = json.loads(path.read_text(encoding="utf-8"))
    else:
        said = _ask(lowered, wanted, sizes, devices, effort)
        if path is not None:
            cache.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(said), encoding="utf-8")
            os.replace(temporary, path)
    found = tuple(Collective(**one | {"axes": tuple(one["axes"])}) for one in said["collectives"])
    return Program(
        stage=wanted.stage, phase=wanted.phase, times=wanted.times, peak_bytes=said["peak"], parts=wanted.parts,
        beside=dict(wanted.beside), collectives=found, refused=said["refused"],
    )  # fmt: skip


def _ask(lowered, wanted: Wanted, sizes: Mapping[str, int], devices: Hardware, effort: Effort) -> dict[str, Any]:
    options = {"optimization_level": EFFORT[effort]} if devices.chip.platform == "tpu" else None
    try:
        compiled = lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError as error:
        return {"peak": _asked_for(error), "collectives": [], "refused": str(error).splitlines()[0]}
    found = collectives(compiled.as_text(), wanted.mesh.size, wanted.turns, sizes)
    peak = compiled.memory_analysis().peak_memory_in_bytes
    return {"peak": peak, "collectives": [asdict(one) for one in found], "refused": ""}


def _key(text: str, sizes: Mapping[str, int], devices: Hardware, effort: str, turns: tuple[int, ...]) -> str:
    """Of everything that the compiler's answer depends on."""
    package = {"tpu": "libtpu", "gpu": "jax-cuda13-plugin"}[devices.chip.platform]
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    whole = "\n".join([
        text, str(dict(sizes)),
        devices.chip.kind, devices.topology, str(devices.groups), str(devices.group_devices), effort, str(turns),
        package, version, jax.__version__, os.environ.get("LIBTPU_INIT_ARGS", ""), os.environ.get("XLA_FLAGS", ""),
    ])  # fmt: skip
    return hashlib.sha256(whole.encode()).hexdigest()[:32]


REFUSALS = (
    re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM"),
    re.compile(r"Used ([\d.]+)([KMGT])i?B? of [\d.]+[KMGT]i?B? hbm"),
)


def _asked_for(error: jax.errors.JaxRuntimeError) -> int:
    """Bytes that a refused program would need. Raises the error again where it is about something else."""
    if "RESOURCE_EXHAUSTED" in str(error):
        for pattern in REFUSALS:
            if found := pattern.search(str(error)):
                return int(float(found[1]) * 2 ** (10 * (1 + "KMGT".index(found[2]))))
    raise error
