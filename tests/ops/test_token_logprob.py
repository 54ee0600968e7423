"""Every backend of token_logprob and token_entropy against `reference`.

What is not scored costs nothing and may hold anything.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxsrl.ops.token_logprob import CHUNK, DEFAULT, token_entropy, token_logprob, token_logprob_and_entropy
from jaxsrl.rollout.sampling import draw

# Of the largest reference entry; bfloat16 inputs against the same numbers in float32.
BOUND = {"float32": 1e-5, "bfloat16": 2e-2, "float64": 1e-12}
SHAPES = [(100, 8, 50, 32), (257, 16, 272, 64), (128, 8, 33, 128)]  # M D V chunk


def inputs(shape, dtype="float32", seed=0):
    count, width, vocab = shape[:3]
    keys = jax.random.split(jax.random.key(seed), 5)
    hidden = jax.random.normal(keys[0], (count, width), dtype)
    head = jax.random.normal(keys[1], (width, vocab), dtype)
    target = jax.random.randint(keys[2], (count,), 0, vocab)
    return hidden, head, target, jax.random.bernoulli(keys[3], 0.4, (count,)), jax.random.normal(keys[4], (count,))


@partial(jax.jit, static_argnames=("backend", "chunk"))
def value_and_cotangents(hidden, head, target, scored, cotangent, **settings):
    out, pull = jax.vjp(lambda h, w: token_logprob(h, w, target, scored=scored, **settings), hidden, head)
    return out, *pull(cotangent.astype(out.dtype))


def assert_close(got, want, bound):
    for name, a, b in zip(("value", "d_hidden", "d_head"), got, want, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.all(np.isfinite(a)), name
        worst = np.max(np.abs(a - b)) / np.max(np.abs(b))
        assert worst <= bound, f"{name}: {worst:.1e} of the largest"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backends_agree(shape, dtype):
    hidden, head, target, some, cotangent = inputs(shape, dtype)
    wide = hidden.astype(jnp.float32), head.astype(jnp.float32)
    for scored in (None, some) if shape == SHAPES[0] else (some,):
        want = value_and_cotangents(*wide, target, scored, cotangent, backend="reference")
        got = value_and_cotangents(hidden, head, target, scored, cotangent, backend="xla", chunk=shape[3])
        assert [x.dtype for x in got] == ["float32", dtype, dtype]
        assert_close(got, want, BOUND[dtype])


def test_reference_by_hand():
    hidden, head = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]])
    want = [1 - np.log(np.e + 2), -2 - np.log(1 + np.exp(2) + np.exp(-2))]
    for backend in ("reference", "xla"):
        np.testing.assert_allclose(token_logprob(hidden, head, jnp.array([0, 2]), backend=backend), want, rtol=1e-6)


def test_backends_agree_in_float64(x64):
    hidden, head, target, some, cotangent = inputs(SHAPES[1], "float64")
    want = value_and_cotangents(hidden, head, target, some, cotangent, backend="reference")
    got = value_and_cotangents(hidden, head, target, some, cotangent, backend="xla", chunk=64)
    assert got[0].dtype == "float64"
    assert_close(got, want, BOUND["float64"])


@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_unscored_may_hold_anything(backend):
    hidden, head, target, some, cotangent = inputs(SHAPES[0])
    run = partial(value_and_cotangents, backend=backend)
    want = run(hidden, head, target, some, cotangent)
    rubbish = jnp.where(jnp.arange(hidden.shape[0]) % 2, jnp.nan, jnp.inf)[:, None]
    dirty = jnp.where(some[:, None], hidden, rubbish)
    got = run(dirty, head, jnp.where(some, target, -7), some, jnp.where(some, cotangent, 5.0))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.any(got[0][~some]) and not np.any(got[1][~some])
    # The control: the same rubbish, scored, is seen.
    assert not np.all(np.isfinite(run(dirty, head, target, jnp.ones_like(some), cotangent)[2]))


def test_chunks_without_scored_tokens_do_no_work():
    """A head of NaN would show in its own gradient if any chunk touched it."""
    hidden, head, target, some, cotangent = inputs(SHAPES[0])
    nothing = jnp.zeros_like(some)
    for part in value_and_cotangents(hidden, head * jnp.nan, target, nothing, cotangent, backend="xla", chunk=32):
        assert not np.any(part)
    one = nothing.at[70].set(True)
    assert np.isnan(value_and_cotangents(hidden, head * jnp.nan, target, one, cotangent, backend="xla")[2]).any()


def shapes_of(jaxpr):
    """Shapes of everything a jaxpr makes, in inner ones too."""
    for equation in jaxpr.eqns:
        yield from (v.aval.shape for v in equation.outvars)
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from shapes_of(inner)


@pytest.mark.parametrize("with_scored", [True, False])
def test_never_all_logits(with_scored):
    count, width, vocab, chunk = 1000, 8, 500, 64

    def grad(backend):
        hidden, head, target, some, cotangent = inputs((count, width, vocab))
        scored = some if with_scored else None
        run = lambda h, w: value_and_cotangents(h, w, target, scored, cotangent, backend=backend, chunk=chunk)
        return jax.make_jaxpr(run)(hidden, head).jaxpr

    largest = lambda backend: max(int(np.prod(s)) for s in shapes_of(grad(backend)))
    assert largest("reference") >= count * vocab  # the walk sees what there is
    assert largest("xla") <= chunk * vocab


def test_head_gradient_adds_up_in_float32():
    """Each chunk adds a 256th of the sum: in bfloat16 the sum would stand still long before its end."""
    count, chunk = 2048, 8
    one = inputs((1, 8, 16), "bfloat16")
    repeat = lambda x: jnp.repeat(x, count, axis=0)
    hidden, head, target = repeat(one[0]), one[1], repeat(one[2])
    ones = jnp.ones(count)
    want = value_and_cotangents(
        hidden.astype(jnp.float32), head.astype(jnp.float32), target, None, ones, backend="reference"
    )
    got = value_and_cotangents(hidden, head, target, None, ones, backend="xla", chunk=chunk)
    assert_close(got[2:] * 3, want[2:] * 3, 2e-2)


@pytest.mark.parametrize("width_axis", [None, "rows"])
@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_a_cut_vocabulary_changes_nothing(backend, width_axis, x64):
    """Over four devices, rows over two more, which may cut the head too: values and cotangents of one device, 1e-12."""
    hidden, head, target, some, temperature, cotangents = arguments = heated((96, 8, 52, 16), "float64")
    want = both_and_cotangents(*arguments, backend="reference")
    mesh = jax.make_mesh((2, 4), ("rows", "parts"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    settings = dict(vocab_axis="parts", width_axis=width_axis, chunk=16, backend=backend)
    part = lambda h, w, t, s, heat: token_logprob_and_entropy(h, w, t, scored=s, temperature=heat, **settings)
    rows = P("rows")
    specs = (P("rows", None), P(width_axis, "parts"), rows, rows, rows)
    cut = jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=(rows, rows), check_vma=False)

    @jax.jit
    def run(hidden, head):
        out, pull = jax.vjp(lambda h, w: cut(h, w, target, some, temperature), hidden, head)
        return *out, *pull(cotangents)

    for a, b in zip(run(hidden, head), want, strict=True):
        assert np.max(np.abs(a - b)) <= BOUND["float64"] * np.max(np.abs(b))
    text = run.lower(hidden, head).compile().as_text()
    assert (",52]" in text) == (backend == "reference")  # a device sees 13 columns, unless it gathers them


def test_a_cut_head_travels_narrow_and_its_gradient_wide():
    """Between devices in bfloat16, and back as float32 that is summed and scattered at once."""
    hidden, head, target, _, _ = inputs((8, 8, 50, 16))
    mesh = jax.make_mesh((4,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    part = lambda h, w, t: token_logprob(h, w, t, width_axis="rows", backend="xla")
    cut = jax.shard_map(
        part, mesh=mesh, in_specs=(P("rows", None), P("rows", None), P("rows")), out_specs=P("rows"), check_vma=False
    )
    grad = jax.jit(jax.grad(lambda w: cut(hidden.astype(jnp.bfloat16), w, target).sum()))
    text = grad.lower(head.astype(jnp.float32)).as_text()
    assert re.findall(r'"stablehlo.all_gather".*-> tensor<(\w+)>', text) == ["8x50xbf16"]
    assert re.findall(r'"stablehlo.reduce_scatter".*?-> tensor<(\w+)>', text, re.DOTALL) == ["2x50xf32"]


def test_a_frozen_head_gets_no_gradient_made():
    """Nothing of the head's shape is made but its copies in another dtype; the control asks for the gradient."""
    hidden, head, target, some, _ = inputs((40, 8, 50, 16))
    total = lambda h, w: token_logprob(h, w, target, scored=some, backend="xla", chunk=16).sum()
    made = lambda which: list(shapes_of(jax.make_jaxpr(jax.grad(total, which))(hidden, head).jaxpr)).count((8, 50))
    assert made(0) == 0 and made((0, 1)) >= 2


