"""The sampler under vmap: each member gets what it gets alone, from one loop that selects and scatters no cache."""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.sharding import PartitionSpec

from jaxsrl.models import cache, transformer
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params
from jaxsrl.rollout import sampler
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.types import Prompts

MEMBERS, R, K, T, CAP, END = 4, 2, 3, 8, 9, 0
MODEL = ModelConfig(vocab=11, width=12, layers=2, heads=2, kv_heads=1, head_width=6, mlp_width=10, qk_norm=True)
MATRIX = (MEMBERS, MODEL.layers, MODEL.width, MODEL.mlp_width)  # as the population holds it
CACHE = (MEMBERS, MODEL.layers, R, MODEL.kv_heads, K, CAP, MODEL.head_width)  # of all members
sample = make_sampler(MODEL, Sampling(max_new_tokens=CAP), (END,))


def prompts(seed=0):
    """Every row is one path; the last slot of the last row is empty."""
    rng = np.random.default_rng(seed)
    return Prompts(
        token=rng.integers(1, MODEL.vocab, (R, T)).astype(np.int32),
        position=np.tile(np.arange(T, dtype=np.int32), (R, 1)),
        enter=np.zeros((R, T), np.int32), leave=np.ones((R, T), np.int32),
        slot_parent=np.full((R, K), T - 1, np.int32), slot_enter=np.zeros((R, K), np.int32),
        slot_active=np.arange(R * K).reshape(R, K) < R * K - 1,
        slot_address=rng.integers(0, 99, (R, K, 6)).astype(np.uint32),
    )  # fmt: skip


def stack(make):
    return jax.tree.map(lambda *x: jnp.stack(x), *map(make, range(MEMBERS)))


@pytest.fixture(scope="module")
def arguments():
    """Of all members, each with a leading axis."""
    params = stack(lambda m: init_params(MODEL, jax.random.key(m)))
    keys = jax.vmap(jax.random.key)(jnp.arange(MEMBERS))
    return params, stack(prompts), keys, jnp.linspace(0.6, 1.2, MEMBERS)


@pytest.fixture(scope="module")
def alone(arguments):
    """alone(own): what the members write one by one; an argument that is not their own is the first member's."""
    one = jax.jit(sample)
    of = lambda x, m: jax.tree.map(lambda y: y[m], x)
    return lambda own: stack(lambda m: one(*(of(x, m if mine else 0) for x, mine in zip(arguments, own, strict=True))))


def check(got, want):
    np.testing.assert_array_equal(got.token, want.token)
    np.testing.assert_array_equal(got.length, want.length)
    # Relative too: a product over the rows of all members may add up in another order than that of one's rows.
    np.testing.assert_allclose(got.logp, want.logp, rtol=1e-6, atol=1e-6)


def given(arguments, own):
    axes = [0 if mine else None for mine in own]
    return axes, [x if mine else jax.tree.map(lambda y: y[0], x) for x, mine in zip(arguments, own, strict=True)]


WHOLE = (True, False, True, True)  # what a population has: prompts are shared


@pytest.mark.parametrize(
    "own", [WHOLE, (True,) * 4, (False, False, True, False), (True, False, False, False), (False, False, False, True)],
    ids=["population", "all", "key", "params", "temperature"],
)  # fmt: skip
def test_members_write_what_they_write_alone(arguments, alone, own):
    axes, args = given(arguments, own)
    got, want = jax.jit(jax.vmap(sample, in_axes=axes))(*args), alone(own)
    check(got, want)
    assert len({x.tobytes() for x in np.asarray(want.token)}) > 1
    lengths = np.asarray(got.length)
    assert (lengths[:, -1] == 0).all() and lengths[:, :-1].min() >= 1
    behind = np.arange(CAP) >= lengths[:, :, None]
    assert (np.asarray(got.token)[behind] == 0).all() and (np.asarray(got.logp)[behind] == 0).all()
    if own == WHOLE:  # the loop goes on for others after some have ended
        assert lengths[:, :-1].min() < CAP == lengths.max()


