"""The gallop search of `xla.py` with Python integers as bit rows: exact, and several times faster than difflib.

Bit j of `row[i]` says that a[i] equals b[j]. A block of n rows that ends at row i is a bit that survives
`row[i] & row[i-1] << 1 & ... & row[i-n+1] << n-1`.
"""

import numpy as np


def matched_length(a, a_len, b, b_len, *, autojunk: bool) -> np.ndarray:
    """[P] int32; concrete arrays only."""
    a, b = np.asarray(a), np.asarray(b)
    pairs = zip(a, np.asarray(a_len), b, np.asarray(b_len), strict=True)
    matched = [_matched(x[:n].tolist(), y[:m].tolist(), autojunk) for x, n, y, m in pairs]
    return np.array(matched, np.int32)


def _matched(a: list[int], b: list[int], autojunk: bool) -> int:
    where: dict[int, int] = {}
    for j, element in enumerate(b):
        where[element] = where.get(element, 0) | 1 << j
    allowed = len(b) // 100 + 1 if autojunk and len(b) >= 200 else len(b)
    unpopular = {element: bits for element, bits in where.items() if bits.bit_count() <= allowed}
    row = [unpopular.get(element, 0) for element in a]
    total = 0
    todo = [(0, len(a), 0, len(b))] if a and b else []
    while todo:
        rectangle = top, bottom, left, right = todo.pop()
        i, j, size = _longest(row, *rectangle)
        if len(unpopular) < len(where):
            i, j, size = _prolong(a, b, i, j, size, *rectangle)
        if not size:
            continue
        total += size
        if top < i and left < j:
            todo.append((top, i, left, j))
        if i + size < bottom and j + size < right:
            todo.append((i + size, bottom, j + size, right))
    return total


def _longest(row: list[int], top: int, bottom: int, left: int, right: int) -> tuple[int, int, int]:
    """(i, j, size) of the longest block in the rectangle, the earliest in a, then in b; size 0 at its corner if none.

    A longer block than the best so far needs `size + 1` rows in a run, tested from the last one upwards: where the
    test dies at row z, every window over z is dead, and the next one to test begins below z.
    """
    columns = (1 << right) - (1 << left)
    start, found, size = top, 0, 0
    end = top
    while end < bottom:
        alive = row[end] & columns
        z = end
        while alive and z > end - size:
            z -= 1
            alive &= (row[z] & columns) << (end - z)
        if not alive:
            end = z + size + 1
            continue
        while alive:  # one row longer than the best; the next rows may prolong it
            size, found, start = size + 1, alive, end - size
            end += 1
            alive = (alive << 1) & row[end] & columns if end < bottom else 0
        end += 1  # that row ended the run: no longer window ends on it
    return (start, (found & -found).bit_length() - size, size) if size else (top, left, 0)


def _prolong(a, b, i, j, size, top, bottom, left, right) -> tuple[int, int, int]:
    """The block with its equal neighbours, popular ones included."""
    while i > top and j > left and a[i - 1] == b[j - 1]:
        i, j, size = i - 1, j - 1, size + 1
    while i + size < bottom and j + size < right and a[i + size] == b[j + size]:
        size += 1
    return i, j, size
