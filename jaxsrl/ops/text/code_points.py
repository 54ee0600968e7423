"""Texts to code points, on the host: what is known before a program runs."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def code_points(text: str) -> Int[np.ndarray, "T"]:
    """`[ord(c) for c in text]`, int32; a lone surrogate stays one."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int32)


def padded_code_points(texts: Sequence[str], *, room: int) -> tuple[Int[np.ndarray, "N B"], Int[np.ndarray, "N"]]:
    """(code points of each text, zeros behind them; how many it has). B is `room`.

    A longer text keeps its first `room` code points and its true length, so that a reader can tell.
    """
    code = np.zeros((len(texts), room), np.int32)
    for row, text in enumerate(texts):
        found = code_points(text[:room])
        code[row, : len(found)] = found
    return code, np.array([len(text) for text in texts], np.int32)
