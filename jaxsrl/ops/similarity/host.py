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
NO_MEMORY, OUTSIDE = 1, 2  # what the library answers instead of 0


def matched_length(a, a_len, b, b_len, b_index, *, autojunk: bool) -> np.ndarray:
    """[P] int32; concrete arrays only, of any length. Pairs are spread over the CPUs this process may use.

    Raises: RuntimeError if the library is not built or cannot be loaded; ValueError for a length or index that points
      outside its array; MemoryError.
    """
    function = _load(library())
    arrays = [np.ascontiguousarray(x, np.int32) for x in (a, a_len, b, b_len, b_index)]
    a, a_len, b, b_len, b_index = arrays
    if not a.shape[0] == len(a_len) == len(b_index) or b.shape[0] != len(b_len):
        raise ValueError(f"want one a_len and b_index per row of a {a.shape}, one b_len per row of b {b.shape}")
    out = np.zeros(len(a), np.int32)
    at = [x.ctypes.data for x in (*arrays, out)]
    answer = function(*at[:2], a.shape[1], *at[2:4], b.shape[1], at[4], len(a), len(b), autojunk, cpus(), at[5])
    if answer == OUTSIDE:
        raise ValueError(_outside(*arrays))
    if answer == NO_MEMORY:
        raise MemoryError(f"no memory for the masks of {b.shape[1]} elements in up to {cpus()} threads")
    return out


def is_built() -> bool:
    """Whether this version of `host.cpp` has been built for this kind of machine and this user."""
    return library().is_file()


def library() -> Path:
    """Where the build belongs: the user's cache folder, the name being a hash of the source and of the platform."""
    return _library(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), SOURCE)


@cache  # a call of `matched_length` asks for it, and may take less than making the path
def _library(root: str, source: Path) -> Path:
    return Path(root) / "jaxsrl" / f"similarity-{_digest(source)}.so"


@cache
def _load(path: Path):
    if not path.is_file():
        raise RuntimeError(f"the backend 'host' is not built on this machine; build it with: {COMMAND}")
    try:
        function = ctypes.CDLL(str(path)).jaxsrl_matched_length
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"{path} cannot be loaded ({error}); delete it and run: {COMMAND}") from error
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    function.argtypes = [pointer, pointer, size, pointer, pointer, size, pointer, size, size, number, number, pointer]
    function.restype = number
    return function


def _outside(a, a_len, b, b_len, b_index) -> str:
    """Which of the values the library refused, lest it read outside the arrays."""
    bounds = {"a_len": (a_len, a.shape[1]), "b_len": (b_len, b.shape[1]), "b_index": (b_index, b.shape[0] - 1)}
    wrong = {name: (values, most) for name, (values, most) in bounds.items() if ((values < 0) | (values > most)).any()}
    name, (values, most) = next(iter(wrong.items()))
    return f"{name} must lie in 0..{most}, got {values.min()}..{values.max()}"


def _digest(source: Path) -> str:
    kind = "-".join([sys.platform, platform.machine(), *platform.libc_ver()])
    return hashlib.sha256(source.read_bytes() + kind.encode()).hexdigest()[:16]


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
