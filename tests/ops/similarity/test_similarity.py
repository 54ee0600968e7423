"""Every backend gives difflib's integer, whatever the sequences."""

from difflib import SequenceMatcher
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.ops.similarity import LONGEST, blocks, indel_ratio, lcs_length, matched_length, ratio
from tests.ops.similarity.cases import expected, ids, mutated, padded, sequences

pytestmark = pytest.mark.usefixtures("optimized")  # programs that run long
FAST = ("gallop", "xla")
FOX = ("the quick brown fox jumps over the lazy dog. " * 5)[:210]
EDITED = FOX.replace("fox", "cat").replace("dog", "pig")


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


@pytest.mark.parametrize("backend", ["reference", "gallop", "xla"])
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


@pytest.mark.parametrize("backend", ["reference", "gallop", "xla"])
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


@pytest.mark.parametrize("backend", ["reference", "gallop"])
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
    with pytest.raises(ValueError, match="up to 4096 elements.*cut them"):
        matched_length(*arrays[:2], *padded([[1]], LONGEST + 1), autojunk=True)


@pytest.mark.parametrize("backend", ["pallas_gpu", "pallas_tpu"])
def test_a_backend_of_another_machine_raises(backend):
    arrays = (*padded([[1]], 4), *padded([[1]], 4))
    with pytest.raises(RuntimeError, match="xla"):
        matched_length(*arrays, autojunk=True, backend=backend)


@pytest.mark.parametrize("backend", ["reference", *FAST])
def test_one_expert_serves_its_group(backend):
    """With `b_index` pairs share rows of b: the same as with the rows repeated."""
    a, b = sequences(np.random.default_rng(5), 24, (0, 5, 9, 30))
    index = np.repeat(np.arange(4, dtype=np.int32), 6)[::-1].copy()
    shared = (*padded(b[:8], 32), index)
    found = matched_length(*padded(a, 32), *shared[:2], b_index=shared[2], autojunk=False, backend=backend)
    np.testing.assert_array_equal(found, expected(a, [b[i] for i in index], False))
    share = ratio(*padded(a, 32), *shared[:2], b_index=shared[2], autojunk=False, backend=backend)
    own = [SequenceMatcher(None, x, b[i], False).ratio() for x, i in zip(a, index, strict=True)]
    np.testing.assert_allclose(share, own, rtol=1e-6)


def test_fifty_thousand_pairs_equal_difflib():
    """Most are short; both orders, all alphabets, mutated copies, periods. Each call has one shape."""
    rng, done = np.random.default_rng(6), 0
    for autojunk in (True, False):
        while done < (1 + (not autojunk)) * 25_000:
            a, b = sequences(rng, 1250, (0, 1, 2, 3, 5, 8, 13, 21, 31, 32, 33, 40, 50, 63, 64))
            check(a, b, 64, autojunk, "xla")
            check(b, a, 64, autojunk, "xla")
            done += 2500


