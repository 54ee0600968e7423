"""Step similarity as `difflib.SequenceMatcher` defines it, to the last integer."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Backend = Literal["reference", "host", "xla"]

# Pairs/s of math-like text on two shared CPU cores, actions of 25 / 100 / 300 characters, 300 again without autojunk:
#   reference  22k / 2.6k / 2.0k / 0.4k     host  45k / 8.8k / 4.2k / 3.1k     xla  60k / 4.5k / 0.4k / 0.4k
# `host` has nothing to compile, either. On an accelerator `xla` keeps the elements where they are.
DEFAULT: dict[str, Backend] = {"cpu": "host", "gpu": "xla", "tpu": "xla"}


def matched_length(
    a: Int[Array, "P A"],
    a_len: Int[Array, "P"],
    b: Int[Array, "P B"],
    b_len: Int[Array, "P"],
    *,
    autojunk: bool,
    backend: Backend | None = None,
) -> Int[Array, "P"]:
    """M: elements in the matching blocks of each pair: the longest common block, then the same left and right of it.

    Equal to `sum(n for *_, n in SequenceMatcher(None, a, b, autojunk).get_matching_blocks())`.

    Args:
      a, b: elements (code points, word or token ids), int32; b is the expert's. The order matters: ties go to the
        block that is earliest in a, and only b decides what is popular.
      a_len, b_len: elements that count, 0..A and 0..B; what stands behind them is never looked at.
      autojunk: difflib's default. In a `b` of 200 elements or more, elements that make up more than about 1 % of it
        cannot begin or carry a block, only prolong one.
      backend: runs or raises. `reference` and `host` need concrete arrays and return one of NumPy. None takes
        DEFAULT's for `jax.default_backend()`, and inside a transformation always `xla`.
    Raises: ValueError for an unknown backend or shapes that do not fit; TypeError if a host backend is traced.
    Source: CPython's difflib; Ratcliff and Metzener, Dr. Dobb's Journal, July 1988.
    """
    arrays = (a, a_len, b, b_len)
    _check_shapes(*arrays)
    traced = any(isinstance(x, jax.core.Tracer) for x in arrays)
    backend = backend or ("xla" if traced else DEFAULT[jax.default_backend()])
    match backend:
        case "reference":
            from jaxsrl.ops.similarity.reference import matched_length as impl
        case "host":
            from jaxsrl.ops.similarity.host import matched_length as impl
        case "xla":
            from jaxsrl.ops.similarity.xla import matched_length as impl
        case unknown:
            raise ValueError(f"unknown backend {unknown!r}, have 'reference', 'host' and 'xla'")
    if traced and backend != "xla":
        raise TypeError(f"backend {backend!r} runs on the host and needs concrete arrays; under jit or vmap use 'xla'")
    return impl(*arrays, autojunk=autojunk)


def ratio(
    a: Int[Array, "P A"],
    a_len: Int[Array, "P"],
    b: Int[Array, "P B"],
    b_len: Int[Array, "P"],
    *,
    autojunk: bool,
    backend: Backend | None = None,
) -> Float[Array, "P"]:
    """2M / (|a| + |b|) in float32, in 0..1; 1 for two empty sequences. Arguments and errors as `matched_length`."""
    matched = jnp.asarray(matched_length(a, a_len, b, b_len, autojunk=autojunk, backend=backend))
    total = jnp.asarray(a_len) + jnp.asarray(b_len)
    return jnp.where(total == 0, 1.0, 2.0 * matched.astype(jnp.float32) / jnp.maximum(total, 1).astype(jnp.float32))


def _check_shapes(a, a_len, b, b_len) -> None:
    shapes = [np.shape(x) for x in (a, a_len, b, b_len)]
    ranks = [len(s) for s in shapes]
    if ranks != [2, 1, 2, 1] or len({s[0] for s in shapes}) != 1:
        raise ValueError(f"want a [P A], a_len [P], b [P B], b_len [P], got shapes {shapes}")
