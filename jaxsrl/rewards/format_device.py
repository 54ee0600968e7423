"""The rules of `format.parse` on arrays: where in a text the action stands."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, UInt8

from jaxsrl.ops.text import first, occurrences, strip, whitespace
from jaxsrl.rewards.format import CLOSE, OPEN, Think

SOLUTION, END_SOLUTION = b"<solution>", b"</solution>"


class Action(NamedTuple):
    """The code points that begin at bytes begin <= p < end; begin < end iff the completion is well formed."""

    begin: Int[Array, ""]
    end: Int[Array, ""]
    formed: Bool[Array, ""]


def find_action(
    byte: UInt8[Array, "N"],
    size: Int[Array, ""],
    code: Int[Array, "N"],
    begins: Bool[Array, "N"],
    *,
    think: Think = "required",
) -> Action:
    """`parse(text, think=think)` of one text; see there for the rules.

    Args:
      byte, size: the text, zeros behind it.
      code, begins: of `ops.text.decode`.
    No mark overlaps another or itself, as `<` is the first character of each and of none another. So the one think
    block is well formed iff either of its marks occurs once, in this order, and the first is what the text begins with.
    """
    solid = begins & ~whitespace(code)
    opening, closing = occurrences(byte, OPEN.encode()), occurrences(byte, CLOSE.encode())
    opened, closed = first(opening), first(closing)
    once = (jnp.sum(opening) == 1) & (jnp.sum(closing) == 1)
    block = once & (opened == first(solid)) & (opened < closed)
    formed = block
    if think == "optional":
        formed |= ~opening.any() & ~closing.any()
    begin, end = strip(solid, jnp.where(block, closed + len(CLOSE), 0), size)
    begin, end = _unwrap(byte, solid, begin, end)
    formed &= begin < end
    return Action(jnp.where(formed, begin, 0), jnp.where(formed, end, 0), formed)


def _unwrap(byte, solid, begin, end):
    inner, outer = begin + len(SOLUTION), end - len(END_SOLUTION)
    wrapped = (inner <= outer) & _at(occurrences(byte, SOLUTION), begin) & _at(occurrences(byte, END_SOLUTION), outer)
    inner, outer = strip(solid, inner, outer)
    return jnp.where(wrapped, inner, begin), jnp.where(wrapped, outer, end)


def _at(found: Bool[Array, "N"], place: Int[Array, ""]) -> Bool[Array, ""]:
    return found[jnp.clip(place, 0, found.shape[0] - 1)]