def test_under_vmap_each_member_keeps_its_own_count():
    hidden, head, target, some, _ = inputs(SHAPES[0])
    masks = jnp.stack([some, ~some, jnp.zeros_like(some)])
    score = lambda mask: token_logprob(hidden, head, target, scored=mask, backend="xla", chunk=32)
    np.testing.assert_allclose(jax.vmap(score)(masks), jnp.stack([score(m) for m in masks]), rtol=1e-5)


@partial(jax.jit, static_argnames=("backend", "chunk"))
def both_and_cotangents(hidden, head, target, scored, temperature, cotangents, **settings):
    """(log-prob, entropy, d_hidden, d_head)."""
    score = lambda h, w: token_logprob_and_entropy(h, w, target, scored=scored, temperature=temperature, **settings)
    out, pull = jax.vjp(score, hidden, head)
    return *out, *pull(tuple(c.astype(x.dtype) for c, x in zip(cotangents, out, strict=True)))


def by_numpy(hidden, head, target, scored, temperature, cotangents):
    """The same, slowly: one token after the other, with the textbook derivatives of log p and of -sum p log p."""
    logp, entropy, d_hidden, d_head = np.zeros(len(target)), np.zeros(len(target)), 0 * hidden, 0 * head
    for m in np.flatnonzero(scored):
        z = hidden[m] @ head / temperature[m]
        logs = z - z.max() - np.log(np.exp(z - z.max()).sum())
        p = np.exp(logs)
        logp[m], entropy[m] = logs[target[m]], -(p * logs).sum()
        d_z = cotangents[0][m] * (np.eye(len(z))[target[m]] - p) - cotangents[1][m] * p * (logs + entropy[m])
        d_hidden[m] = head @ d_z / temperature[m]
        d_head += np.outer(hidden[m], d_z) / temperature[m]
    return logp, entropy, d_hidden, d_head


