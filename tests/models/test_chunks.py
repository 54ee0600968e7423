"""Prefill in chunks: as much as the prompts are long, in memory that does not grow with them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrl.models.cache import PromptCache
from jaxsrl.models.chunks import LEAST, MOST, Places, attend_chunk, chunk_size, starts, tiles_read, used_columns
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params, prefill
from jaxsrl.ops.tree_attention import tree_attention
from tests.models.test_cache import T, material

CHUNK = 4


def places():
    """Two rows of 16 columns, see `test_cache.py`; the second one holds two trees and ends with three empty columns."""
    position, enter, leave = material()[0]
    return Places(position=position, enter=enter, leave=leave)


def test_a_chunk_is_as_long_as_makes_enough_tokens_and_rows_are_cut_evenly():
    assert chunk_size(8, 96) == 96  # one chunk
    assert chunk_size(8, 1408) == 240 and starts(1408, 240).tolist() == [0, 240, 480, 720, 960, 1168]
    assert chunk_size(1, 9280) <= MOST and LEAST <= chunk_size(64, 9280) < chunk_size(8, 9280)
    for rows, columns in ((8, 129), (3, 1409), (64, 1000)):
        assert starts(columns, chunk_size(rows, columns))[-1] + chunk_size(rows, columns) == columns


def test_a_chunk_reads_back_to_the_first_token_that_it_sees():
    """Row 0 is one tree. The second tree of row 1 begins at column 8, and nothing of the first one is read for it."""
    assert tiles_read(places(), CHUNK, None).tolist() == [[1, 2, 3, 4], [1, 2, 1, 2]]
    windowed = tiles_read(places(), CHUNK, jnp.int32(3))  # D, from column 12 on, follows column 4
    assert windowed.tolist() == [[1, 2, 2, 4], [1, 2, 1, 2]]
    assert used_columns(places()) == 16
    shorter = jax.tree.map(lambda x: x[1:], places())
    assert used_columns(shorter) == 13


def test_chunks_attend_as_a_tree_does_with_every_tile_that_is_read_and_with_no_fewer():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, T, heads, 6)), jnp.float32) for heads in (4, 2, 2))
    of, cache = places(), PromptCache(k=k.transpose(0, 2, 1, 3)[None], v=v.transpose(0, 2, 1, 3)[None])
    attend = jax.jit(lambda q, start, tiles: attend_chunk(q, cache, of, layer=start * 0, start=start, tiles=tiles))
    want = tree_attention(q, k, v, **vars(of), backend="reference")
    tiles = np.array(tiles_read(of, CHUNK, None)).max(axis=0)
    for number, start in enumerate(starts(T, CHUNK)):
        ask = lambda tiles, start=start: attend(q[:, start : start + CHUNK], start, jnp.int32(tiles))
        error = lambda got, start=start: np.abs(got - want[:, start : start + CHUNK]).max()
        assert error(ask(tiles[number])) < 1e-6
        assert number == 0 or error(ask(tiles[number] - 1)) > 1e-3


MODEL = ModelConfig(vocab=31, width=16, layers=2, heads=2, kv_heads=1, head_width=8, mlp_width=64)


def test_nothing_is_run_behind_the_longest_row_and_members_get_what_they_get_alone():
    """Of a population, the longest row of all members counts, and no member's numbers depend on it."""
    params = init_params(MODEL, jax.random.key(0))
    token = jax.random.randint(jax.random.key(1), (2, T), 0, 31)
    position = jnp.broadcast_to(jnp.arange(T)[None], (2, T))

    def run(used):
        leave = jnp.where(position < used, 1, -1)
        return prefill(MODEL, params, token, position, 0 * leave, leave, position[:, :1] + 3, chunk=CHUNK)

    alone = jax.jit(run)
    many = jax.jit(jax.vmap(run))(jnp.array([4, 9]))
    written = lambda cache: np.any(np.asarray(cache.k) != 0, axis=(0, 1, 2, 4)).tolist()
    for member, used in enumerate((4, 9)):
        hidden, cache = alone(used)
        assert written(cache) == [column < -(-used // CHUNK) * CHUNK for column in range(T)]
        np.testing.assert_allclose(many[0][member], hidden, atol=1e-6)
        np.testing.assert_allclose(many[1].k[member, :, :, :, :used], cache.k[:, :, :, :used], atol=1e-6)
    assert written(jax.tree.map(lambda x: x[0], many[1])) == written(cache)


def test_the_memory_of_a_prefill_does_not_grow_with_the_prompts():
    """Beside the cache, which is a result. In one chunk it does grow."""
    params = jax.eval_shape(lambda: init_params(MODEL, jax.random.key(0)))

    def needed(columns, chunk):
        row = jax.ShapeDtypeStruct((2, columns), jnp.int32)
        run = jax.jit(partial(prefill, MODEL, chunk=chunk))
        last = jax.ShapeDtypeStruct((2, 1), jnp.int32)
        return run.lower(params, row, row, row, row, last).compile().memory_analysis().temp_size_in_bytes

    short, long = needed(1024, 64), needed(2048, 64)
    grown = long - short - 2 * 1024 * 4 * 3 * 4  # a few numbers a column, of the tree, may lie there
    assert grown <= 0 and needed(1024, None) > 4 * short
