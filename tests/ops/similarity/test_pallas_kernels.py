"""Both Pallas kernels in interpret mode, by one test body: equal to difflib on every pair."""

import random
from functools import partial

import numpy as np
import pytest

from jaxsrl.ops.similarity import pallas_gpu
from jaxsrl.ops.similarity.reference import matched_length as difflib_length

KERNELS = {"pallas_gpu": partial(pallas_gpu.matched_length, _interpret=True)}
GROUP = 4  # sequences compared with one expert


@pytest.fixture(params=list(KERNELS))
def kernel(request):
    return KERNELS[request.param]


def sequence(rng, length):
    """Elements from an alphabet of 1 to 5,000, or a period of 1 to 5; any int32 may be an element."""
    shift = rng.choice([0, -3, 2**31 - 5001, -(2**31)])
    period = rng.choice([0, 0, 0, 1, 2, 3, 5])
    if period:
        return [shift + k % period for k in range(length)]
    alphabet = rng.choice([1, 2, 3, 5, 20, 60, 300, 5000])
    return [shift + rng.randrange(alphabet) for _ in range(length)]


def mutated(rng, expert, longest):
    """A copy with elements changed, cut out, put in, or a stretch moved: what a rollout looks like."""
    copy = list(expert)
    for _ in range(rng.choice([0, 1, 1 + len(copy) // 20, 1 + len(copy) // 4])):
        at = rng.randrange(len(copy) + 1)
        copy[at : at + rng.randrange(3)] = sequence(rng, rng.randrange(3)) + copy[:1] * rng.randrange(2)
    cut = rng.randrange(len(copy) + 1) if rng.random() < 0.3 else 0
    return (copy[cut:] + copy[:cut])[:longest]


def batch(seed, experts, longest, lengths):
    """a [P A], a_len, b [Q B], b_len, b_index: every expert serves GROUP sequences; behind a length stands noise."""
    rng = random.Random(seed)
    length = lambda: min(longest, rng.choice([*lengths, rng.randrange(longest + 1)]))
    b = [sequence(rng, length()) for _ in range(experts)]
    index = [q for q in range(experts) for _ in range(GROUP)]
    rng.shuffle(index)
    a = [mutated(rng, b[q], longest) if rng.random() < 0.7 else sequence(rng, length()) for q in index]
    return *padded(rng, a, longest), *padded(rng, b, longest), np.array(index, np.int32)


def padded(rng, rows, width):
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 3, (len(rows), width), np.int32)
    for row, values in zip(noise, rows, strict=True):
        row[: len(values)] = values
    return noise, np.array([len(x) for x in rows], np.int32)


def swapped(a, a_len, b, b_len, b_index):
    """The same pairs with the arguments exchanged: each sequence is the expert of one pair."""
    return b[b_index], b_len[b_index], a, a_len, np.arange(len(a), dtype=np.int32)


def expected(pairs, autojunk, slow=difflib_length):
    a, a_len, b, b_len, b_index = pairs
    return slow(a, a_len, b[b_index], b_len[b_index], autojunk=autojunk)


@pytest.mark.parametrize("order", [lambda *pairs: pairs, swapped], ids=["a-b", "b-a"])
@pytest.mark.parametrize(
    "experts, longest, lengths, autojunk",
    [(500, 33, (0, 1, 31, 32, 33), False), (64, 201, (199, 200, 201), False), (64, 201, (199, 200, 201), True)],
    ids=["33", "201", "201-autojunk"],
)
def test_equals_difflib(kernel, experts, longest, lengths, autojunk, order):
    pairs = order(*batch(longest + autojunk, experts, longest, lengths))
    np.testing.assert_array_equal(kernel(*pairs, autojunk=autojunk), expected(pairs, autojunk))
