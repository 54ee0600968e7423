"""Both Pallas kernels in interpret mode, by one test body: equal to difflib on every pair."""

import random
from functools import cache, partial

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxsrl.ops.similarity import pallas_gpu, pallas_tpu
from jaxsrl.ops.similarity.gallop import matched_length as gallop
from jaxsrl.ops.similarity.reference import matched_length as difflib_length

# Small groups and blocks, so that a few pairs are several groups, and a short sequence is several blocks of rows.
SMALL = pallas_tpu.Cut(tile=(2, 128), levels=6, unroll=2, block_words=24, planes=(3,))
TINY = SMALL._replace(tile=(1, 4))
KERNELS = {
    "pallas_gpu": partial(pallas_gpu.matched_length, _interpret=True),
    "pallas_tpu": partial(pallas_tpu.matched_length, _interpret=True, _cut=SMALL),
}


@pytest.fixture(params=list(KERNELS))
def kernel(request):
    return KERNELS[request.param]


@pytest.fixture(params=list(KERNELS))
def kernel_of_few(request):
    """The same for a handful of pairs."""
    few = {"pallas_tpu": partial(pallas_tpu.matched_length, _interpret=True, _cut=TINY)}
    return (KERNELS | few)[request.param]


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


def batch(seed, count, longest, lengths):
    """a [P A], a_len, b [P B], b_len, b_index: a third of the experts serve nobody; behind a length stands noise."""
    rng = random.Random(seed)
    length = lambda: min(longest, rng.choice([*lengths, rng.randrange(longest + 1)]))
    b = [sequence(rng, length()) for _ in range(count)]
    index = [rng.randrange(count) for _ in range(count)]
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
    return slow(*pairs, autojunk=autojunk)


CASES = {"33": (2200, 33, (0, 1, 31, 32, 33), False)}
CASES |= {f"201-{x}": (240, 201, (199, 200, 201), x) for x in (False, True)}


@cache
def case(name, order):
    *shape, autojunk = CASES[name]
    pairs = batch(len(CASES) + autojunk, *shape)
    pairs = swapped(*pairs) if order == "b-a" else pairs
    return pairs, autojunk, expected(pairs, autojunk)


@pytest.mark.parametrize("order", ["a-b", "b-a"])
@pytest.mark.parametrize("name", CASES)
def test_equals_difflib(kernel, name, order):
    pairs, autojunk, want = case(name, order)
    np.testing.assert_array_equal(kernel(*pairs, autojunk=autojunk), want)


def test_popularity_and_order_matter():
    """The cases tell a kernel without autojunk, or with the arguments exchanged, from a right one."""
    pairs, autojunk, want = case("201-True", "a-b")
    assert (expected(pairs, not autojunk, gallop) != want).mean() > 0.1
    assert (expected(swapped(*pairs), autojunk, gallop) != want).mean() > 0.1


def hard_pairs(n, m):
    """Pairs that cost most: periods against other periods, one element against half of it, and what matches whole."""
    stripes = lambda period, length: [k % period for k in range(length)]
    loop = [7] * n
    pairs = [
        (loop, loop[:m]),
        (loop, [7 if k % 2 else k for k in range(m)]),
        (stripes(2, n), stripes(3, m)),
        (stripes(5, n), stripes(4, m)),
        (list(range(n)), list(range(m))),
        (list(range(n)), list(range(m))[::-1]),
        ([k // 2 for k in range(n)], list(range(m))),
        (loop, []),
    ]
    rng = random.Random(n)
    columns = [padded(rng, side, width) for side, width in zip(zip(*pairs, strict=True), (n, m), strict=True)]
    return *columns[0], *columns[1], np.arange(len(pairs), dtype=np.int32)


# A kernel's path for long sequences on either side; both long is a matter of minutes in an interpreter.
@pytest.mark.parametrize(
    "n, m, autojunk", [(256, 320, False), (256, 320, True), (4096, 33, False), (33, 4096, False), (33, 4096, True)]
)
def test_hard_pairs(kernel_of_few, n, m, autojunk):
    pairs = hard_pairs(n, m)
    np.testing.assert_array_equal(kernel_of_few(*pairs, autojunk=autojunk), expected(pairs, autojunk, gallop))


def test_rows_read_on_the_gpu():
    """The worst pair known reads n^2 / 4 rows, eight at a time; barriers keep periods and the like to a few n."""
    n = 256
    pairs = hard_pairs(n, n // 2)
    matched, reads = pallas_gpu.with_row_reads(*pairs, autojunk=False, interpret=True)
    np.testing.assert_array_equal(matched, expected(pairs, False, gallop))
    assert n**2 / 8 < reads[0] < n**2 / 4 + 2 * n
    assert max(reads[1:]) < 4 * n and reads[7] == 0  # the last has nothing to compare with


def test_experts_above_the_table_bound_go_in_chunks(monkeypatch):
    pairs = batch(5, 7, 12, (0, 12))
    monkeypatch.setattr(pallas_gpu, "TABLE_WORDS", 3 * pallas_gpu._table_words(12))
    matched, _ = pallas_gpu.with_row_reads.__wrapped__(*pairs, autojunk=False, interpret=True)
    np.testing.assert_array_equal(matched, expected(pairs, False))


def test_transformations(kernel_of_few):
    """jit, vmap over several batches (experts mapped over, or shared), and shard_map over the pairs."""
    a, a_len, b, b_len, b_index = batch(6, 8, 12, (0, 12))
    plain = partial(kernel_of_few, autojunk=False)
    want = expected((a, a_len, b, b_len, b_index), False)
    half = lambda x: x.reshape(2, 4, *x.shape[1:])

    shared = jax.vmap(plain, in_axes=(0, 0, None, None, 0))(half(a), half(a_len), b, b_len, half(b_index))
    np.testing.assert_array_equal(shared.reshape(-1), want)

    own = np.tile(np.arange(4, dtype=np.int32), (2, 1))
    mapped = jax.vmap(plain)(half(a), half(a_len), half(b[b_index]), half(b_len[b_index]), own)
    np.testing.assert_array_equal(mapped.reshape(-1), want)

    mesh = Mesh(np.array(jax.devices()[:1]), ("pairs",))
    spec = PartitionSpec("pairs")
    specs = (spec, spec, PartitionSpec(), PartitionSpec(), spec)
    over = jax.shard_map(plain, mesh=mesh, in_specs=specs, out_specs=spec, check_vma=False)
    np.testing.assert_array_equal(jax.jit(over)(a, a_len, b, b_len, b_index), want)


def test_no_elements_at_all(kernel_of_few):
    none, some = np.zeros((2, 0), np.int32), np.zeros((2, 3), np.int32)
    lengths, index = np.zeros(2, np.int32), np.arange(2, dtype=np.int32)
    assert kernel_of_few(none, lengths, some, lengths + 3, index, autojunk=True).tolist() == [0, 0]
    assert kernel_of_few(some, lengths + 3, none, lengths, index, autojunk=True).tolist() == [0, 0]


@pytest.mark.parametrize("module, device", [(pallas_gpu, "NVIDIA GPU"), (pallas_tpu, "TPU")])
def test_raises_without_its_device_and_above_4096(module, device):
    pairs = batch(7, 2, 5, ())
    if jax.default_backend() == "cpu":
        with pytest.raises(RuntimeError, match=f"needs an? {device}.*use backend='xla'"):
            module.matched_length(*pairs, autojunk=False)
    long = np.zeros((2, 4097), np.int32)
    with pytest.raises(ValueError, match="4096 elements.*cut them"):
        module.matched_length(long, *pairs[1:], autojunk=False, _interpret=True)
