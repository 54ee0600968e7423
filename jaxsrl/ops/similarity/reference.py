"""The definition: difflib itself, pair by pair."""

from difflib import SequenceMatcher

import numpy as np


def matched_length(a, a_len, b, b_len, b_index, *, autojunk: bool) -> np.ndarray:
    """[P] int32; concrete arrays only. Time is cubic in the length where a pair repeats itself."""
    a, b, own = np.asarray(a), np.asarray(b), np.asarray(b_index)
    pairs = zip(a, np.asarray(a_len), b[own], np.asarray(b_len)[own], strict=True)
    matched = [_matched(x[:n].tolist(), y[:m].tolist(), autojunk) for x, n, y, m in pairs]
    return np.array(matched, np.int32)


def _matched(a: list[int], b: list[int], autojunk: bool) -> int:
    blocks = SequenceMatcher(None, a, b, autojunk=autojunk).get_matching_blocks()
    return sum(block.size for block in blocks)
