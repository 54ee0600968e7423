"""A mesh changes where numbers are computed, not which: gradients, samples and whole runs on 8 simulated devices."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxsrl.config.overrides import load
from jaxsrl.metrics import read
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import Layout, make_mesh, place_rows, state_sharding
from jaxsrl.train import train
from jaxsrl.types import Batch, Prompts
from jaxsrl.update import make_gradient, make_loss

LAYOUTS = [Layout(data=8), Layout(data=2, fsdp=4), Layout(fsdp=2, tensor=4), Layout(dcn=2, fsdp=2, tensor=2)]
MODEL = ModelConfig(vocab=64, width=32, layers=2, heads=8, kv_heads=4, head_width=8, mlp_width=64, qk_norm=True)
R, T = 8, 48


def trees(rows=R):
    """position, enter, leave [R T]: a trunk of 20 tokens, two branches of 10 each, padding."""
    part = lambda tokens, first, enter, leave: np.stack(
        [first + np.arange(tokens), np.full(tokens, enter), np.full(tokens, leave)]
    )
    nodes = [part(20, 0, 0, 3), part(10, 20, 1, 2), part(10, 20, 2, 3), part(8, 0, -1, -1)]
    return tuple(np.repeat(x[None], rows, 0).astype(np.int32) for x in np.concatenate(nodes, axis=1))


def batch(seed=0):
    rng = np.random.default_rng(seed)
    position, enter, leave = trees()
    parent = np.maximum(np.arange(T) - 1, 0)
    parent[30] = 19  # the second branch hangs off the trunk
    on = (np.arange(T) >= 20) & (np.arange(T) < 40) & (rng.random((R, T)) < 0.8)
    draw = lambda: np.where(on, rng.normal(size=(R, T)), 0).astype(np.float32)
    return Batch(
        token=rng.integers(0, MODEL.vocab, (R, T)).astype(np.int32), position=position, enter=enter, leave=leave,
        parent=np.tile(parent, (R, 1)).astype(np.int32), rollout=np.where(on, 1, -1).astype(np.int32),
        nll_weight=np.abs(draw()), pg_weight=np.abs(draw()), advantage=draw(), behavior_logp=draw() - 4,
    )  # fmt: skip


class Mixed:
    """Both halves of what objectives do to log-probs: a clipped surrogate with a KL, and NLL."""

    kl_coef = 0.0

    def token_loss(self, logp, batch):
        loss, metrics = GRPO().token_loss(logp, batch)
        return loss - (batch.nll_weight * logp).sum(), metrics


def gradient_on(layout, params, material):
    mesh = make_mesh(layout)
    gradient = make_gradient(make_loss(MODEL, Mixed(), 0.7, mesh), mesh)
    if mesh is not None:
        params = jax.device_put(params, state_sharding(mesh, params))
    grads, metrics = gradient(params, place_rows(mesh, material))
    return mesh, grads, metrics


@pytest.fixture(scope="module")
def alone():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype("float64"), init_params(MODEL, jax.random.key(0)))
        return params, *gradient_on(Layout(), params, batch())[1:]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_gradients_are_those_of_one_device(layout, alone):
    params, want, metrics = alone
    with jax.enable_x64(True):
        mesh, got, more = gradient_on(layout, params, batch())
    largest = max(np.abs(x).max() for x in jax.tree.leaves(want))
    close = partial(np.testing.assert_allclose, atol=1e-10 * largest, rtol=0)
    jax.tree.map(close, jax.device_get(got), jax.device_get(want))
    np.testing.assert_allclose(more["loss"], metrics["loss"], rtol=1e-10)
    for name in metrics:  # weights are float32, and so are sums of them alone
        np.testing.assert_allclose(more[name], metrics[name], rtol=1e-6, err_msg=name)
    jax.tree.map(lambda x, where: x.sharding.is_equivalent_to(where, x.ndim) or pytest.fail(f"{x.shape} {x.sharding}"),
                 got, state_sharding(mesh, got))  # fmt: skip


def test_parameters_are_cut():
    """Of 8 devices each holds an eighth of a matrix, and vectors whole."""
    mesh = make_mesh(Layout(fsdp=2, tensor=4))
    shapes = jax.eval_shape(lambda: init_params(MODEL, jax.random.key(0)))
    held = jax.tree.map(lambda x, s: np.prod(s.shard_shape(x.shape)) / x.size, shapes, state_sharding(mesh, shapes))
    assert held["embedding"] == held["layers"]["query"] == held["layers"]["down"] == 1 / 8
    assert held["final_norm"] == held["layers"]["query_norm"] == 1


def prompts():
    position, enter, leave = trees()
    rng = np.random.default_rng(1)
    slots = 4
    return Prompts(
        token=rng.integers(0, MODEL.vocab, (R, T)).astype(np.int32), position=position, enter=enter, leave=leave,
        slot_parent=np.tile(np.array([19, 29, 39, 39], np.int32), (R, 1)),
        slot_enter=np.tile(np.array([0, 1, 2, 2], np.int32), (R, 1)),
        slot_address=rng.integers(0, 99, (R, slots, 5)).astype(np.uint32), slot_active=np.ones((R, slots), bool),
    )  # fmt: skip


@pytest.mark.parametrize("layout", [LAYOUTS[0], LAYOUTS[3]], ids=str)
def test_samples_are_those_of_one_device(layout):
    params, settings = init_params(MODEL, jax.random.key(0)), Sampling(max_new_tokens=12)
    outs = []
    for mesh in (None, make_mesh(layout)):
        sample = jax.jit(make_sampler(MODEL, settings, 0, mesh))
        held = params if mesh is None else jax.device_put(params, state_sharding(mesh, params))
        outs.append(jax.device_get(sample(held, place_rows(mesh, prompts()), jax.random.key(1), np.float32(0.8))))
    np.testing.assert_array_equal(outs[0][0], outs[1][0])
    np.testing.assert_allclose(outs[0][1], outs[1][1], atol=1e-5)
    np.testing.assert_array_equal(outs[0][2], outs[1][2])


def test_a_whole_run_on_a_mesh(tmp_path):
    """SFT, SRL and RLVR, from the first parameters to the report: the metrics of one device to float32's accuracy."""
    config = load(Path(__file__).parent / "tiny_config.py")
    rows = replace(config.rows, rows=2, prompt_rows=2, evaluate_rows=2)
    model = replace(config.model, heads=2, kv_heads=2)
    lines = {}
    for name, layout in (("one", Layout()), ("mesh", Layout(fsdp=2, tensor=2))):
        made = replace(config, name=name, runs=str(tmp_path), rows=rows, model=model, mesh=layout)
        lines[name] = read(train(made) / "metrics.jsonl")
    assert [x["step"] for x in lines["one"]] == [x["step"] for x in lines["mesh"]]
    for one, mesh in zip(lines["one"], lines["mesh"], strict=True):
        for name in ("loss", "grad/norm", "reward/mean", "collect/kept_share"):
            if one.get(name) is not None:
                assert mesh[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4), (one["stage"], one["step"], name)


