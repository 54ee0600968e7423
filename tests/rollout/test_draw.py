"""One number a token through the inverse CDF: the distribution, and ids that are never drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy.stats import chi2

from jaxsrl.rollout import sampling
from jaxsrl.rollout.sampling import draw, inverse_cdf
from jaxsrl.sharding import MeshShape, make_mesh

V, COUNT = 300, 20_000  # two cuts


@pytest.fixture(scope="module")
def logits():
    return jnp.asarray(np.random.default_rng(0).normal(0, 1.5, V), jnp.float32)


def frequencies(logits, temperature, **how):
    keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(3), n))(jnp.arange(COUNT))[None]
    index = jnp.zeros((1, COUNT), jnp.int32)
    many = jnp.broadcast_to(logits[None, None], (1, COUNT, logits.shape[-1]))
    token, logp = jax.jit(lambda x: draw(x, keys, index, jnp.float32(temperature), **how))(many)
    return np.bincount(token[0], minlength=logits.shape[-1]), np.asarray(token[0]), np.asarray(logp[0])


def misfit(found, p):
    """p-value of chi-square over the ids, those that are expected less than 5 times together."""
    rare = p * COUNT < 5
    pool = lambda x: np.array([*x[~rare], x[rare].sum()]) if rare.any() else x
    found, expected = pool(found), pool(p * COUNT)
    return chi2.sf(((found - expected) ** 2 / expected).sum(), len(found) - 1)


@pytest.mark.parametrize("temperature, how", [(1.0, {}), (0.7, {"top_k": 40}), (1.0, {"top_p": 0.8})])
def test_ids_come_as_often_as_they_should(logits, temperature, how):
    found, token, logp = frequencies(logits, temperature, **how)
    kept = sampling.truncate(logits[None] / temperature, how.get("top_k", 0), how.get("top_p", 1.0))[0]
    p = np.asarray(jax.nn.softmax(kept), np.float64)
    assert not found[p == 0].any() and misfit(found[p > 0], p[p > 0]) > 1e-4
    np.testing.assert_allclose(logp, np.asarray(jax.nn.log_softmax(kept))[token], atol=2e-6)


def test_each_cut_takes_a_number_of_its_own(logits, monkeypatch):
    """The control: with the same number again, a part is picked and then the same place in it."""
    right = jax.random.uniform
    monkeypatch.setattr(
        sampling.jax.random, "uniform", lambda key, shape, dtype: right(key, (1,), dtype).repeat(*shape)
    )
    found, *_ = frequencies(logits, 1.0)
    assert misfit(found, np.asarray(jax.nn.softmax(logits), np.float64)) < 1e-9


def test_what_has_no_weight_is_never_drawn():
    """At the ends of the unit interval, before, between and behind what has some, in parts and behind the last one."""
    rng = np.random.default_rng(1)
    for size in (1, 7, 16, 17, 300):
        weight = rng.random((200, size)).astype("f") ** 8 * (rng.random((200, size)) < 0.2)
        weight[np.arange(200), rng.integers(0, size, 200)] += 1e-6
        for u in (0.0, 1e-7, 0.5, 1 - 2**-23, 1 - 2**-24, 1.0):
            got = np.asarray(inverse_cdf(jnp.asarray(weight), jnp.full((200, 4), u, jnp.float32)))
            assert (got < size).all() and (weight[np.arange(200), got] > 0).all()


def test_ids_no_tokenizer_knows_are_never_drawn(logits):
    """Their share stays in the log-prob, as the learner has it; greedy, too, they are passed over."""
    known = 250
    likely = logits.at[known:].add(3.0)
    for temperature in (1.0, 0.0):
        found, token, logp = frequencies(likely, temperature, known=known)
        assert not found[known:].any()
        np.testing.assert_allclose(logp, np.asarray(jax.nn.log_softmax(likely))[token], atol=2e-6)
    assert token[0] == np.argmax(logits[:known])


def test_a_vocabulary_that_is_cut_draws_the_same():
    """Over four devices, none of which gathers the logits."""
    size, count = 16 * 24, 64
    logits = jnp.asarray(np.random.default_rng(0).normal(0, 2, (2, count, size)), jnp.float32)
    keys = jax.vmap(jax.vmap(jax.random.key))(jnp.arange(2 * count).reshape(2, count))
    index = jnp.zeros((2, count), jnp.int32)
    drawn = jax.jit(lambda x: draw(x, keys, index, jnp.float32(1.0)))
    mesh = make_mesh(MeshShape(tensor=4))
    cut = jax.device_put(logits, NamedSharding(mesh, PartitionSpec(None, None, "tensor")))
    compiled = drawn.lower(cut).compile()
    for got, want in zip(compiled(cut), drawn(logits), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)
    whole = f"f32[2,{count},{size}]"
    assert not [line for line in compiled.as_text().splitlines() if "all-gather" in line and whole in line]
