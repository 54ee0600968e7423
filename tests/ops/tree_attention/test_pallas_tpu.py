"""The TPU kernels: in Pallas' interpreter against `reference`, what they visit, and what TPUs' compilers say."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from jaxsrl.models import transformer
from jaxsrl.ops.tree_attention import BLOCKS, tree_attention
from jaxsrl.ops.tree_attention.pallas_tpu import tree_attention as kernel
from jaxsrl.ops.tree_attention.reference import visible
from jaxsrl.ops.tree_attention.visits import KEY_BITS, MOST_VISITS, Blocks, visits
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

SMALL = Blocks(queries=8, keys=16)  # which only the interpreter takes


def run(**settings):
    return partial(value_and_cotangents, partial(kernel, blocks=SMALL, _interpret=True, **settings))


@pytest.mark.parametrize(
    ("shape", "dtype", "window"),
    [(SHAPES[0], "float32", None), (SHAPES[1], "float32", 7), (SHAPES[2], "float32", None), (SHAPES[0], "bfloat16", 7)],
    ids=str,
)
def test_kernels_equal_the_reference(shape, dtype, window):
    """Ragged rows, general trees, grouped heads, windows; the value and every cotangent."""
    tree, _ = forest(*shape[:2])
    args = inputs(shape, dtype)
    wide = [x.astype(jnp.float32) for x in args]
    given = {} if window is None else {"window": jnp.int32(window)}
    want = value_and_cotangents(partial(tree_attention, backend="reference", **given), tree, *wide)
    got = run(**given)(tree, *args)
    assert all(x.dtype == dtype for x in got)
    assert_close(got, want, BOUND[dtype])


def test_one_visit_a_query_tile():
    """Rows of padding: every key tile is visited by two query tiles one after the other, and is summed up in HBM."""
    shape = (2, 64, 2, 1, 4)
    zero = jnp.zeros(shape[:2], jnp.int32)
    tree = {"position": zero, "enter": zero, "leave": zero}
    q, k, v, cotangent = inputs(shape, "float32")
    made = visits(SMALL.fit(64), zero, zero, zero, None)
    assert int(made.count[0]) == 16 and made.visit[1] - made.visit[0] == 2**KEY_BITS  # the same key tile again
    out, _, _, d_v = run()(tree, q, k, v, cotangent)
    np.testing.assert_allclose(out, jnp.repeat(v, 2, axis=2), rtol=1e-6)
    np.testing.assert_allclose(d_v[:, :, 0], jnp.sum(cotangent, axis=2), rtol=1e-5, atol=1e-6)


def test_members_of_a_vmap():
    shape = SHAPES[0]
    trees = [forest(*shape[:2], seed)[0] for seed in (0, 1)]
    q, k, v, cotangent = inputs(shape, "float32")
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *trees)
    many = jax.vmap(lambda tree: run()(tree, q, k, v, cotangent))(stacked)
    want = value_and_cotangents(partial(tree_attention, backend="reference"), trees[1], q, k, v, cotangent)
    assert_close([x[1] for x in many], want, BOUND["float32"])


def test_a_plan_is_made_once():
    """With a plan the kernels list nothing themselves: one of other trees gives their attention."""
    shape = SHAPES[0]
    (tree, _), (other, _) = (forest(*shape[:2], seed) for seed in (0, 1))
    args = inputs(shape, "float32")
    want = run()(tree, *args)
    plan = visits(SMALL.fit(shape[1]), **tree, window=None)
    assert_close(run(plan=plan)(tree, *args), want, 0.0)
    assert_close(run(plan=plan)(other, *args), want, 0.0)


@pytest.mark.parametrize("window", [None, 64])
def test_layers_share_a_plan(window, monkeypatch):
    """Visits are sorted outside of the scan over layers, in the forward and so in the backward pass."""
    monkeypatch.setattr(transformer, "platform", lambda mesh: "tpu")
    # Windowed layers have a plan of their own.
    assert sorts_and_calls(window, "none") == ([False] * (1 if window is None else 2), [True, True])


def needed(blocks, position, enter, leave, window=None):
    """Pairs of tiles that hold a visible pair of tokens of one row, from the mask itself."""
    seen = np.asarray(visible(position, enter, leave, window))[0]
    padded = blocks.padded(len(seen)) - len(seen)
    seen = np.pad(seen, ((0, padded), (0, padded))) | np.eye(len(seen) + padded, dtype=bool)
    return seen.reshape(-1, blocks.queries, len(seen) // blocks.keys, blocks.keys).any(axis=(1, 3))


@pytest.mark.parametrize("window", [None, 7])
def test_visits_are_those_needed_on_general_trees(window):
    tree, _ = forest(1, 257, seed=3)
    blocks = SMALL.fit(257)
    made = visits(blocks, **tree, window=window)
    listed = np.zeros((blocks.padded(257) // blocks.queries, blocks.padded(257) // blocks.keys), bool)
    number = np.asarray(made.visit[: int(made.count[0])])
    listed[number >> KEY_BITS, number & (2**KEY_BITS - 1)] = True
    want = needed(blocks, **tree, window=window)
    assert listed.sum() == int(made.count[0]) and np.all(np.diff(number) > 0)
    assert not (want & ~listed).any()  # no pair is left out
    assert listed.sum() <= 1.2 * want.sum()
    causal = np.tril(np.ones((257, 257), bool)).sum() / (blocks.queries * blocks.keys)
    assert listed.sum() < 0.5 * causal  # a causal mask would visit at least so many


@pytest.mark.parametrize("name", COMBS)
def test_visits_are_those_needed(name):
    """Of whole trees of the sizes in practice, in the kernel's own tiles; counted by runs of tokens."""
    tree = comb(*COMBS[name])
    blocks = BLOCKS.fit(tree["enter"].shape[1])
    made = jax.jit(partial(visits, blocks, window=None))(**tree)
    rest = blocks.padded(tree["enter"].shape[1]) - tree["enter"].shape[1]
    enter, leave = (np.pad(tree[name][0], (0, rest), constant_values=-1) for name in ("enter", "leave"))
    index, want = np.arange(len(enter)), 0
    for start in range(0, len(enter), blocks.queries):
        at = slice(start, start + blocks.queries)
        node, first = np.unique(enter[at], return_index=True)  # a node's tokens see the same others before them
        last = np.append(np.flatnonzero(np.diff(enter[at])), blocks.queries - 1) + start
        ends = dict(zip(enter[last].tolist(), last.tolist(), strict=True))
        seen = np.zeros(len(enter), bool)
        for n in node[node >= 0].tolist():
            seen |= (enter <= n) & (n < leave) & (index <= ends[n])
        seen[at] = True
        want += int(seen.reshape(-1, blocks.keys).any(axis=1).sum())
    assert want <= int(made.count[0]) <= 1.2 * want


