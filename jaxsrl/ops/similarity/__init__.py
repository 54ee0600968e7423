"""Step similarity as `difflib.SequenceMatcher` defines it, to the last integer, and two measures beside it."""

from collections.abc import Hashable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Backend = Literal["reference", "gallop", "host", "xla", "pallas_gpu", "pallas_tpu"]

# By platform. `host` is compiled by a command of its own (`launch/setup.sh` gives it); where it is not built `xla`
# stands in, which compiles for a second or two at each new shape: rewards come in few (`rewards/similarity.py`).
DEFAULT: dict[str, Backend] = {"cpu": "host", "gpu": "pallas_gpu", "tpu": "pallas_tpu"}
ON_HOST = ("reference", "gallop", "host")  # need concrete arrays and return one of NumPy
LONGEST = 4096  # elements a side


def matched_length(
    a: Int[Array, "P A"],
    a_len: Int[Array, "P"],
    b: Int[Array, "Q B"],
    b_len: Int[Array, "Q"],
    *,
    autojunk: bool,
    b_index: Int[Array, "P"] | None = None,
    backend: Backend | None = None,
) -> Int[Array, "P"]:
    """M: elements in the matching blocks of each pair: the longest common block, then the same left and right of it.

    Equal to `sum(n for *_, n in SequenceMatcher(None, a, b, autojunk).get_matching_blocks())`.

    Args:
      a, b: elements (code points, word or token ids), int32; b is the expert's. The order matters: ties go to the
        block that is earliest in a, and only b decides what is popular. At most 4,096 a side.
      a_len, b_len: elements that count, 0..A and 0..B; what stands behind them is never looked at.
      autojunk: difflib's default. In a `b` of 200 elements or more, elements that make up more than about 1 % of it
        cannot begin or carry a block, only prolong one.
      b_index: row of b that each pair is compared with, 0..Q-1: one expert action serves its group, and its masks are
        built once. None: b has a row per pair.
      backend: runs or raises. `reference`, `gallop` and `host` run on the host. None takes that of `default_backend`;
        inside a transformation `xla` where that one runs on the host.
    Raises: ValueError for an unknown backend, shapes that do not fit or are too long; TypeError if a backend of the
      host is traced; RuntimeError if the machine cannot run the backend.
    Source: CPython's difflib; Ratcliff and Metzener, Dr. Dobb's Journal, July 1988.
    """
    arrays = (a, a_len, b, b_len) if b_index is None else (a, a_len, b, b_len, b_index)
    _check_shapes(a, a_len, b, b_len, b_index)
    traced = any(isinstance(x, jax.core.Tracer) for x in arrays)
    asked, backend = backend, backend or default_backend()
    if traced and backend in ON_HOST:
        if asked:
            raise TypeError(
                f"backend {asked!r} runs on the host and needs concrete arrays; under jit or vmap use 'xla'"
            )
        backend = "xla"
    match backend:
        case "reference":
            from jaxsrl.ops.similarity.reference import matched_length as impl
        case "gallop":
            from jaxsrl.ops.similarity.gallop import matched_length as impl
        case "host":
            from jaxsrl.ops.similarity.host import matched_length as impl
        case "xla":
            from jaxsrl.ops.similarity.xla import matched_length as impl
        case "pallas_gpu":
            from jaxsrl.ops.similarity.pallas_gpu import matched_length as impl
        case "pallas_tpu":
            from jaxsrl.ops.similarity.pallas_tpu import matched_length as impl
        case unknown:
            raise ValueError(f"unknown backend {unknown!r}, have {', '.join(map(repr, get_args(Backend)))}")
    if b_index is None:
        b_index = np.arange(np.shape(a)[0], dtype=np.int32)
    return impl(a, a_len, b, b_len, b_index, autojunk=autojunk)


def default_backend() -> Backend:
    """What `backend=None` stands for on this machine, outside of transformations."""
    from jaxsrl.ops.similarity.host import is_built

    chosen = DEFAULT[jax.default_backend()]
    return "xla" if chosen == "host" and not is_built() else chosen


