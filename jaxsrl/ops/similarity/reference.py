"""The definition: difflib itself, pair by pair."""

from difflib import SequenceMatcher

import numpy as np


def matched_length(a, a_len, b, b_len, *, autojunk: bool) -> np.ndarray:
    """[P] int32; concrete arrays only."""
    a, b = np.asarray(a), np.asarray(b)
    pairs = zip(a, np.asarray(a_len), b, np.asarray(b_len), strict=True)
    matched = [_matched(x[:n].tolist(), y[:m].tolist(), autojunk) for x, n, y, m in pairs]
    return np.array(matched, np.int32)


def _matched(a: list[int], b: list[int], autojunk: bool) -> int:
    blocks = SequenceMatcher(None, a, b, autojunk=autojunk).get_matching_blocks()
    return sum(block.size for block in blocks)