def test_a_run_goes_on_on_another_mesh(tmp_path):
    """Begun on four devices, continued on one and then on two, it is the run of one device to float32's accuracy."""
    config = load(Path(__file__).parent / "tiny_config.py")
    (stage, *_), model = config.stages, replace(config.model, heads=2, kv_heads=2)
    parts = ((Layout(fsdp=2, tensor=2), 3), (Layout(), 6), (Layout(data=2), 9))

    def run(name, layout, steps):
        part = replace(stage, steps=steps)
        made = replace(config, name=name, runs=str(tmp_path), model=model, mesh=layout, stages=(part,))
        return [x["loss"] for x in read(train(made) / "metrics.jsonl") if x["kind"] == "train"]

    for layout, steps in parts:
        moved = run("moved", layout, steps)
    assert len(moved) == 9
    np.testing.assert_allclose(moved, run("one", Layout(), 9), rtol=1e-4)


def test_what_does_not_divide_is_named(tmp_path):
    config = load(Path(__file__).parent / "tiny_config.py")
    with pytest.raises(ValueError, match=r"rows.rows=2 must be a multiple of 8.*the next is 8"):
        replace(config, mesh=Layout(data=8))
    with pytest.raises(ValueError, match="needs 16 devices, there are 8"):
        make_mesh(Layout(data=16))
    with pytest.raises(ValueError, match="mesh.fsdp must be >= 1"):
        Layout(fsdp=0)
