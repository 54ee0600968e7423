"""Text as arrays: token ids -> bytes -> code points, and what one looks for in them. Every function is of one text.

A text of static size N is its bytes, zero from `size` on; its code points stand where their first bytes do. `jax.vmap`
makes a batch of it. Nothing here leaves the device.
"""

from jaxsrl.ops.text.pieces import join
from jaxsrl.ops.text.search import compress, first, occurrences, strip, whitespace
from jaxsrl.ops.text.utf8 import decode

__all__ = ["compress", "decode", "first", "join", "occurrences", "strip", "whitespace"]
