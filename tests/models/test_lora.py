"""Adapters: nothing at zero, the gradients of a matrix that was really changed, and one merged model at the end."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.lora import LoRA, frozen, init_adapters, merged, with_adapters
from jaxsrl.models.transformer import forward, init_params
from jaxsrl.objectives.chord import CHORD
from jaxsrl.objectives.dpo import DPO
from jaxsrl.objectives.numbers import numbers_of
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import MeshShape, make_mesh, place_rows, state_sharding
from jaxsrl.types import Batch, Prompts
from jaxsrl.update import (
    AdamW,
    batch_logp,
    init_state,
    make_apply,
    make_gradient,
    make_loss,
    make_scorer,
    make_train_step,
    on_base,
    optimizer,
)

MODEL = ModelConfig(vocab=40, width=16, layers=2, heads=4, kv_heads=2, head_width=6, mlp_width=32)
SOME = LoRA(rank=3, alpha=5.0)
R, T = 4, 12
reward = lambda rollouts, demonstrations: None
OBJECTIVES = {
    "sft": SFT(), "srl": SRL(reward=reward), "rlvr": RLVR(reward=reward), "chord": CHORD(reward=reward),
    "dpo": DPO(reward=reward),
}  # fmt: skip


def batch(seed=0):
    """Rows of five prompt tokens and seven of a rollout, two rollouts a group,
    or of the expert in the last row."""
    rng = np.random.default_rng(seed)
    index = np.tile(np.arange(T, dtype=np.int32), (R, 1))
    on, expert = index >= 5, np.arange(R)[:, None] == R - 1
    sign = np.where(index < 5, 0, 1 - 2 * (np.arange(R)[:, None] % 2)).astype(np.float32)
    some = lambda where: np.where(where & on, rng.uniform(0.5, 1.5, (R, T)), 0).astype(np.float32)
    row = np.arange(R, dtype=np.int32)[:, None]
    return Batch(
        token=rng.integers(0, MODEL.vocab, (R, T)).astype(np.int32), position=index, enter=index * 0,
        leave=index * 0 + 1, parent=np.maximum(index - 1, 0), rollout=np.where(on & ~expert, row, -1),
        nll_weight=some(expert), pg_weight=some(~expert), advantage=sign,
        behavior_logp=(-4 + rng.normal(size=(R, T)) / 9).astype(np.float32), ref_logp=np.full((R, T), -4, np.float32),
        group=np.where(on & ~expert, row // 2, -1),
    )  # fmt: skip


def parts(config=MODEL, dtype="float32"):
    """A base, new adapters, and adapters whose B is not zero."""
    base = jax.jit(init_params, static_argnums=0)(config, jax.random.key(0))
    new = jax.jit(init_adapters, static_argnums=(0, 1))(config, SOME, jax.random.key(1))
    rng = np.random.default_rng(2)
    base, new = jax.tree.map(lambda x: np.asarray(x, dtype), (base, new))
    return base, new, jax.tree.map(lambda x: (x + 0.1 * rng.normal(size=x.shape)).astype(dtype), new)


def prompts():
    b = batch()
    return Prompts(
        token=b.token, position=b.position, enter=b.enter, leave=b.leave,
        slot_parent=np.full((R, 2), T - 1, np.int32), slot_enter=np.zeros((R, 2), np.int32),
        slot_active=np.ones((R, 2), bool), slot_address=np.arange(R * 12).reshape(R, 2, 6).astype(np.uint32),
    )  # fmt: skip


@jax.jit
def numbers(params):
    """Hidden states of the learner; tokens and log-probs of the sampler."""
    b, sample = batch(), make_sampler(MODEL, Sampling(max_new_tokens=5), (0,))
    hidden = forward(MODEL, params, b.token, b.position, b.enter, b.leave)
    written = sample(params, prompts(), jax.random.key(3), jnp.float32(1.0))
    return hidden, written.token, written.logp


def test_new_adapters_change_no_number_and_trained_ones_can_be_merged():
    """Bit for bit at zero, in learner and sampler; merged, to float32's accuracy. The controls differ in both."""
    base, new, moved = parts()
    whole = with_adapters(SOME, base, moved)
    want, same, trained, one, wrong = (
        jax.device_get(numbers(p))
        for p in (base, with_adapters(SOME, base, new), whole, merged(SOME, base, moved),
                  merged(replace(SOME, alpha=3.0), base, moved))
    )  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, same, want)
    np.testing.assert_allclose(one[0], trained[0], atol=1e-5 * np.abs(trained[0]).max())
    np.testing.assert_array_equal(one[1], trained[1])
    np.testing.assert_allclose(one[2], trained[2], atol=1e-5)
    for control in (want, wrong):
        assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(control[::2], trained[::2], strict=True))