def heated(shape, dtype="float32"):
    """Arguments of `both_and_cotangents`: a temperature of each token, rubbish where nothing is scored."""
    hidden, head, target, some, cotangent = inputs(shape, dtype)
    temperature = jax.random.uniform(jax.random.key(7), some.shape, minval=0.4, maxval=1.6)
    more = jax.random.normal(jax.random.key(8), some.shape)
    return hidden, head, target, some, jnp.where(some, temperature, 0.0), (cotangent, more)


@pytest.mark.parametrize("share", ["some", "all"])
@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_temperature_and_entropy_in_float64(backend, share, x64):
    """Against NumPy, values and gradients, 1e-12; the last chunk is filled up by what is not scored, or by padding."""
    hidden, head, target, some, temperature, cotangents = heated(SHAPES[0], "float64")
    if share == "all":
        some, temperature = jnp.ones_like(some), jnp.where(some, temperature, 0.8)
    arguments = hidden, head, target, some, temperature, cotangents
    got = both_and_cotangents(*arguments, backend=backend, chunk=32)
    want = by_numpy(*jax.tree.map(np.asarray, arguments))
    for name, a, b in zip(("logp", "entropy", "d_hidden", "d_head"), got, want, strict=True):
        assert np.max(np.abs(a - b)) <= 1e-12 * np.max(np.abs(b)), name
    # The control: a temperature that does not reach the gradient.
    wrong = by_numpy(*jax.tree.map(np.asarray, (*arguments[:4], jnp.ones_like(arguments[4]), arguments[5])))
    assert all(np.max(np.abs(a - b)) > 1e-2 * np.max(np.abs(b)) for a, b in zip(got, wrong, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_temperature_and_entropy_agree_between_backends(dtype):
    arguments = heated(SHAPES[1], dtype)
    wide = *(x.astype(jnp.float32) for x in arguments[:2]), *arguments[2:]
    want = both_and_cotangents(*wide, backend="reference")
    got = both_and_cotangents(*arguments, backend="xla", chunk=64)
    assert [x.dtype for x in got] == ["float32", "float32", dtype, dtype]
    for a, b in zip(got, want, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.max(np.abs(a - b)) <= BOUND[dtype] * np.max(np.abs(b))


@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_each_of_both_is_what_it_is_alone(backend, x64):
    """A scalar is the temperature of every token, and nothing flows back into it."""
    hidden, head, target, some, _ = inputs(SHAPES[0], "float64")
    settings = dict(scored=some, temperature=0.6, backend=backend, chunk=32)
    logp, entropy = token_logprob_and_entropy(hidden, head, target, **settings)
    np.testing.assert_array_equal(logp, token_logprob(hidden, head, target, **settings))
    np.testing.assert_array_equal(entropy, token_entropy(hidden, head, **settings))
    total = lambda run, at: jax.grad(lambda *x: run(*x).sum(), at)(hidden, head)
    both = lambda which: lambda h, w: token_logprob_and_entropy(h, w, target, **settings)[which]
    alone = (lambda h, w: token_logprob(h, w, target, **settings), partial(token_entropy, **settings))
    for which in (0, 1):
        for got, want in zip(total(both(which), (0, 1)), total(alone[which], (0, 1)), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-14)
    by_temperature = lambda t: token_logprob(hidden, head, target, **settings | {"temperature": t}).sum()
    assert jax.grad(by_temperature)(0.6) == 0


def test_entropy_by_hand():
    """All logits equal: log V. One far above the others: 0, and no worse for large logits."""
    head = jnp.eye(4)
    hidden = jnp.array([[1.0, 1.0, 1.0, 1.0], [500.0, 0.0, 0.0, 0.0], [500.0, 500.0, 0.0, 0.0]])
    for backend in ("reference", "xla"):
        got = token_entropy(hidden, head, backend=backend)
        np.testing.assert_allclose(got, [np.log(4), 0.0, np.log(2)], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backend", ["reference", "xla"])
def test_sampler_and_learner_agree(backend, dtype, temperature):
    """On equal hidden states, to 1e-5 nats in either precision: both divide float32 logits by the temperature."""
    count, width, vocab = 256, 128, 1000
    hidden = jax.random.normal(jax.random.key(0), (count, width), dtype)
    # In both, the head is rounded to the dtype of the products.
    head = (jax.random.normal(jax.random.key(1), (width, vocab)) * 3 / width**0.5).astype(dtype)
    logits = jnp.matmul(hidden, head, preferred_element_type=jnp.float32)
    keys = jax.random.split(jax.random.key(2), (1, count))
    index = jnp.zeros((1, count), jnp.int32)
    token, sampled = (x[0] for x in draw(logits[None], keys, index, jnp.float32(temperature)))
    learned = token_logprob(hidden, head, token, temperature=temperature, backend=backend)
    assert np.abs(learned - sampled).max() < 1e-5
    # The control: hidden states divided in their own dtype. In bfloat16 they, and the factor, are rounded.
    divided = hidden * jnp.asarray(1.0 / temperature, dtype)
    wrong = np.abs(token_logprob(divided, head, token, backend=backend) - sampled).max()
    assert (wrong > 1e-2) == (dtype == "bfloat16" and temperature != 1)


def test_settings_are_checked():
    hidden, head, target, some, _ = inputs(SHAPES[0])
    with pytest.raises(ValueError, match="temperature must be > 0, got 0"):
        token_entropy(hidden, head, temperature=0)
    with pytest.raises(ValueError, match="temperature must be a scalar or one per token"):
        token_logprob(hidden, head, target, temperature=jnp.ones(3))
    assert set(DEFAULT) == set(CHUNK)
    with pytest.raises(ValueError, match="unknown backend 'mine'.*reference, xla"):
        token_logprob(hidden, head, target, backend="mine")
    with pytest.raises(ValueError, match="chunk must be >= 1, got 0"):
        token_logprob(hidden, head, target, chunk=0)
    with pytest.raises(ValueError, match="shapes do not fit"):
        token_logprob(hidden, head, target[:-1])
