"""The gallop search compiled for the CPU (`host.cpp`): built once by a command, never on the way."""

import ctypes
import hashlib
import os
import platform
import sys
from functools import cache
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_suffix(".cpp")
COMMAND = "python -m jaxsrl.ops.similarity.build"
ROWS = 4096  # of all a, a thread: starting one costs about what these do


def matched_length(a, a_len, b, b_len, b_index, *, autojunk: bool) -> np.ndarray:
    """[P] int32; concrete arrays only, of any length. Pairs are spread over the CPUs this process may use.

    Raises: RuntimeError if the library is not built or cannot be loaded; ValueError for a length or index that points
      outside its array; MemoryError.
    """
    function = _load(library())
    arrays = [np.ascontiguousarray(x, np.int32) for x in (a, a_len, b, b_len, b_index)]
    _check(*arrays)
    a, a_len, b, b_len, b_index = arrays
    out = np.zeros(len(a), np.int32)
    threads = min(cpus(), 1 + int(a_len.sum(dtype=np.int64)) // ROWS, max(1, len(a)))
    at = [x.ctypes.data for x in (*arrays, out)]
    if function(*at[:2], a.shape[1], *at[2:4], b.shape[1], at[4], len(a), autojunk, threads, at[5]):
        raise MemoryError(f"no memory for the masks of {b.shape[1]} elements in {threads} threads")
    return out


def is_built() -> bool:
    """Whether this version of `host.cpp` has been built for this kind of machine and this user."""
    return library().is_file()


def library() -> Path:
    """Where the build belongs: the user's cache folder, the name being a hash of the source and of the platform."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "jaxsrl" / f"similarity-{_digest(SOURCE)}.so"


@cache
def _load(path: Path):
    if not path.is_file():
        raise RuntimeError(f"the backend 'host' is not built on this machine; build it with: {COMMAND}")
    try:
        function = ctypes.CDLL(str(path)).jaxsrl_matched_length
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"{path} cannot be loaded ({error}); delete it and run: {COMMAND}") from error
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    function.argtypes = [pointer, pointer, size, pointer, pointer, size, pointer, size, number, number, pointer]
    function.restype = number
    return function


def _check(a, a_len, b, b_len, b_index) -> None:
    """What the library trusts, lest it read outside the arrays."""
    if not a.shape[0] == len(a_len) == len(b_index) or b.shape[0] != len(b_len):
        raise ValueError(f"want one a_len and b_index per row of a {a.shape}, one b_len per row of b {b.shape}")
    for name, values, least, most in (
        ("a_len", a_len, 0, a.shape[1]),
        ("b_len", b_len, 0, b.shape[1]),
        ("b_index", b_index, 0, b.shape[0] - 1),
    ):
        if values.size and not least <= values.min() <= values.max() <= most:
            raise ValueError(f"{name} must lie in {least}..{most}, got {values.min()}..{values.max()}")


@cache
def _digest(source: Path) -> str:
    kind = "-".join([sys.platform, platform.machine(), *platform.libc_ver()])
    return hashlib.sha256(source.read_bytes() + kind.encode()).hexdigest()[:16]


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
