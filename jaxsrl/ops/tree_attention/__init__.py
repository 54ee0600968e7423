"""Attention in which a token sees its own path through a tree, several trees to a row."""

from typing import Any, Literal

import jax
from jaxtyping import Array, Float, Int

from jaxsrl.ops.tree_attention.schedule import KEPT as KEPT
from jaxsrl.ops.tree_attention.schedule import Schedule, Tiles, schedule
from jaxsrl.ops.tree_attention.visits import MOST_VISITS, Blocks, Visits, visits

Backend = Literal["reference", "xla", "pallas_tpu"]
Plan = Visits | Schedule  # what `pallas_tpu` and `xla` make of a batch

DEFAULT: dict[str, Backend] = {"cpu": "xla", "gpu": "xla", "tpu": "pallas_tpu"}

# How `xla` cuts its work. CPU: the 2^17 float32 scores of four heads stay in a second-level cache. Accelerators
# have not been measured: larger steps, as each costs the start of some kernels.
TILES: dict[str, Tiles] = {
    "cpu": Tiles(tile=64, group=8, queries=4, keys=2, near=16),
    "gpu": Tiles(tile=128, group=32, queries=8, keys=2, near=16),
    "tpu": Tiles(tile=128, group=32, queries=8, keys=2, near=16),
}

BLOCKS = Blocks(queries=128, keys=256)  # of `pallas_tpu`


def tree_attention(
    q: Float[Array, "R T N H"],
    k: Float[Array, "R T K H"],
    v: Float[Array, "R T K H"],
    *,
    position: Int[Array, "R T"],
    enter: Int[Array, "R T"],
    leave: Int[Array, "R T"],
    window: Int[Array, ""] | None = None,
    plan: Plan | None = None,
    backend: Backend | None = None,
    platform: str | None = None,
) -> Float[Array, "R T N H"]:
    """softmax(q k^T / sqrt(H)) v over the tokens q may see; each of the K heads of k and v serves N / K of q.

    Token q sees token k iff enter[k] <= enter[q] < leave[k] and position[k] <= position[q], and itself in any case,
    so that padding, whose interval is empty, stays finite.

    Tokens of a row stand in depth-first order: a node's tokens, then the subtrees of its children one after another. So
    nobody stands before what it sees, and `enter` never falls but to padding. `xla` needs that order, which shapes
    cannot show; in any other it leaves pairs out. `reference` takes any.

    Args:
      window: tokens on its path that a token sees at most, itself included: position[q] - position[k] < window.
      plan: what `make_plan` made of the same rows and window, so that not every layer makes it; None makes it here.
      backend: one that runs or raises; None takes the one `DEFAULT` names for the platform, but `xla` for a batch whose
        visits do not fit a TPU's scalar memory.
      platform: that the program is for; None is JAX's default.
    Raises: ValueError if the backend is unknown, a shape does not fit or the heads do not divide; RuntimeError if a
      named backend is one of another platform.
    """
    rows, length, heads, width = q.shape
    if k.shape != v.shape or k.shape[:2] != (rows, length) or k.shape[3] != width:
        raise ValueError(f"shapes do not fit: {q.shape=} {k.shape=} {v.shape=}")
    if heads % k.shape[2]:
        raise ValueError(f"{heads} query heads must be a multiple of {k.shape[2]} key-value heads")
    settings: dict[str, Any] = {}
    platform = platform or jax.default_backend()
    match backend or _default(platform, rows, length):
        case "reference":
            from jaxsrl.ops.tree_attention.reference import tree_attention as impl
        case "xla":
            from jaxsrl.ops.tree_attention.xla import tree_attention as impl

            settings = {"tiles": _tiles(platform), "plan": plan}
        case "pallas_tpu":
            from jaxsrl.ops.tree_attention.pallas_tpu import tree_attention as impl

            if platform != "tpu":
                raise RuntimeError(f"'pallas_tpu' needs a TPU, this is {platform!r}; use backend='xla'")
            settings = {"blocks": BLOCKS, "plan": plan}
        case unknown:
            raise ValueError(f"unknown backend {unknown!r}; there are: reference, xla, pallas_tpu")
    return impl(q, k, v, position=position, enter=enter, leave=leave, window=window, **settings)


def make_plan(
    position: Int[Array, "R T"], enter: Int[Array, "R T"], leave: Int[Array, "R T"], *,
    window: Int[Array, ""] | None = None, backend: Backend | None = None, platform: str | None = None,
) -> Plan | None:  # fmt: skip
    """What the backend makes of a batch once for all layers with the same window; None where it makes nothing."""
    platform = platform or jax.default_backend()
    match backend or _default(platform, *position.shape):
        case "xla":
            return schedule(_tiles(platform).fit(*position.shape), position, enter, leave, window)
        case "pallas_tpu":
            return visits(BLOCKS.fit(position.shape[1]), position, enter, leave, window)
        case _:
            return None


def _tiles(platform: str) -> Tiles:
    return TILES.get(platform, TILES["gpu"])


def _default(platform: str, rows: int, length: int) -> Backend:
    named = DEFAULT.get(platform, "xla")
    too_many = BLOCKS.fit(length).most_visits(rows, length) > MOST_VISITS
    return "xla" if named == "pallas_tpu" and too_many else named