def test_the_loop_may_be_nested(arguments, alone):
    """Steps by scan inside of members; members of members; members spread over devices."""
    own = (True, False, True, False)
    want = alone(own)
    axes, (params, shared, keys, temperature) = given(arguments, own)

    def steps(params, key):
        step = lambda key, _: (jax.random.fold_in(key, 1), sample(params, shared, key, temperature))
        return jax.lax.scan(step, key, None, length=2)[1]

    of = lambda x, i: jax.tree.map(lambda y: y[:, i], x)
    many = jax.jit(jax.vmap(steps))(params, keys)
    check(of(many, 0), want)
    later = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, 1)
    check(of(many, 1), jax.jit(jax.vmap(sample, in_axes=axes))(params, shared, later, temperature))

    run = lambda params, key: sample(params, shared, key, temperature)
    pairs = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (params, keys))
    nested = jax.jit(jax.vmap(jax.vmap(run)))(*pairs)
    check(jax.tree.map(lambda x: x.reshape(MEMBERS, *x.shape[2:]), nested), want)

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("member",))
    spread = partial(jax.shard_map, mesh=mesh, in_specs=PartitionSpec("member"), out_specs=PartitionSpec("member"))
    check(jax.jit(spread(jax.vmap(run), check_vma=False))(params, keys), want)


def loop(arguments, shape=CACHE):
    """(shape of the predicate, how many operations of the loop's body have an operand of a shape)."""
    axes, args = given(arguments, WHOLE)
    many = jax.make_jaxpr(jax.vmap(lambda *args: sample(*args), in_axes=axes))(*args)
    (found,) = [e for e in many.eqns if e.primitive.name == "while" and any(v.aval.shape == CACHE for v in e.outvars)]
    names = [
        e.primitive.name for e in equations(found.params["body_jaxpr"].jaxpr)
        if any(v.aval.shape == shape for v in e.invars)
    ]  # fmt: skip
    return found.params["cond_jaxpr"].out_avals[0].shape, Counter(names)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def test_one_predicate_and_no_cache_is_selected_or_scattered(arguments, monkeypatch):
    """The controls: a predicate of each member's own, and slices that JAX batches by itself."""
    monkeypatch.setattr(cache, "LEAST", 1)  # several sizes are read: else there is no choice to be batched
    shape, found = loop(arguments)
    assert shape == ()
    assert not found["select_n"] and not found["scatter"] and not found["gather"]
    assert found["dynamic_update_slice"] == 2 and found["dynamic_slice"] >= 2  # of keys and of values
    with monkeypatch.context() as changed:
        changed.setattr(sampler, "any_member", jnp.any)
        shape, found = loop(arguments)
        assert shape == (MEMBERS,) and found["select_n"] and found["scatter"]
    monkeypatch.setattr(cache, "write_at", jax.lax.dynamic_update_slice)
    shape, found = loop(arguments)
    assert shape == () and found["scatter"] == 2 and not found["select_n"]


def test_a_token_moves_no_parameters(arguments, monkeypatch):
    """A scan over layers would bring the layers of all members to the front, for every token."""
    _, found = loop(arguments, MATRIX)
    assert found["dynamic_slice"] == 2 and not found["transpose"] and not found["gather"]  # `gate` and `up`
    monkeypatch.setattr(transformer, "read_at", jax.lax.dynamic_slice)
    assert loop(arguments, MATRIX)[1]["gather"] == 2


def test_a_gradient_stops_at_the_sampler(arguments):
    """A loss may sample inside of what is differentiated, from parameters behind stop_gradient."""
    _, (params, shared, key, temperature) = given(arguments, (False,) * 4)

    def loss(params):
        written = sample(jax.lax.stop_gradient(params), shared, key, temperature)
        return jnp.sum(params["final_norm"]) * jnp.sum(written.logp)

    got = jax.jit(jax.grad(loss))(params)
    assert (got["final_norm"] < 0).all() and not got["embedding"].any()
