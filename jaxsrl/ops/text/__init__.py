"""Text as arrays: token ids -> bytes -> code points, and what one looks for in them. Every function is of one text.

A text of static size N is its bytes, zero from `size` on; its code points stand where their first bytes do. `jax.vmap`
makes a batch of it. Nothing here leaves the device, `code_points` and `padded_code_points` aside: they make host arrays
of texts that are known before.
"""

from jaxsrl.ops.text.code_points import code_points, padded_code_points
from jaxsrl.ops.text.detokenize import join
from jaxsrl.ops.text.search import compress, first, occurrences, strip, whitespace
from jaxsrl.ops.text.utf8 import decode

__all__ = [
    "code_points", "compress", "decode", "first", "join", "occurrences", "padded_code_points", "strip", "whitespace",
]  # fmt: skip
