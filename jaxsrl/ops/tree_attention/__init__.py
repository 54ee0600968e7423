"""Attention in which a token sees its own path through a tree, several trees to a row."""

from typing import Literal

import jax
from jaxtyping import Array, Float, Int

Backend = Literal["reference", "xla"]

DEFAULT: dict[str, Backend] = {"cpu": "xla", "gpu": "xla", "tpu": "xla"}


def tree_attention(
    q: Float[Array, "R T N H"],
    k: Float[Array, "R T K H"],
    v: Float[Array, "R T K H"],
    *,
    position: Int[Array, "R T"],
    enter: Int[Array, "R T"],
    leave: Int[Array, "R T"],
    backend: Backend | None = None,
) -> Float[Array, "R T N H"]:
    """softmax(q k^T / sqrt(H)) v over the tokens q may see; each of the K heads of k and v serves N / K of q.

    Token q sees token k iff enter[k] <= enter[q] < leave[k] and position[k] <= position[q], and itself in any case,
    so that padding, whose interval is empty, stays finite.

    Args:
      backend: one that runs or raises; None takes the one `DEFAULT` names for the platform.
    Raises: ValueError if the backend is unknown or the heads do not divide.
    """
    if q.shape[2] % k.shape[2]:
        raise ValueError(f"{q.shape[2]} query heads must be a multiple of {k.shape[2]} key-value heads")
    match backend or DEFAULT.get(jax.default_backend(), "xla"):
        case "reference":
            from jaxsrl.ops.tree_attention.reference import tree_attention as impl
        case "xla":
            from jaxsrl.ops.tree_attention.xla import tree_attention as impl
        case unknown:
            raise ValueError(f"unknown backend {unknown!r}; there are: reference, xla")
    return impl(q, k, v, position=position, enter=enter, leave=leave)