PATHOLOGICAL = {
    "one token against half of it": lambda n: ([7] * n, [7] * (n // 2) + list(range(100, 100 + n - n // 2))),
    "period 2 against 3": lambda n: (([0, 1] * n)[:n], ([0, 1, 1] * n)[:n]),
    "all distinct": lambda n: (list(range(n)), list(range(n, 2 * n))),
    "identical": lambda n: (list(range(n)), list(range(n))),
    "two symbols": lambda n: tuple(np.random.default_rng(n).integers(0, 2, (2, n)).tolist()),
}


@pytest.mark.parametrize("autojunk", [False, True])
def test_gallop_on_long_and_repeating_pairs(autojunk):
    """The oracle of the tests below against difflib, where difflib is still fast enough."""
    cases = [make(n) for make in PATHOLOGICAL.values() for n in (63, 130, 257)]
    rng = np.random.default_rng(7)
    for n in (511, 512, 513):
        x = rng.integers(0, 40, n).tolist()
        cases.append((mutated(rng, x, 40), x))
    a, b = ([case[side] for case in cases] for side in (0, 1))
    check(a, b, 600, autojunk, "gallop")


@pytest.mark.parametrize("autojunk", [False, True])
def test_long_pairs_equal_gallop(autojunk):
    rng, cases = np.random.default_rng(8), [make(512) for make in PATHOLOGICAL.values()]
    for n in (511, 512, 513):
        x = rng.integers(0, 60, n).tolist()
        cases.append((mutated(rng, x, 60)[:513], x))
    arrays = [part for side in (0, 1) for part in padded([case[side] for case in cases], 513)]
    found = matched_length(*arrays, autojunk=autojunk, backend="xla")
    np.testing.assert_array_equal(found, matched_length(*arrays, autojunk=autojunk, backend="gallop"))


def test_the_longest_pairs_equal_gallop():
    rng = np.random.default_rng(9)
    x = rng.integers(0, 90, LONGEST).tolist()
    cases = [(mutated(rng, x, 90)[:LONGEST], x), (x, x), (list(range(LONGEST)), x)]
    arrays = [part for side in (0, 1) for part in padded([case[side] for case in cases], LONGEST)]
    found = matched_length(*arrays, autojunk=True, backend="xla")
    np.testing.assert_array_equal(found, matched_length(*arrays, autojunk=True, backend="gallop"))
    assert found[1] == LONGEST


@pytest.mark.parametrize("autojunk", [False, True])
def test_blocks_are_difflibs(autojunk):
    a, b = sequences(np.random.default_rng(10), 400, (0, 1, 5, 30, 210, 260), alphabets=(2, 5, 60))
    cases = [*zip(a, b, strict=True), (EDITED, FOX), (FOX.split(), EDITED.split()), ("", "")]
    for x, y in cases:
        want = SequenceMatcher(None, x, y, autojunk=autojunk).get_matching_blocks()[:-1]
        assert blocks(x, y, autojunk=autojunk) == [tuple(block) for block in want]


def table_lcs(a, b):
    """The textbook's table."""
    row = [0] * (len(b) + 1)
    for x in a:
        new = [0]
        for j, y in enumerate(b):
            new.append(row[j] + 1 if x == y else max(row[j + 1], new[j]))
        row = new
    return row[-1]


def test_lcs_is_the_tables():
    """Across words and groups of words, where carries run on; both sides may be empty."""
    rng = np.random.default_rng(11)
    a, b = sequences(rng, 150, (0, 1, 31, 32, 33, 64, 65, 96))
    np.testing.assert_array_equal(
        lcs_length(*padded(a, 96), *padded(b, 96))[:150], [table_lcs(x, y) for x, y in zip(a, b, strict=True)]
    )
    long = [5] * 1000, [6] + [5] * 1030
    found = lcs_length(*padded([long[0], long[1]], 1100), *padded([long[1], long[0]], 1100))
    np.testing.assert_array_equal(found[:2], [1000, 1000])
    found = indel_ratio(*padded([ids("tide"), []], 8), *padded([ids("diet"), []], 8))
    np.testing.assert_allclose(found[:2], [0.5, 1.0])


@pytest.mark.needs("rapidfuzz")
def test_indel_is_rapidfuzz():
    from rapidfuzz import distance

    a, b = sequences(np.random.default_rng(12), 500, (0, 5, 33, 100, 200))
    found = indel_ratio(*padded(a, 200), *padded(b, 200))[:500]
    want = [distance.Indel.normalized_similarity(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_pairs_may_be_sharded():
    """Each device takes its own pairs; experts are whole on all of them."""
    a, b = sequences(np.random.default_rng(13), 32, (0, 5, 9, 16))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("pairs",))
    P = jax.sharding.PartitionSpec
    index = np.arange(32, dtype=np.int32) % 8
    run = lambda a, a_len, index, b, b_len: matched_length(
        a, a_len, b, b_len, b_index=index, autojunk=False, backend="xla"
    )
    sharded = jax.shard_map(
        run, mesh=mesh, in_specs=(P("pairs"), P("pairs"), P("pairs"), P(), P()), out_specs=P("pairs"), check_vma=False
    )
    found = jax.jit(sharded)(*padded(a, 16), index, *padded(b[:8], 16))
    np.testing.assert_array_equal(found, expected(a, [b[i] for i in index], False))
