"""The decoder against one written out in NumPy, and what it promises about trees, dtypes and recomputation."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.rope import Llama3Scaling, rope_frequencies
from jaxsrl.models.transformer import forward, head_matrix, init_params

SMALL = ModelConfig(
    vocab=31, width=16, layers=3, heads=4, kv_heads=2, head_width=6, mlp_width=20, qkv_bias=True, qk_norm=True,
    tied=False, rope_scaling=Llama3Scaling(factor=4.0, original_length=32),
)  # fmt: skip

# Node by node: (tokens, position of the first, enter, leave). A with children B and D, C below B; then padding.
NODES = {"A": (5, 0, 0, 4), "B": (4, 5, 1, 3), "C": (3, 9, 2, 3), "D": (4, 5, 3, 4), "pad": (2, 0, -1, -1)}
PATHS = {"C": "ABC", "D": "AD"}


def tree(rows=1):
    """position, enter, leave [R T], and the row indices of each node."""
    columns, where, at = [], {}, 0
    for name, (tokens, first, enter, leave) in NODES.items():
        where[name] = np.arange(at, at + tokens)
        at += tokens
        depth = np.arange(tokens) * (name != "pad")
        columns.append(np.stack([first + depth, np.full(tokens, enter), np.full(tokens, leave)]))
    return tuple(jnp.asarray(np.repeat(x[None], rows, 0), jnp.int32) for x in np.concatenate(columns, axis=1)), where


def random_params(config, dtype="float32", seed=0):
    """Drawn by NumPy, which compiles nothing; vectors too are away from 1 and 0, so that a forgotten one shows."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    draw = lambda x: rng.normal(0.5, 0.3, x.shape) if len(x.shape) < 3 else rng.normal(0, x.shape[1] ** -0.5, x.shape)
    return jax.tree.map(lambda x: jnp.asarray(draw(x), dtype), shapes)


def causal(token):
    """position, enter, leave of plain rows."""
    zero = jnp.zeros_like(token)
    return jnp.broadcast_to(jnp.arange(token.shape[1])[None], token.shape), zero, zero + 1


