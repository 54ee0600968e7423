"""Prefill and decode give the hidden states of the dense sequence, and a step does not copy the cache."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.models.cache import init_own_cache
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import decode, forward, init_params, prefill

CONFIG = ModelConfig(
    vocab=31, width=16, layers=3, heads=4, kv_heads=2, head_width=6, mlp_width=20, qkv_bias=True, qk_norm=True
)
# Two rows. Row 0: A with children B and D, C below B. Row 1: two trees, then padding.
#       tokens, first position, enter, leave, path from the root
ROWS = [
    [(5, 0, 0, 4, [0]), (4, 5, 1, 3, [0, 1]), (3, 9, 2, 3, [0, 1, 2]), (4, 5, 3, 4, [0, 3])],
    [(6, 0, 0, 2, [0]), (2, 6, 1, 2, [0, 1]), (5, 0, 2, 3, [2]), (3, 0, -1, -1, [])],
]
SLOTS = [[0, 1, 1, 2, 3], [0, 1, 2, 2, 1]]  # the node each slot continues
T, K, C = 16, 5, 6


def material():
    """(prompt fields [R T] as a tuple, prompt mask [R K T], depth of a slot's first token [R K], its path)."""
    fields, mask, depth, paths = np.zeros((3, 2, T), np.int32), np.zeros((2, K, T), bool), np.zeros((2, K), int), {}
    for r, nodes in enumerate(ROWS):
        index = np.split(np.arange(T), np.cumsum([n[0] for n in nodes])[:-1])
        for (tokens, first, enter, leave, _), here in zip(nodes, index, strict=True):
            fields[:, r, here] = np.stack([first + np.arange(tokens), np.full(tokens, enter), np.full(tokens, leave)])
        for s, node in enumerate(SLOTS[r]):
            paths[r, s] = np.concatenate([index[n] for n in nodes[node][4]])
            mask[r, s, paths[r, s]] = True
            depth[r, s] = len(paths[r, s])
    return tuple(jnp.asarray(x) for x in fields), jnp.asarray(mask), jnp.asarray(depth), paths


def random_params(dtype):
    """Drawn by NumPy, which compiles nothing."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_params(CONFIG, jax.random.key(0)))
    draw = lambda x: rng.normal(0.5, 0.3, x.shape) if len(x.shape) < 3 else rng.normal(0, x.shape[1] ** -0.5, x.shape)
    return jax.tree.map(lambda x: jnp.asarray(draw(x), dtype), shapes)


@partial(jax.jit, static_argnums=0)
def decoded(config, params, prompt_token, token, mask, depth):
    """Hidden states [R K C D] of `token` [R K C] put into the slots one column at a time, inside a loop."""
    fields = material()[0]
    every = jnp.broadcast_to(jnp.arange(T)[None], (2, T))
    hidden, prompt = prefill(config, params, prompt_token, *fields, every, chunk=6)  # columns 0 to 6, to 12, 10 to 16

    def body(carry):
        index, own, made = carry
        last, own = decode(config, params, token[:, :, index], depth + index, prompt, mask, fields[0], own, index)
        return index + 1, own, jax.lax.dynamic_update_index_in_dim(made, last, index, 2)

    own = init_own_cache(config, 2, K, C, hidden.dtype)
    start = (jnp.int32(0), own, jnp.zeros((2, K, C, config.width), hidden.dtype))
    return hidden, jax.lax.while_loop(lambda carry: carry[0] < C, body, start)[2]


WINDOWED = replace(CONFIG, window=5, global_layers=(1,), local_rope_base=1e3)


@pytest.mark.parametrize(
    ("config", "dtype", "bound"), [(CONFIG, "float32", 1e-5), (CONFIG, "float64", 1e-10), (WINDOWED, "float64", 1e-10)]
)
def test_prefill_and_decode_equal_the_dense_sequence(config, dtype, bound):
    with jax.enable_x64(dtype == "float64"):
        params = random_params(dtype)
        _, mask, depth, paths = material()
        prompt_token = jax.random.randint(jax.random.key(1), (2, T), 0, 31)
        token = jax.random.randint(jax.random.key(2), (2, K, C), 0, 31)
        prompt, made = decoded(config, params, prompt_token, token, mask, depth)

        # Dense: each slot's path and completion as a row of its own, filled up at the end.
        rows = np.zeros((2 * K, T + C), np.int32)
        for n, ((r, s), path) in enumerate(paths.items()):
            rows[n, : len(path)] = prompt_token[r, path]
            rows[n, len(path) : len(path) + C] = token[r, s]
        position = jnp.broadcast_to(jnp.arange(T + C)[None], rows.shape)
        zero = jnp.zeros(rows.shape, jnp.int32)
        dense = jax.jit(partial(forward, config))(params, jnp.asarray(rows), position, zero, zero + 1)
        largest = np.abs(dense).max()
        for n, ((r, s), path) in enumerate(paths.items()):
            close = partial(np.testing.assert_allclose, atol=bound * largest, rtol=0)
            close(prompt[r, path], dense[n, : len(path)])
            close(made[r, s], dense[n, len(path) : len(path) + C])

        # The control: with a mask that lets every slot see its whole row, the numbers differ.
        _, leaking = decoded(config, params, prompt_token, token, jnp.ones_like(mask), depth)
        assert np.abs(leaking - made).max() > 1e-2 * largest


def test_slots_do_not_see_each_other():
    params = random_params("float32")
    _, mask, depth, _ = material()
    prompt_token = jax.random.randint(jax.random.key(1), (2, T), 0, 31)
    token = jax.random.randint(jax.random.key(2), (2, K, C), 0, 30)
    before = decoded(CONFIG, params, prompt_token, token, mask, depth)[1]
    after = decoded(CONFIG, params, prompt_token, token.at[0, 1, 2].add(1), mask, depth)[1]
    moved = np.any(np.asarray(before != after), axis=-1)
    want = np.zeros_like(moved)
    want[0, 1, 2:] = True
    assert np.array_equal(moved, want)


def test_a_step_does_not_copy_the_cache():
    """The loop's memory holds the cache once, and a layer's part of it; not a second cache."""
    rows, slots, capacity = 4, 8, 512
    config = ModelConfig(vocab=31, width=16, layers=8, heads=2, kv_heads=2, head_width=8, mlp_width=16)
    params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))

    def run(params, token, mask):
        hidden, prompt = prefill(config, params, token, *(token * 0,) * 2, token * 0 + 1, token)
        own = init_own_cache(config, rows, slots, capacity, hidden.dtype)

        def body(carry):
            index, token, own = carry
            position = jnp.zeros((rows, 16), jnp.int32)
            last, own = decode(config, params, token, token * 0 + index, prompt, mask, position, own, index)
            return index + 1, jnp.argmax(last, axis=-1).astype(jnp.int32), own

        start = (jnp.int32(0), token[:, :slots], own)
        return jax.lax.while_loop(lambda carry: carry[0] < capacity, body, start)[1]

    shape = jax.ShapeDtypeStruct
    args = params, shape((rows, 16), jnp.int32), shape((rows, slots, 16), bool)
    memory = jax.jit(run).lower(*args).compile().memory_analysis()
    own = jax.eval_shape(lambda: init_own_cache(config, rows, slots, capacity, jnp.float32))
    cache = sum(x.size * 4 for x in jax.tree.leaves(own))
    assert cache <= memory.temp_size_in_bytes < 1.5 * cache