def ratio(
    a: Int[Array, "P A"],
    a_len: Int[Array, "P"],
    b: Int[Array, "Q B"],
    b_len: Int[Array, "Q"],
    *,
    autojunk: bool,
    b_index: Int[Array, "P"] | None = None,
    backend: Backend | None = None,
) -> Float[Array, "P"]:
    """2M / (|a| + |b|) in float32, in 0..1; 1 for two empty sequences. Arguments and errors as `matched_length`."""
    matched = matched_length(a, a_len, b, b_len, autojunk=autojunk, b_index=b_index, backend=backend)
    return _share(matched, a_len, b_len, b_index)


def lcs_length(
    a: Int[Array, "P A"],
    a_len: Int[Array, "P"],
    b: Int[Array, "Q B"],
    b_len: Int[Array, "Q"],
    *,
    b_index: Int[Array, "P"] | None = None,
) -> Int[Array, "P"]:
    """Elements of the longest common subsequence, which unlike matching blocks may have gaps anywhere.

    On any device; arguments as `matched_length`. Source: Hyyro, "Bit-parallel LCS-length computation revisited" (2004).
    """
    from jaxsrl.ops.similarity.lcs import lcs_length as impl

    _check_shapes(a, a_len, b, b_len, b_index)
    b_index = np.arange(np.shape(a)[0], dtype=np.int32) if b_index is None else b_index
    return impl(a, a_len, b, b_len, b_index)


def indel_ratio(
    a: Int[Array, "P A"],
    a_len: Int[Array, "P"],
    b: Int[Array, "Q B"],
    b_len: Int[Array, "Q"],
    *,
    b_index: Int[Array, "P"] | None = None,
) -> Float[Array, "P"]:
    """2 LCS / (|a| + |b|): one minus the normalised number of insertions and deletions, as rapidfuzz's Indel."""
    return _share(lcs_length(a, a_len, b, b_len, b_index=b_index), a_len, b_len, b_index)


def blocks(a: Sequence[Hashable], b: Sequence[Hashable], *, autojunk: bool) -> list[tuple[int, int, int]]:
    """The matching blocks (start in a, start in b, length) in order; of texts, or of lists of words or ids; any length.

    Equal to difflib's `get_matching_blocks` without the empty one at its end. Runs on the host.
    """
    from jaxsrl.ops.similarity.gallop import matching_blocks

    return matching_blocks(a, b, autojunk)


def _share(matched, a_len, b_len, b_index) -> Float[Array, "P"]:
    own = jnp.asarray(b_len) if b_index is None else jnp.asarray(b_len)[jnp.asarray(b_index)]
    total = jnp.asarray(a_len) + own
    common = 2.0 * jnp.asarray(matched).astype(jnp.float32)
    return jnp.where(total == 0, 1.0, common / jnp.maximum(total, 1).astype(jnp.float32))


def _check_shapes(a, a_len, b, b_len, b_index) -> None:
    shapes = [np.shape(x) for x in (a, a_len, b, b_len)]
    pairs = np.shape(b_index) if b_index is not None else shapes[3]
    if [len(s) for s in shapes] != [2, 1, 2, 1] or len(pairs) != 1:
        raise ValueError(f"want a [P A], a_len [P], b [Q B], b_len [Q], b_index [P], got shapes {shapes} and {pairs}")
    if not shapes[0][0] == shapes[1][0] == pairs[0] or shapes[2][0] != shapes[3][0]:
        raise ValueError(f"numbers of pairs or of experts differ: got shapes {shapes} and {pairs} of b_index")
    if max(shapes[0][1], shapes[2][1]) > LONGEST:
        raise ValueError(
            f"sequences of up to {LONGEST} elements can be compared, got shapes {shapes}; cut them, or compare words "
            "or tokens instead of characters"
        )
