"""Trees for the tests of tree attention, and how its results are compared."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsrl.models import transformer
from jaxsrl.models.config import ModelConfig

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


def comb(prompt, action, points, length, samples):
    """position, enter, leave of one demonstration whose every branch point has completions, in depth-first order."""
    ends = [prompt + action * k for k in range(points)]
    nodes = [(k, prompt if k == 0 else action, points + (points - k) * samples, ends[k - 1] if k else 0)
             for k in range(points)]  # fmt: skip
    for k in reversed(range(points)):
        nodes += [(len(nodes) + n, length, len(nodes) + n + 1, ends[k]) for n in range(samples)]
    made = [
        (np.arange(size) + start, np.full(size, number), np.full(size, leave)) for number, size, leave, start in nodes
    ]
    columns = [np.concatenate(part).astype(np.int32)[None] for part in zip(*made, strict=True)]
    return dict(zip(("position", "enter", "leave"), columns, strict=True))


COMBS = {  # prompt, action, branch points, completion, samples
    "math": (200, 150, 9, 300, 8),
    "long": (250, 200, 15, 400, 8),
    "agent": (2000, 400, 19, 300, 8),
    "grpo": (200, 0, 1, 1024, 8),
}


def sorts_and_calls(window, remat):
    """Of the gradient of a model of three layers: whether each sort is within a scan, and each kernel's call."""
    model = ModelConfig(
        vocab=8, width=8, layers=3, heads=2, kv_heads=1, head_width=8, mlp_width=8, window=window, remat=remat
    )  # fmt: skip
    params = jax.eval_shape(lambda: transformer.init_params(model, jax.random.key(0)))
    index = jax.ShapeDtypeStruct((1, 256), jnp.int32)
    loss = lambda params, *tree: jnp.sum(transformer.forward(model, params, *tree))
    found = list(_primitives(jax.make_jaxpr(jax.grad(loss))(params, *[index] * 4).jaxpr))
    return tuple([in_scan for name, in_scan in found if name == kind] for kind in ("sort", "pallas_call"))


def _primitives(jaxpr, in_scan=False):
    """(name, whether it is within a scan) of every equation."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name, in_scan
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns"):
                yield from _primitives(getattr(inner, "jaxpr", inner), in_scan or equation.primitive.name == "scan")
