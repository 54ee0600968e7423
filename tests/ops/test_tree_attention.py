"""Every backend of tree attention against `reference`: values and cotangents, ragged shapes, general trees."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.ops.tree_attention import DEFAULT, TILES, tree_attention
from jaxsrl.ops.tree_attention.reference import visible
from jaxsrl.ops.tree_attention.xla import _tiling
from jaxsrl.ops.tree_attention.xla import tree_attention as tiled

# Of the largest reference entry. bfloat16 keeps 8 bits: a weight and a product are each rounded once.
BOUND = {"float32": 1e-5, "bfloat16": 2e-2, "float64": 1e-12}
SHAPES = [(3, 100, 4, 2, 8), (2, 257, 2, 1, 16), (4, 128, 3, 3, 8)]  # R T N K H


def forest_row(rng, length, padding):
    """position, enter, leave, path of one row: several general trees one after the other, then padding.

    `path[t]` lists the tokens on t's own path up to t, found by walking parents: independent of intervals.
    """
    end = length - padding
    position, enter, leave = np.zeros(length, np.int32), *np.full((2, length), -1, np.int32)  # as padding has them
    path, clock, t = [[t] for t in range(length)], 0, 0

    def node(above, depth):
        nonlocal clock, t
        start, number, tokens = t, clock, int(rng.integers(1, 9))
        clock += 1
        for _ in range(min(tokens, end - t)):
            above = path[t] = [*above, t]
            position[t], enter[t] = len(above) - 1, number
            t += 1
        stop = t
        for _ in range(int(rng.integers(1, 4)) if depth < 4 else 0):
            if t < end:
                node(above, depth + 1)
        leave[start:stop] = clock

    while t < end:
        node([], 0)
    return position, enter, leave, path


def forest(rows, length, seed=0):
    rng = np.random.default_rng(seed)
    made = [forest_row(rng, length, padding=int(rng.integers(0, 12))) for _ in range(rows)]
    names = ("position", "enter", "leave")
    return {name: jnp.asarray(np.stack([row[i] for row in made])) for i, name in enumerate(names)}, [r[3] for r in made]


def inputs(shape, dtype, seed=0):
    rows, length, heads, kv_heads, width = shape
    keys = jax.random.split(jax.random.key(seed), 4)
    draw = lambda key, n: jax.random.normal(key, (rows, length, n, width), dtype)
    return draw(keys[0], heads), draw(keys[1], kv_heads), draw(keys[2], kv_heads), draw(keys[3], heads)


@partial(jax.jit, static_argnums=0)
def value_and_cotangents(attend, tree, q, k, v, cotangent):
    out, pull = jax.vjp(partial(attend, **tree), q, k, v)
    return out, *pull(cotangent.astype(out.dtype))


def assert_close(got, want, bound):
    for name, a, b in zip(("value", "d_q", "d_k", "d_v"), got, want, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.all(np.isfinite(a)), name
        worst = np.max(np.abs(a - b)) / np.max(np.abs(b))
        assert worst <= bound, f"{name}: {worst:.1e} of the largest"


def test_visible_is_the_path():
    tree, paths = forest(3, 100)
    seen = np.asarray(visible(**tree))
    assert max(len({int(e) for e in row}) for row in np.asarray(tree["enter"])) > 8  # many nodes
    for row, path in enumerate(paths):
        for t, above in enumerate(path):
            assert list(np.flatnonzero(seen[row, t])) == above


def test_tilings():
    """What the cases below cover: (row groups, queries of a block)."""
    assert _tiling(3, 100, 4, 2**30, True) == (1, 100)  # all at once
    assert _tiling(4, 128, 3, 2**17, True) == (2, 128)  # two rows a tile
    assert _tiling(2, 257, 2, 1, True) == (2, 64)  # a row at a time, in blocks, the last one ragged
    assert _tiling(2, 257, 2, 2**17, False) == (1, 64 * 1)  # all rows, in blocks


@pytest.mark.parametrize(
    ("shape", "dtype", "held", "split_rows"),
    [
        (SHAPES[0], "float32", 2**30, True),
        (SHAPES[0], "bfloat16", 1, False),
        (SHAPES[1], "float32", 1, True),
        (SHAPES[1], "float32", 2**17, False),
        (SHAPES[1], "bfloat16", 1, True),
        (SHAPES[2], "float32", 2**17, True),
        (SHAPES[0], "float64", 1, True),
    ],
    ids=str,
)
def test_backends_agree(shape, dtype, held, split_rows):
    with jax.enable_x64(dtype == "float64"):
        tree, _ = forest(*shape[:2])
        args = inputs(shape, dtype)
        wide = [x.astype(jnp.promote_types(dtype, jnp.float32)) for x in args]
        want = value_and_cotangents(partial(tree_attention, backend="reference"), tree, *wide)
        got = value_and_cotangents(partial(tiled, held=held, split_rows=split_rows), tree, *args)
        assert all(x.dtype == dtype for x in got)
        assert_close(got, want, BOUND[dtype])


def test_a_window_counts_along_the_path():
    """With 7 tokens a token sees the last 7 of its own path: the same as attention over those alone."""
    shape = SHAPES[0]
    tree, paths = forest(*shape[:2])
    args, window = inputs(shape, "float32"), jnp.int32(7)
    want = value_and_cotangents(partial(tree_attention, backend="reference", window=window), tree, *args)
    assert_close(value_and_cotangents(partial(tiled, window=window, held=1), tree, *args), want, BOUND["float32"])
    q, k, v, _ = args
    token, seen = max(((t, path) for t, path in enumerate(paths[0])), key=lambda item: len(item[1]))
    assert len(seen) > 7
    seen = np.array(sorted(seen, key=lambda t: int(tree["position"][0, t])))[-7:]
    head = jnp.repeat(k, q.shape[2] // k.shape[2], axis=2)[0, seen, 0], jnp.repeat(v, q.shape[2] // v.shape[2], axis=2)
    weight = jax.nn.softmax(head[0] @ q[0, token, 0] * q.shape[-1] ** -0.5)
    np.testing.assert_allclose(want[0][0, token, 0], weight @ head[1][0, seen, 0], atol=1e-5)


@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_siblings_and_other_trees_do_not_leak(backend):
    shape = SHAPES[0]
    tree, paths = forest(*shape[:2])
    q, k, v, _ = inputs(shape, "float32")
    changed = 20  # token of row 0 whose keys and values change
    sees = np.array([changed in path for path in paths[0]])
    assert 1 < sees.sum() < 80
    before = tree_attention(q, k, v, **tree, backend=backend)
    after = tree_attention(q, k.at[0, changed].add(1.0), v.at[0, changed].add(1.0), **tree, backend=backend)
    moved = np.any(np.asarray(before != after), axis=(2, 3))
    assert np.array_equal(moved[0], sees) and not moved[1:].any()


def test_without_intervals_the_result_differs():
    """The negative control: a causal mask over positions is not a tree mask."""
    shape = SHAPES[0]
    tree, _ = forest(*shape[:2])
    q, k, v, _ = inputs(shape, "float32")
    causal = tree | {"enter": jnp.zeros_like(tree["enter"]), "leave": jnp.ones_like(tree["leave"])}
    difference = tree_attention(q, k, v, **tree) - tree_attention(q, k, v, **causal)
    assert jnp.max(jnp.abs(difference)) > 0.1


@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_padding_sees_itself_only(backend):
    """A row of nothing but padding: every token returns its own value, and gradients stay finite."""
    q, k, v, cotangent = inputs((1, 70, 2, 2, 4), "float32")
    zero = jnp.zeros((1, 70), jnp.int32)
    tree = {"position": zero, "enter": zero, "leave": zero}
    out, *grads = value_and_cotangents(partial(tree_attention, backend=backend), tree, q, k, v, cotangent)
    np.testing.assert_allclose(out, v, rtol=1e-6)
    assert all(np.all(np.isfinite(g)) for g in grads)


def test_scores_of_a_tile_only():
    """No array of the compiled backward pass holds the scores of a whole row, let alone of all rows."""
    rows, length, heads = 4, 1024, 4
    q, k, v, _ = (jax.ShapeDtypeStruct((rows, length, n, 8), jnp.float32) for n in (heads, 2, 2, heads))
    index = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    loss = lambda q, k, v, i: jnp.sum(tiled(q, k, v, position=i, enter=i, leave=i, held=2**17) ** 2)
    memory = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(q, k, v, index).compile().memory_analysis()
    assert memory.temp_size_in_bytes < heads * length * length * 4


def test_settings_are_checked():
    q, k, v, _ = inputs((1, 4, 4, 2, 4), "float32")
    tree = dict.fromkeys(("position", "enter", "leave"), jnp.zeros((1, 4), jnp.int32))
    assert set(DEFAULT) == set(TILES)
    with pytest.raises(ValueError, match="unknown backend 'cuda'.*reference, xla"):
        tree_attention(q, k, v, **tree, backend="cuda")
    with pytest.raises(ValueError, match="3 query heads must be a multiple of 2"):
        tree_attention(q[:, :, :3], k, v, **tree)
    with pytest.raises(ValueError, match="shapes do not fit"):
        tree_attention(q, k[:, :3], v, **tree)
