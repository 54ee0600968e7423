"""The two searches behind `xla`: each is exact wherever it runs, a slow pair delays no other, and a CPU is quick."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.bench.pairs import pairs
from jaxsrl.bench.similarity import repetitive
from jaxsrl.ops.similarity import gallop, matched_length, per_depth, per_pair
from tests.ops.similarity.cases import expected, padded, sequences

pytestmark = pytest.mark.usefixtures("optimized")  # programs that run long
# Chunks and groups of a few pairs, so that some pairs go on in groups.
SMALL = {"chunk": 64 * 64 * 100, "group": 64 * 64 * 8}


def arrays(a, b, width):
    """a, a_len, b, b_len, b_index; behind a length stands what must not count."""
    both = (*padded(a, width, junk=1), *padded(b, width, junk=2))
    return *both, np.arange(len(both[0]), dtype=np.int32)


def one_pair(case, n):
    return arrays(*([side] for side in repetitive(n)[case]), n)


def test_levels_equal_difflib():
    """What an accelerator runs, here on a CPU: after two passes most pairs go on in groups."""
    a, b = sequences(np.random.default_rng(20), 450, (0, 1, 2, 7, 15, 31, 32, 33, 50, 64))
    for x, y in ((a, b), (b, a)):
        found, _ = per_depth.with_passes(*arrays(x, y, 64), autojunk=False, budget=2, **SMALL)
        np.testing.assert_array_equal(found, expected(x, y, False))


def test_levels_equal_difflib_on_many_pairs():
    """As many as a CPU's search has in `test_similarity.py`, with the budget that ships."""
    rng, search = np.random.default_rng(23), jax.jit(partial(by_level, autojunk=False))
    for _ in range(10):
        a, b = sequences(rng, 2_500, (0, 1, 2, 7, 15, 31, 32, 33, 50, 64))
        for x, y in ((a, b), (b, a)):
            np.testing.assert_array_equal(search(*arrays(x, y, 64)), expected(x, y, False))


def by_level(*pairs, autojunk):
    return per_depth.with_passes(*pairs, autojunk=autojunk)[0]


def one_by_one_pair(*pairs, autojunk):
    return per_pair.search(*pairs, autojunk=autojunk).matched


@pytest.mark.parametrize("search", [by_level, one_by_one_pair])
def test_popular_elements_are_difflibs(search):
    lengths, alphabets = (150, 199, 200, 201, 210), (1, 2, 5, 20, 60, 100, 150, 5000)
    a, b = sequences(np.random.default_rng(21), 20, lengths, alphabets)
    for x, y in ((a, b), (b, a)):
        found = search(*arrays(x, y, 210), autojunk=True)
        np.testing.assert_array_equal(found, expected(x, y, True))


def test_64_bit_numbers_change_nothing(x64):
    a, b = sequences(np.random.default_rng(22), 40, (0, 5, 9, 16))
    for search in (by_level, one_by_one_pair):
        found = search(*arrays(a, b, 16), autojunk=False)
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, expected(a, b, False))


def test_a_straggler_goes_on_alone():
    """What it needs beyond the budget costs a batch as much as it costs the straggler among empty pairs."""
    n, ordinary = 160, pairs("half", 40, 160, unit="chars")
    straggler = repetitive(n)["period 2 against 3"]
    passes = {}
    for name, batch in {"none": [*ordinary, ([], [])], "one": [*ordinary, straggler], "alone": [straggler]}.items():
        a, b = ([pair[side] for pair in batch] + [[]] * (41 - len(batch)) for side in (0, 1))
        found, passes[name] = per_depth.with_passes(*arrays(a, b, n), autojunk=False, group=1)
        np.testing.assert_array_equal(found, expected(a, b, False))
    assert passes["none"] < 41 * per_depth.BUDGET < passes["one"] == passes["alone"] < 41 * (per_depth.BUDGET + 1)


def test_pairs_that_wait_for_nobody_read_their_own_rows():
    """On a CPU a pair costs what it costs alone, also behind a straggler."""
    a, b = sequences(np.random.default_rng(24), 16, (100, 160), alphabets=(20, 60))
    straggler = repetitive(160)["period 2 against 3"]
    alone = per_pair.search(*arrays(a, b, 160), autojunk=False).reads
    reads = per_pair.search(*arrays([straggler[0], *a], [straggler[1], *b], 160), autojunk=False).reads
    np.testing.assert_array_equal(reads[1:17], alone[:16])
    assert reads[0] > 3 * alone[:16].max()


def test_an_expert_is_learned_once_however_its_pairs_are_ordered():
    a, b = sequences(np.random.default_rng(25), 24, (0, 5, 9, 16))
    index = np.arange(24, dtype=np.int32) % 5
    found = per_pair.search(*padded(a, 16), *padded(b[:8], 16), index, autojunk=False)
    np.testing.assert_array_equal(found.matched, expected(a, [b[q] for q in index], False))
    assert found.learned.sum() == 5


@pytest.mark.parametrize("autojunk", [False, True])
def test_no_repetition_stalls_the_longest_pairs(autojunk):
    """Exact at 4,096, and rows read per row of a. Measured: up to 12, 74 and 911."""
    n = 4096
    for case, (a, b) in repetitive(n).items():
        pair = one_pair(case, n)
        found, reads, _ = per_pair.search(*(x[:1] for x in pair), autojunk=autojunk)
        most = {"period 7 against 11": 90, "period 2 against 3": 1100}.get(case, 15)
        assert reads[0] < most * n, case
        assert found[0] == sum(size for *_, size in gallop.matching_blocks(a, b, autojunk)), case


def test_a_cpu_searches_in_compiled_loops():
    """Dispatched operation by operation the search is slower than difflib; as one function 37 and 16 times faster."""
    text = jax.jit(partial(matched_length, autojunk=True, backend="xla")).lower(*one_pair("identical", 200)[:4])
    calls = [line for line in text.compile().as_text().splitlines() if " call(" in line and "jit__all_pairs" in line]
    assert calls and all('xla_cpu_small_call="true"' in call for call in calls)


def test_lowered_text_has_no_callback():
    shapes = [jax.ShapeDtypeStruct(s, jnp.int32) for s in ((128, 256), (128,)) * 2]
    function = jax.jit(partial(matched_length, autojunk=True, backend="xla"))
    for platform in ("cpu", "cuda", "tpu"):
        text = function.trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
        assert "callback" not in text and ("xla_cpu_small_call" in text) == (platform == "cpu")