def written_out(config, params, token):
    """The logits of one sequence, token by token and head by head, in float64."""
    c, p = config, jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    norm = lambda x, w: x / math.sqrt(np.mean(x * x) + c.rms_epsilon) * (1 + w if c.norm_offset else w)
    post = lambda x, layer, name: norm(x, layer[name]) if c.post_norms else x
    powers = [-2 * i / c.head_width for i in range(c.head_width // 2)]
    everywhere = [stretched(c.rope_base**power, c.rope_scaling) for power in powers]
    local = [c.local_rope_base**power for power in powers] if c.local_rope_base else everywhere
    windowed = lambda number: c.window is not None and number not in c.global_layers

    def turn(x, position, number):
        half, out = c.head_width // 2, x.copy()
        for i, f in enumerate(local if windowed(number) else everywhere):
            cos, sin = math.cos(position * f), math.sin(position * f)
            out[i], out[i + half] = x[i] * cos - x[i + half] * sin, x[i + half] * cos + x[i] * sin
        return out

    def heads(x, layer, name, position, number):
        made = (x @ layer[name] + layer[f"{name}_bias"]).reshape(-1, c.head_width)
        if name == "value":
            return made
        return np.stack([turn(norm(h, layer[f"{name}_norm"]), position, number) for h in made])

    xs = [p["embedding"][t] * (math.sqrt(c.width) if c.scale_embedding else 1) for t in token]
    for number in range(c.layers):
        layer = {name: x[number] for name, x in p["layers"].items()}
        made = [
            [heads(norm(x, layer["attention_norm"]), layer, name, t, number) for name in ("query", "key", "value")]
            for t, x in enumerate(xs)
        ]
        for t in range(len(xs)):
            out = []
            for n in range(c.heads):
                own = n // (c.heads // c.kv_heads)
                seen, q = made[: t + 1], made[t][0][n] / math.sqrt(c.query_scalar or c.head_width)
                seen = seen[-c.window :] if windowed(number) else seen
                weight = np.array([math.exp(q @ k[own]) for _, k, _ in seen])
                out.append(sum(w * v[own] for w, (_, _, v) in zip(weight, seen, strict=True)) / weight.sum())
            x = xs[t] + post(np.concatenate(out) @ layer["out"], layer, "attention_post_norm")
            y = norm(x, layer["mlp_norm"])
            y = (ACTIVATION[c.activation](y @ layer["gate"]) * (y @ layer["up"])) @ layer["down"]
            xs[t] = x + post(y, layer, "mlp_post_norm")
    return np.stack([norm(x, p["final_norm"]) @ (p["embedding"].T if c.tied else p["head"]) for x in xs])


ACTIVATION = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


def stretched(frequency, scaling):
    """Llama 3's rule, by wavelength."""
    if scaling is None:
        return frequency
    wavelength, length = 2 * math.pi / frequency, scaling.original_length
    if wavelength < length / scaling.high_frequency_factor:
        return frequency
    if wavelength > length / scaling.low_frequency_factor:
        return frequency / scaling.factor
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    smooth = (length / wavelength - low) / (high - low)
    return (1 - smooth) * frequency / scaling.factor + smooth * frequency


GEMMA = replace(
    SMALL, tied=True, rope_scaling=None, rope_base=1e5, window=4, global_layers=(1,), local_rope_base=1e3,
    query_scalar=10.0, activation="gelu_tanh", norm_offset=True, post_norms=True, scale_embedding=True,
)  # fmt: skip


@pytest.mark.parametrize("config", [replace(SMALL, tied=True, rope_scaling=None), SMALL, GEMMA])
def test_forward_equals_the_one_written_out(x64, config):
    params = random_params(config, "float64")
    token = jax.random.randint(jax.random.key(2), (1, 12), 0, config.vocab)
    hidden = jax.jit(partial(forward, config))(params, token, *causal(token))
    assert hidden.dtype == "float64"  # of the parameters, though config.dtype is float32
    want = written_out(config, params, np.asarray(token[0]))
    np.testing.assert_allclose(hidden[0] @ head_matrix(config, params), want, atol=1e-10 * np.abs(want).max())


def test_llama3_frequencies():
    config = replace(SMALL, head_width=64, rope_base=5e5, rope_scaling=Llama3Scaling(factor=32.0))
    plain = [5e5 ** (-2 * i / 64) for i in range(32)]
    want = [stretched(f, config.rope_scaling) for f in plain]
    assert want[0] == plain[0] and want[-1] == plain[-1] / 32
    assert any(p / 32 < w < p for p, w in zip(plain, want, strict=True))  # all three cases are in it
    made = rope_frequencies(config.head_width, config.rope_base, config.rope_scaling, jnp.float32)
    np.testing.assert_allclose(made, want, rtol=2e-6)


def test_a_tree_equals_its_paths(x64):
    """Hidden states of every node, and the gradient of a sum over both leaves' paths."""
    params = random_params(SMALL, "float64")
    where = tree()[1]
    token = jax.random.randint(jax.random.key(3), (1, 18), 0, SMALL.vocab)
    weight = {name: jax.random.normal(jax.random.key(ord(name)), (len(where[name]), 16)) for name in "ABCD"}

    def packed(params):
        hidden = forward(SMALL, params, token, *tree()[0])[0]
        return sum(jnp.sum(hidden[where[name]] * weight[name]) for name in "ABCD")

    def paths(params):
        total = 0.0
        for leaf, path in PATHS.items():
            index = np.concatenate([where[name] for name in path])
            hidden = forward(SMALL, params, token[:, index], *causal(token[:, index]))[0]
            for name in path if leaf == "C" else "D":  # A belongs to both paths, and counts once
                hidden_of = hidden[np.isin(index, where[name])]
                total += jnp.sum(hidden_of * weight[name])
        return total

    got, want = (jax.jit(jax.value_and_grad(f))(params) for f in (packed, paths))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10 * np.abs(b).max())


@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_siblings_do_not_leak(backend):
    params, (layout, where) = random_params(SMALL), tree(rows=2)
    token = jax.random.randint(jax.random.key(3), (2, 18), 0, SMALL.vocab)
    other = token.at[0, where["B"][1]].add(1)
    run = jax.jit(lambda token: forward(SMALL, params, token, *layout, attention_backend=backend))
    before, after = run(token), run(other)
    moved = np.any(np.asarray(before != after), axis=-1)
    assert np.array_equal(np.flatnonzero(moved[0]), [*where["B"][1:], *where["C"]])
    assert not moved[1].any() and np.all(np.isfinite(after))


def test_recomputation_changes_no_gradient():
    small = replace(SMALL, qkv_bias=False, qk_norm=False, rope_scaling=None)
    params, layout = random_params(small), tree()[0]
    token = jax.random.randint(jax.random.key(3), (1, 18), 0, SMALL.vocab)

    def grad(remat):
        config = replace(small, remat=remat)
        return jax.jit(jax.grad(lambda p: jnp.sum(forward(config, p, token, *layout) ** 2)))(params)

    plain = grad("none")
    for remat in ("full", "dots"):
        for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(grad(remat)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max())


def test_bfloat16_computes_over_float32_parameters():
    config = replace(SMALL, dtype="bfloat16")
    params, layout = random_params(config), tree()[0]
    token = jax.random.randint(jax.random.key(3), (1, 18), 0, SMALL.vocab)
    cotangent = jax.random.normal(jax.random.key(4), (1, 18, SMALL.width))
    loss = lambda c: lambda p: jnp.sum(forward(c, p, token, *layout).astype(jnp.float32) * cotangent)
    assert jax.eval_shape(lambda p: forward(config, p, token, *layout), params).dtype == "bfloat16"
    got, want = (jax.jit(jax.grad(loss(c)))(params) for c in (config, SMALL))
    assert np.all(np.asarray(got.pop("head")) == 0) and np.all(np.asarray(want.pop("head")) == 0)  # not of forward's
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == "float32"
        # 3 layers of 8-bit roundings; a wrong formula is off by the size of the gradient itself.
        assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(b)


def test_init_is_a_function_of_the_key():
    a, b, c = (init_params(SMALL, jax.random.key(n)) for n in (0, 0, 1))
    same = jax.tree.map(lambda x, y: bool(jnp.all(x == y)), a, b)
    assert all(jax.tree.leaves(same)) and not jnp.any(a["embedding"] == c["embedding"])
    query = a["layers"]["query"]
    assert not jnp.any(query[0] == query[1])  # layers are drawn apart
    assert abs(float(jnp.std(query)) * SMALL.width**0.5 - 1) < 0.15
    assert abs(float(jnp.std(a["layers"]["down"])) * (SMALL.mlp_width * 2 * SMALL.layers) ** 0.5 - 1) < 0.15
