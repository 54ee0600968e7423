"""Every backend of tree attention against `reference`: values and cotangents, ragged shapes, general trees."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.ops.tree_attention import DEFAULT, TILES, tree_attention
from jaxsrl.ops.tree_attention.reference import visible
from jaxsrl.ops.tree_attention.schedule import Tiles, schedule
from jaxsrl.ops.tree_attention.xla import tree_attention as tiled
from tests.ops.tree_attention.trees import (
    BOUND,
    COMBS,
    SHAPES,
    assert_close,
    comb,
    forest,
    inputs,
    sorts_and_calls,
    value_and_cotangents,
)

FINE, COARSE = Tiles(8, 3, 4, 2, 2), Tiles(16, 8, 2, 1, 4)  # most is far; most is near


def test_visible_is_the_path():
    tree, paths = forest(3, 100)
    seen = np.asarray(visible(**tree))
    assert max(len({int(e) for e in row}) for row in np.asarray(tree["enter"])) > 8  # many nodes
    for row, path in enumerate(paths):
        for t, above in enumerate(path):
            assert list(np.flatnonzero(seen[row, t])) == above


def test_tiles_fit_the_batch():
    assert TILES["cpu"].fit(3, 100) == Tiles(64, 6, 4, 2, 16)  # two tiles a row
    assert Tiles(64, 8, 4, 2, 16).fit(1, 144) == Tiles(48, 3, 2, 2, 16)  # a row is cut evenly
    assert Tiles(16, 8, 4, 2, 4).fit(1, 5) == Tiles(16, 1, 1, 1, 4)
    assert [Tiles(16, 8, 4, 2, 4).count(*shape) for shape in ((1, 5), (3, 33), (4, 64))] == [4, 12, 16]
    x = jnp.arange(3 * 33).reshape(3, 33)
    assert jnp.array_equal(COARSE.join(COARSE.cut(x), 3, 33), x)


@pytest.mark.parametrize("tiles", [FINE, COARSE], ids=["fine", "coarse"])
def test_both_parts_are_used(tiles):
    tree, _ = forest(2, 257)
    made = schedule(tiles.fit(2, 257), **tree, window=None)
    assert made.near_steps[0] > 0 and made.far_steps[0] > 0


@pytest.mark.parametrize(("near", "blocks"), [(16, False), (17, True), (18, True)])
def test_short_rows_have_no_far_part(near, blocks):
    """A row of 17 tiles: with `near` at 17 every tile reaches so far, and no loop over blocks is in the program."""
    tree, _ = forest(2, 257)
    made = schedule(Tiles(16, 8, 2, 1, near).fit(2, 257), **tree, window=None)
    assert made.position.shape == (34, 16)
    assert (made.far_query.size == 0) == blocks and bool(made.far_steps[0] == 0) >= blocks
    # A tile reaches to the end of its row at most, so that there are no further steps.
    assert made.near_offset.size == made.member.shape[0] * min(near, 17)


def test_a_plan_is_made_once():
    """With a plan nothing is planned anew: one of other trees gives their attention."""
    shape = SHAPES[0]
    (tree, _), (other, _) = (forest(*shape[:2], seed) for seed in (0, 1))
    args = inputs(shape, "float32")
    plan = schedule(FINE.fit(*shape[:2]), **tree, window=None)
    planned = partial(tiled, tiles=FINE, plan=plan)
    want = value_and_cotangents(partial(tiled, tiles=FINE), tree, *args)
    assert_close(value_and_cotangents(planned, tree, *args), want, 0.0)
    assert_close(value_and_cotangents(planned, other, *args), want, 0.0)


@pytest.mark.parametrize("window", [None, 64])
@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_layers_share_a_plan(window, remat):
    """Tiles are sorted outside of the scan over layers, once for the forward and the backward pass."""
    assert sorts_and_calls(window, remat) == ([False] * (1 if window is None else 2), [])


@pytest.mark.parametrize(
    ("shape", "dtype", "tiles"),
    [
        (SHAPES[0], "float64", FINE),
        (SHAPES[1], "float64", COARSE),
        (SHAPES[2], "float64", FINE),
        (SHAPES[2], "float64", TILES["tpu"]),
        (SHAPES[0], "float32", COARSE),
        (SHAPES[1], "float32", TILES["cpu"]),
        (SHAPES[1], "bfloat16", FINE),
        (SHAPES[0], "bfloat16", TILES["cpu"]),
    ],
    ids=str,
)
def test_backends_agree(shape, dtype, tiles):
    with jax.enable_x64(dtype == "float64"):
        tree, _ = forest(*shape[:2])
        args = inputs(shape, dtype)
        wide = [x.astype(jnp.promote_types(dtype, jnp.float32)) for x in args]
        want = value_and_cotangents(partial(tree_attention, backend="reference"), tree, *wide)
        got = value_and_cotangents(partial(tiled, tiles=tiles), tree, *args)
        assert all(x.dtype == dtype for x in got)
        assert_close(got, want, BOUND[dtype])


@pytest.mark.parametrize("seed", range(1, 9))
def test_random_forests(seed):
    """Values and every cotangent in float64, near and far parts in other shares each time."""
    with jax.enable_x64(True):
        tree, _ = forest(2, 160, seed)
        args = inputs((2, 160, 4, 2, 8), "float64", seed)
        want = value_and_cotangents(partial(tree_attention, backend="reference"), tree, *args)
        assert_close(value_and_cotangents(partial(tiled, tiles=FINE), tree, *args), want, BOUND["float64"])


def test_members_of_a_vmap():
    """Members with trees of their own, and shared queries: the same as one after another."""
    shape = SHAPES[0]
    trees = [forest(*shape[:2], seed)[0] for seed in (0, 1)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *trees)
    q, k, v, cotangent = inputs(shape, "float32")
    keys = jnp.stack([k, 2 * k])
    run = partial(value_and_cotangents, partial(tiled, tiles=FINE))
    many = jax.vmap(lambda tree, k: run(tree, q, k, v, cotangent))(stacked, keys)
    for member, tree in enumerate(trees):
        one = run(tree, q, keys[member], v, cotangent)
        assert_close([x[member] for x in many], one, BOUND["float32"])
    with pytest.raises(ValueError, match="must share the attention window"):
        jax.vmap(lambda window: tiled(q, k, v, **trees[0], window=window, tiles=FINE))(jnp.arange(2))


def test_a_window_counts_along_the_path():
    """With 7 tokens a token sees the last 7 of its own path: the same as attention over those alone."""
    shape = SHAPES[0]
    tree, paths = forest(*shape[:2])
    args, window = inputs(shape, "float32"), jnp.int32(7)
    want = value_and_cotangents(partial(tree_attention, backend="reference", window=window), tree, *args)
    assert_close(value_and_cotangents(partial(tiled, window=window, tiles=FINE), tree, *args), want, BOUND["float32"])
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


@pytest.mark.parametrize(("name", "bound"), [("math", 1.5), ("long", 1.25), ("agent", 1.12), ("grpo", 1.8)])
def test_pairs_that_are_computed(name, bound):
    """Over those that are visible, at most."""
    tree = comb(*COMBS[name])
    tiles = TILES["tpu"].fit(*tree["enter"].shape)
    made = jax.jit(partial(schedule, tiles, window=None))(**tree)
    near = int(made.near_steps[0]) * tiles.group * tiles.tile**2
    far = int(made.far_steps[0]) * tiles.queries * tiles.keys * tiles.tile**2
    # Every token sees its position's worth of tokens, and itself.
    assert 1 < (near + far) / (int(tree["position"].sum()) + tree["position"].size) < bound


def test_scores_of_a_step_only():
    """No array of the compiled backward pass is as large as the scores of one head of a row."""
    length, heads = 4096, 2
    q, k, v = (jax.ShapeDtypeStruct((1, length, n, 8), jnp.float32) for n in (heads, 1, 1))
    index = jax.ShapeDtypeStruct((1, length), jnp.int32)
    loss = lambda q, k, v, i: jnp.sum(tiled(q, k, v, position=i, enter=i, leave=i, tiles=TILES["cpu"]) ** 2)
    memory = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(q, k, v, index).compile().memory_analysis()
    assert memory.temp_size_in_bytes < length * length * 4 / 8


def test_settings_are_checked():
    q, k, v, _ = inputs((1, 4, 4, 2, 4), "float32")
    tree = dict.fromkeys(("position", "enter", "leave"), jnp.zeros((1, 4), jnp.int32))
    assert set(DEFAULT) == set(TILES)
    with pytest.raises(ValueError, match="unknown backend 'cuda'.*reference, xla, pallas_tpu"):
        tree_attention(q, k, v, **tree, backend="cuda")
    with pytest.raises(RuntimeError, match="'pallas_tpu' needs a TPU, this is 'cpu'"):
        tree_attention(q, k, v, **tree, backend="pallas_tpu")
    with pytest.raises(ValueError, match="3 query heads must be a multiple of 2"):
        tree_attention(q[:, :, :3], k, v, **tree)
    with pytest.raises(ValueError, match="shapes do not fit"):
        tree_attention(q, k[:, :3], v, **tree)