def test_what_does_not_fit_is_refused():
    q, k, v, _ = (jax.ShapeDtypeStruct((1, 2**18, 1, 8), jnp.float32) for _ in range(4))
    index = jax.ShapeDtypeStruct((1, 2**18), jnp.int32)
    call = lambda q, k, v, i: kernel(q, k, v, position=i, enter=i, leave=i, blocks=BLOCKS)
    with pytest.raises(
        ValueError, match=f"1 rows of 262144 tokens may take .* holds {MOST_VISITS:,}: make rows shorter"
    ):
        jax.eval_shape(call, q, k, v, index)
    assert BLOCKS.most_visits(1, 2**17) < MOST_VISITS * 1.1
    with jax.enable_x64(True), pytest.raises(ValueError, match="float32 at most, and q is float64"):
        kernel(jnp.zeros((1, 8, 1, 8)), *jnp.zeros((2, 1, 8, 1, 8)), **dict.fromkeys(("position", "enter", "leave")),
               blocks=SMALL)  # fmt: skip


def gradient(q, k, v, position, enter, leave, window):
    loss = lambda q, k, v: jnp.sum(
        tree_attention(
            q, k, v, position=position, enter=enter, leave=leave, window=window, backend="pallas_tpu", platform="tpu"
        ).astype(jnp.float32)
    )
    return jax.value_and_grad(loss, argnums=(0, 1, 2))(q, k, v)


def shapes_of(case, dtype, sharding=None):
    rows, length, heads, kv_heads, width = case
    of = lambda *shape, dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
    index, key = of(rows, length, dtype=jnp.int32), of(rows, length, kv_heads, width, dtype=dtype)
    return of(rows, length, heads, width, dtype=dtype), key, key, index, index, index, of(dtype=jnp.int32)


def test_tpu_text_holds_the_kernels_and_no_callback():
    args = shapes_of((1, 1024, 4, 2, 64), jnp.bfloat16)
    text = jax.jit(gradient).trace(*args).lower(lowering_platforms=("tpu",)).as_text()
    assert "callback" not in text
    assert all(f"tree_attention_{name}" in text for name in ("forward", "backward"))


# R T N K H of Qwen2.5-0.5B and 1.5B, and of Gemma 3 1B, whose heads are widest.
TPU_CASES = [("v5e:2x2", (2, 4096, 14, 2, 64)), ("v5p:2x2x1", (1, 4096, 4, 1, 256)), ("v6e:2x2", (1, 8192, 12, 2, 128))]


@pytest.mark.needs("libtpu")
@pytest.mark.parametrize(("chip", "case"), TPU_CASES, ids=[chip for chip, _ in TPU_CASES])
def test_tpu_compiles(chip, case, monkeypatch):
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    device = topologies.get_topology_desc(platform="tpu", topology_name=chip).devices[0]
    args = shapes_of(case, jnp.bfloat16, SingleDeviceSharding(device))
    compiled = jax.jit(gradient).trace(*args).lower(lowering_platforms=("tpu",)).compile()
    assert compiled.as_text().count("tpu_custom_call") == 2
