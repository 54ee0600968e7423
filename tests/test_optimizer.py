"""The optimizer: a schedule that follows the step, decay, and moments that take half the room."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params
from jaxsrl.sharding import MeshShape, make_mesh, place_state, state_sharding
from jaxsrl.update import (
    AdamW,
    at_rate,
    init_state,
    learning_rate,
    make_apply,
    make_update,
    optimizer,
    steps_in_rate,
)  # fmt: skip

MODEL = ModelConfig(
    vocab=24, width=12, layers=2, heads=2, kv_heads=1, head_width=6, mlp_width=16, qk_norm=True, qkv_bias=True
)

SCHEDULES = {
    "warm": AdamW(lr=0.5, warmup_steps=6),
    "cosine": AdamW(lr=0.5, warmup_steps=3, schedule="cosine", final_share=0.1),
    "narrow": AdamW(lr=0.5, warmup_steps=3, schedule="linear", moments="bfloat16"),
}


def moves(settings, steps=10, skipped=(2, 5), empty=(4,)):
    """A run of steps: (metrics of each, by how much its parameter moved). An empty step is one as the loop makes it."""
    rate = learning_rate(settings, steps)
    tx = optimizer(replace(settings, weight_decay=0.0))
    apply = make_apply(tx, rate)
    state = init_state({"w": jnp.zeros(3)}, tx, jax.random.key(0))
    out = []
    for step in range(steps):
        before = np.asarray(state.params["w"])
        if step in empty:
            state, metrics = replace(state, step=state.step + 1), {}
        else:
            state, metrics = apply(state, {"w": jnp.full(3, np.nan if step in skipped else 0.3)})
        out.append((metrics, before - np.asarray(state.params["w"])))
    assert int(state.step) == steps and int(state.skipped) == len(skipped)
    return out, state, tx


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_follows_the_step(name):
    """Steps that are skipped for a NaN or are empty count. With equal gradients, Adam moves by the rate itself."""
    settings, skipped, empty = SCHEDULES[name], (2, 5), (4,)
    want = [float(learning_rate(settings, 10)(step)) for step in range(10)]
    assert len(set(want)) >= 6
    found, _, _ = moves(settings, skipped=skipped, empty=empty)
    tolerance = 0.02 if settings.moments == "bfloat16" else 1e-4  # what rounded moments leave of it
    for step, (metrics, moved) in enumerate(found):
        if step in empty or step in skipped:
            assert not moved.any()
        else:
            np.testing.assert_allclose(moved, want[step], rtol=tolerance)
        if step not in empty:
            assert float(metrics["lr"]) == pytest.approx(want[step], rel=1e-6)  # what is logged is what was applied


def test_a_count_within_the_optimizer_falls_behind():
    """The control: optax's own schedule applies the rates of three steps before."""
    settings = SCHEDULES["cosine"]
    rate = learning_rate(settings, 10)
    found, state, tx = moves(settings)
    adam = state.opt_state[1][0]
    assert int(adam.count) == 7  # of moments updated: right for the correction of their bias, wrong for a schedule
    behind = optax.chain(tx, optax.scale_by_learning_rate(rate))
    counted = (state.opt_state, optax.ScaleByScheduleState(adam.count))
    updates, _ = behind.update({"w": jnp.full(3, 0.3)}, counted, state.params)
    assert float(-updates["w"][0]) == pytest.approx(float(rate(7)), rel=1e-3)
    assert float(rate(7)) > 1.5 * float(rate(10))


def test_learning_rates():
    rate = lambda settings, step, steps=100: float(learning_rate(settings, steps)(step))
    warm = AdamW(lr=1.0, warmup_steps=10)
    assert rate(warm, 0) == pytest.approx(0.1) and rate(warm, 9) == pytest.approx(1.0) and rate(warm, 50) == 1.0
    cosine = AdamW(lr=1.0, schedule="cosine", final_share=0.1)
    assert (
        rate(cosine, 0) == 1.0 and rate(cosine, 50) == pytest.approx(0.55) and rate(cosine, 100) == pytest.approx(0.1)
    )
    assert rate(AdamW(lr=1.0, schedule="linear"), 25) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="schedule"):
        AdamW(schedule="step")


