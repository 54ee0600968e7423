"""Every backend gives difflib's integer, whatever the sequences."""

from difflib import SequenceMatcher
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.ops.similarity import matched_length, ratio

FAST = ("host", "xla")
FOX = ("the quick brown fox jumps over the lazy dog. " * 5)[:210]
EDITED = FOX.replace("fox", "cat").replace("dog", "pig")


def padded(sequences, width, junk=0):
    """At least eight rows, the last ones empty: every shape costs seconds of compilation."""
    sequences = [*sequences, *[[]] * (8 - len(sequences))]
    token = np.full((len(sequences), width), junk, np.int32)
    for row, sequence in enumerate(sequences):
        token[row, : len(sequence)] = sequence
    return token, np.array([len(s) for s in sequences], np.int32)


def expected(a, b, autojunk):
    blocks = [SequenceMatcher(None, x, y, autojunk=autojunk).get_matching_blocks() for x, y in zip(a, b, strict=True)]
    return np.array([sum(block.size for block in bs) for bs in blocks], np.int32)


def ids(text):
    return [ord(c) for c in text]


def sequences(rng, count, lengths, alphabets=(1, 2, 3, 5, 20, 60, 500, 5000)):
    """Pairs of every kind: independent, a mutated copy, periodic."""
    a, b = [], []
    for pair in range(count):
        alphabet = rng.choice(alphabets)
        x, y = (list(rng.integers(0, alphabet, rng.choice(lengths))) for _ in "ab")
        if pair % 3 == 0:
            x = mutated(rng, y, alphabet)[: max(lengths)]
        if pair % 11 == 0 and x and y:
            x, y = (s[: rng.integers(1, 4)] * len(s) for s in (x, y))
            x, y = x[: rng.choice(lengths)], y[: rng.choice(lengths)]
        a.append([int(i) for i in x])
        b.append([int(i) for i in y])
    return a, b


def mutated(rng, sequence, alphabet):
    out = list(sequence)
    for _ in range(rng.integers(0, 2 + len(out) // 8)):
        at = rng.integers(0, len(out) + 1)
        if rng.random() < 0.5:
            out[at : at + 1] = []
        else:
            out.insert(at, rng.integers(0, alphabet))
    return out


def check(a, b, width, autojunk, backend):
    found = matched_length(*padded(a, width, junk=1), *padded(b, width, junk=2), autojunk=autojunk, backend=backend)
    np.testing.assert_array_equal(found[: len(a)], expected(a, b, autojunk))


@pytest.mark.parametrize("backend", FAST)
def test_short_pairs_equal_difflib_in_both_orders(backend):
    a, b = sequences(np.random.default_rng(0), 1500, (0, 1, 2, 7, 15, 31, 32, 33, 50, 64))
    check(a, b, 64, True, backend)
    check(b, a, 64, True, backend)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("autojunk", [False, True])
def test_pairs_around_the_autojunk_threshold_equal_difflib_in_both_orders(backend, autojunk):
    lengths = (1, 33, 64, 150, 199, 200, 201, 230, 299, 300)
    a, b = sequences(np.random.default_rng(1), 120, lengths, alphabets=(1, 2, 5, 20, 60, 100, 150, 5000))
    check(a, b, 300, autojunk, backend)
    check(b, a, 300, autojunk, backend)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("n", [199, 200, 201, 299, 300])
def test_popularity_begins_at_one_percent_and_one(backend, n):
    """`count > n // 100 + 1`: n = 300 allows four, 299 three."""
    pairs = [([7] * k, [7] * k + list(range(1000, 1000 + n - k))) for k in (2, 3, 4, 5)]
    a, b = [p[0] + [9] for p in pairs], [p[1] for p in pairs]
    check(a, b, 300, True, backend)


def test_autojunk_begins_at_exactly_200():
    """The control of the tests above: on and off differ, and only from 200 elements on."""
    drop = {}
    for n in (199, 200):
        pair = (*padded([ids(EDITED[:n])], 200), *padded([ids(FOX[:n])], 200))
        drop[n] = int(matched_length(*pair, autojunk=False)[0]) - int(matched_length(*pair, autojunk=True)[0])
    assert drop[199] == 0 and drop[200] > 100


@pytest.mark.parametrize("backend", ["reference", "host", "xla"])
@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        ("abcd", "bcde", 0.75),
        ("tide", "diet", 0.25),
        ("diet", "tide", 0.5),
        ("", "", 1.0),
        ("x", "", 0.0),
        ("", "x", 0.0),
    ],
)
def test_ratio_goldens(backend, a, b, want):
    found = ratio(*padded([ids(a)], 64), *padded([ids(b)], 64), autojunk=True, backend=backend)
    assert found.dtype == jnp.float32 and found[0] == np.float32(want)