@pytest.fixture(scope="module")
def pull():
    """pull(adapters, base, batch, cotangent): gradient by the adapters of W + scale A B, built whole, and log-probs."""

    @jax.jit
    def run(adapters, base, batch, cotangent):
        logp, back = jax.vjp(lambda x: batch_logp(MODEL, merged(SOME, base, x), batch, 0.8), adapters)
        return back(cotangent)[0], logp

    return run


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_a_changed_matrix(name, x64, pull):
    """float64, 1e-10 of the largest entry."""
    base, _, moved = parts(dtype="float64")
    objective, material = OBJECTIVES[name], batch()
    numbers = numbers_of(objective)
    logp = pull(moved, base, material, jnp.zeros((R, T)))[1]
    want, _ = pull(moved, base, material, jax.grad(lambda x: objective.token_loss(x, material, numbers)[0])(logp))
    got, metrics = make_gradient(on_base(make_loss(MODEL, objective, 0.8), SOME))(moved, material, numbers, base)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(want))
    assert largest > 1e-4 and np.isfinite(metrics["loss"])
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-10 * largest, rtol=0), got, want)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_the_base_is_not_differentiated(remat):
    """No product of the backward pass has a matrix's shape; the control: without LoRA some have."""
    config = replace(MODEL, remat=remat, vocab=56, mlp_width=44, tied=False)
    base, new, _ = parts(config=config)
    loss = make_loss(config, SFT(), 1.0)
    step = make_gradient(on_base(loss, SOME))
    traced = jax.make_jaxpr(step)(new, batch(), numbers_of(SFT()), base)
    assert traced.out_avals[: len(jax.tree.leaves(new))] == [jax.typeof(x) for x in jax.tree.leaves(new)]
    whole = jax.make_jaxpr(make_gradient(loss))(base, batch(), numbers_of(SFT()))
    matrices = {(16, 44), (44, 16), (16, 24), (16, 56)}
    made = lambda traced: [dot for dot in _dots(traced.jaxpr) if dot in matrices]
    assert not made(traced) and {(16, 44), (44, 16), (16, 56)} <= set(made(whole)), made(traced)


def _dots(jaxpr):
    """Shapes of the results of all matrix products."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            shape = equation.outvars[0].aval.shape
            yield from (shape, shape[::-1])
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _dots(inner)


def test_recomputing_keeps_no_more_than_without_adapters():
    """Between the passes of remat="dots": what is as large as the results of x W is there once, not twice."""
    config = replace(MODEL, remat="dots", mlp_width=44)
    base, new, _ = jax.tree.map(jnp.asarray, parts(config=config))
    b = batch()
    run = lambda params: forward(config, params, b.token, b.position, b.enter, b.leave).sum()

    def kept(function, *args):
        made = jax.make_jaxpr(lambda *args: jax.vjp(function, *args)[1])(*args).out_avals
        return sorted(x.shape for x in made if x.shape[0:2] == (2, R * T) and x.shape[2] > SOME.rank)

    assert kept(lambda x: run(with_adapters(SOME, base, x)), new) == kept(run, base)


def test_a_step_trains_adapters_alone():
    base, new, _ = parts()
    before = jax.tree.map(np.array, base)
    tx = optimizer(AdamW(lr=1e-2))
    gradient = make_gradient(on_base(make_loss(MODEL, SFT(), 1.0), SOME))
    step = make_train_step(gradient, make_apply(tx, lambda step: 1e-2))
    state = init_state(new, tx, jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(state.opt_state)) <= 2 * sum(x.size for x in jax.tree.leaves(new)) + 3
    losses = []
    for _ in range(4):
        state, metrics = step(state, [batch(), batch(1)], numbers_of(SFT()), base)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    assert all((x != y).any() for x, y in zip(jax.tree.leaves(state.params), jax.tree.leaves(new), strict=True))
    jax.tree.map(np.testing.assert_array_equal, base, before)


def test_a_mesh_changes_no_gradient(x64, pull):
    base, _, moved = parts(dtype="float64")
    want, _ = pull(moved, base, batch(), jnp.asarray(-batch().nll_weight, "float64"))
    mesh = make_mesh(MeshShape(fsdp=2, tensor=2))
    place = lambda tree: jax.device_put(tree, state_sharding(mesh, tree))
    gradient = make_gradient(on_base(make_loss(MODEL, SFT(), 0.8, mesh), SOME), mesh)
    got, _ = gradient(place(moved), place_rows(mesh, batch()), numbers_of(SFT()), place(base))
    largest = max(np.abs(x).max() for x in jax.tree.leaves(want))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-10 * largest, rtol=0), *jax.device_get((got, want)))
    held = jax.tree.map(lambda x: x.sharding.shard_shape(x.shape), got["layers"])
    assert held["query"] == {"a": (2, 8, 3), "b": (2, 3, 12)} and held["down"] == {"a": (2, 16, 3), "b": (2, 3, 8)}


def test_a_base_in_bfloat16_is_the_same_model():
    """What every product casts anyway is held cast: the bits of the log-probs do not change."""
    config = replace(MODEL, dtype="bfloat16", tied=False)
    base, _, moved = parts(config=config)
    held = frozen(config, base)
    assert held["layers"]["query"].dtype == held["embedding"].dtype == held["head"].dtype == jnp.bfloat16
    assert held["layers"]["attention_norm"].dtype == held["final_norm"].dtype == jnp.float32
    score = make_scorer(config, 0.8)
    a, b = (score(with_adapters(SOME, x, moved), batch()) for x in (base, held))
    np.testing.assert_array_equal(a, b)
    assert frozen(MODEL, base) is base


def test_a_matrix_draws_the_same_whatever_else_has_adapters():
    few = init_adapters(MODEL, LoRA(rank=3, matrices=("down", "key")), jax.random.key(1))["layers"]
    every = init_adapters(MODEL, SOME, jax.random.key(1))["layers"]
    assert set(few) == {"down", "key"} and few["down"]["a"].shape == (2, 32, 3) and few["key"]["b"].shape == (2, 3, 12)
    np.testing.assert_array_equal(few["down"]["a"], every["down"]["a"])
    assert not np.array_equal(every["gate"]["a"], every["up"]["a"]) and not every["up"]["b"].any()
    assert 0.5 < np.std(every["down"]["a"]) * 32**0.5 < 1.5


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0.0}, {"matrices": ()}, {"matrices": ("query", "query")},
                                   {"matrices": ("head",)}], ids=str)  # fmt: skip
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match="lora." + next(iter(wrong))):
        LoRA(**wrong)