def test_decay_acts_on_matrices_only():
    params = init_params(MODEL, jax.random.key(0))
    tx = optimizer(AdamW(weight_decay=0.5))
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zero, tx.init(params), params)
    moved = {jax.tree_util.keystr(path) for path, u in jax.tree_util.tree_leaves_with_path(updates) if (u != 0).any()}
    assert any("query'" in name for name in moved) and any("embedding" in name for name in moved)
    assert not any("norm" in name or "bias" in name for name in moved)


def test_moments_in_bfloat16_follow_those_in_float32():
    """Gradients of 1, then of 0.1. The controls, rounded to the nearest, stop on their way and stay there."""
    params = {"w": jnp.ones(4096)}
    adam = AdamW(lr=0.0, clip_norm=0.0)

    def run(tx, after=lambda state: state):
        def one(state, size):
            return after(tx.update({"w": size * jnp.ones(4096)}, state, params)[1]), None

        sizes = jnp.where(jnp.arange(3000) < 1000, 1.0, 0.1)
        return jax.jit(lambda state: jax.lax.scan(one, state, sizes)[0])(tx.init(params))[0]

    nearest = lambda state: (jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(x.dtype), state[0]), *state[1:])
    wide, narrow = run(optimizer(adam)), run(optimizer(replace(adam, moments="bfloat16")))
    stuck = run(optimizer(adam), nearest)
    assert narrow.mu["w"].dtype == narrow.nu["w"].dtype == jnp.bfloat16 and wide.nu["w"].dtype == jnp.float32
    assert np.mean(np.float32(narrow.nu["w"])) == pytest.approx(float(wide.nu["w"][0]), rel=0.02)
    assert float(stuck.nu["w"][0]) > 2 * float(wide.nu["w"][0])
    assert np.mean(np.float32(narrow.mu["w"])) == pytest.approx(0.1, rel=0.01)
    assert float(stuck.mu["w"][0]) > 0.1015


def test_narrow_moments_are_the_same_on_a_mesh():
    """Bit for bit, noise included, and cut like what they are of."""
    rng = np.random.default_rng(0)
    params = {"embedding": rng.normal(size=(16, 8)).astype("f"), "final_norm": rng.normal(size=8).astype("f")}
    tx, mesh = optimizer(AdamW(moments="bfloat16", clip_norm=0.0)), make_mesh(MeshShape(fsdp=2, tensor=2))
    place = lambda tree: jax.device_put(tree, state_sharding(mesh, tree))
    one, cut = (jax.jit(tx.update)(p, tx.init(p), p)[1] for p in (params, place(params)))
    chex.assert_trees_all_equal(one, jax.device_get(cut))
    assert cut[0].nu["embedding"].sharding.shard_shape((16, 8)) == (8, 4)
    assert (np.float32(one[0].nu["final_norm"]) != np.float32(0.001) * params["final_norm"] ** 2).any()


def test_stages_share_an_update_whatever_their_rates():
    """The rate is an argument: one program moves by 0.5 and by 0.25, and says so. What it is given is alike, too."""
    tx = optimizer(AdamW(weight_decay=0.0))
    update, given = make_update(tx._replace(update=chex.assert_max_traces(tx.update, n=1))), []

    def heard(state, grads, loss, rate):
        given.append((rate.dtype, rate.weak_type, rate.committed))
        return update(state, grads, loss, rate)

    for settings in (AdamW(lr=0.5), AdamW(lr=0.5, schedule="linear", warmup_steps=2)):
        rate = learning_rate(settings, 10)
        state = place_state(None, init_state({"w": jnp.zeros(3)}, tx, jax.random.key(0)))
        state, metrics = at_rate(heard, rate)(state, {"w": jnp.full(3, 0.3)})
        assert float(metrics["lr"]) == float(rate(0))
        np.testing.assert_allclose(state.params["w"], -float(rate(0)), rtol=1e-5)
    assert given == [(jnp.result_type(float), False, True)] * 2


@pytest.mark.parametrize("name", SCHEDULES)
def test_runs_of_two_lengths_share_a_program_only_where_their_rate_is_the_same(name):
    settings = SCHEDULES[name]
    rates = [[float(learning_rate(settings, steps)(step)) for step in range(10)] for steps in (10, 20)]
    shared = steps_in_rate(settings, 10) == steps_in_rate(settings, 20)
    assert shared == (rates[0] == rates[1]) == (name == "warm")