@pytest.mark.parametrize("backend", ["reference", "host", "xla"])
@pytest.mark.parametrize(("n", "on", "off"), [(199, 0.8844, 0.8844), (200, 0.0800, 0.8850), (210, 0.0762, 0.8905)])
def test_autojunk_goldens(backend, n, on, off):
    for autojunk, want in ((True, on), (False, off)):
        pair = (*padded([ids(EDITED[:n])], 300), *padded([ids(FOX[:n])], 300))
        assert abs(float(ratio(*pair, autojunk=autojunk, backend=backend)[0]) - want) < 5e-5


@pytest.mark.parametrize("backend", FAST)
def test_any_int32_is_an_element(backend):
    """No value is reserved: neither for padding nor for popular elements."""
    low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    a, b = [[high, low, -1, 0, high] * 20], [[low, high, 0, -1] * 60 + [high]]
    for autojunk in (False, True):
        check(a, b, 300, autojunk, backend)


@pytest.mark.parametrize("backend", FAST)
def test_deep_recursion_and_loops(backend):
    """A policy that repeats itself, and blocks that split many times: the shapes that stress search and stack."""
    rng = np.random.default_rng(2)
    runs = [sum(([5] * 15 + [separator + i] for i in range(18)), []) for separator in (1000, 2000)]
    cases = [
        ([7] * 200, [7] * 100 + list(range(100, 200))),
        ([0, 1] * 60, [0, 1, 1] * 40),
        tuple(runs),
        tuple(rng.integers(0, 2, 300).tolist() for _ in "ab"),
        (list(range(300)), list(range(300))[::-1]),
        (list(range(300)), [x for i in range(0, 300, 2) for x in (i, 900 + i)]),
    ]
    for autojunk in (False, True):
        check(*([c[side] for c in cases] for side in (0, 1)), 300, autojunk, backend)


def test_widths_may_differ_and_be_zero():
    a, b = [[1, 2, 3], [3]], [[2, 3, 4, 1, 2], []]
    for backend in ("reference", *FAST):
        found = matched_length(*padded(a, 3), *padded(b, 5), autojunk=True, backend=backend)
        np.testing.assert_array_equal(found[:2], [2, 0])
        found = matched_length(*padded(a, 3), *padded([[], []], 0), autojunk=True, backend=backend)
        np.testing.assert_array_equal(found[:2], [0, 0])


def test_xla_under_jit_and_vmap():
    a, b = sequences(np.random.default_rng(3), 12, (0, 5, 9, 16))
    arrays = (*padded(a, 16), *padded(b, 16))
    folded = [x.reshape(3, 4, *x.shape[1:]) for x in arrays]
    found = jax.jit(jax.vmap(partial(matched_length, autojunk=False)))(*folded)  # traced, so the default is xla
    np.testing.assert_array_equal(found.reshape(-1), expected(a, b, False))


def test_xla_lowers_for_accelerators():
    shapes = [jax.ShapeDtypeStruct(s, jnp.int32) for s in ((128, 256), (128,)) * 2]
    function = jax.jit(partial(matched_length, autojunk=True, backend="xla"))
    assert jax.export.export(function, platforms=["cuda", "tpu"])(*shapes).platforms == ("cuda", "tpu")


@pytest.mark.parametrize("backend", ["reference", "host"])
def test_host_backends_say_that_they_cannot_be_traced(backend):
    arrays = (*padded([[1]], 4), *padded([[1]], 4))
    with pytest.raises(TypeError, match=f"{backend}.*host"):
        jax.jit(partial(matched_length, autojunk=True, backend=backend))(*arrays)


def test_wrong_calls_raise():
    arrays = (*padded([[1]], 4), *padded([[1]], 4))
    with pytest.raises(ValueError, match="unknown backend 'cuda'"):
        matched_length(*arrays, autojunk=True, backend="cuda")
    with pytest.raises(ValueError, match="shapes"):
        matched_length(arrays[0], arrays[1], arrays[2][0], arrays[3], autojunk=True)
    with pytest.raises(ValueError, match="shapes"):
        matched_length(arrays[0], arrays[1], *padded([[1]] * 9, 4), autojunk=True)
