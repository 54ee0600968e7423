"""A mesh changes where numbers are computed, not which: gradients, samples and whole runs on 8 simulated devices."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import chex
import jax
import numpy as np
import pytest

from jaxsrl import sharding, update
from jaxsrl.clusters.collectives import collectives
from jaxsrl.clusters.formula import CPU, decoder_bytes, head_bytes
from jaxsrl.config.overrides import load, override
from jaxsrl.metrics import read
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.gspo import GSPO
from jaxsrl.objectives.numbers import numbers_of
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.weights import Aggregation, row_weights
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.sharding import (
    PARAMETERS,
    RULES,
    MeshShape,
    make_mesh,
    make_reshard,
    place_rows,
    placed_shapes,
    relayout,
    reshard_bytes,
    state_sharding,
)
from jaxsrl.train import train
from jaxsrl.types import Batch, Objective, Prompts
from jaxsrl.update import make_gradient, make_loss

LAYOUTS = [
    MeshShape(data=8),
    MeshShape(data=2, fsdp=4),
    MeshShape(fsdp=2, tensor=4),
    MeshShape(data=2, fsdp=2, tensor=2),
]
SLICES = MeshShape(dcn=2, fsdp=2, tensor=2)
MODEL = ModelConfig(
    vocab=64, width=64, layers=2, heads=8, kv_heads=4, head_width=16, mlp_width=128, qk_norm=True, remat="full"
)  # fmt: skip
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
    # Completions of unequal length, and a row without any.
    on = (np.arange(T) >= 20) & (np.arange(T) < 40) & (np.arange(T) % 10 < rng.integers(1, 11, (R, 1)))
    on[3] = False
    rollout = np.where(np.arange(T) < 30, 2 * np.arange(R)[:, None], 2 * np.arange(R)[:, None] + 1)
    draw = lambda: np.where(on, rng.normal(size=(R, T)), 0).astype(np.float32)
    return Batch(
        token=rng.integers(0, MODEL.vocab, (R, T)).astype(np.int32), position=position, enter=enter, leave=leave,
        parent=np.tile(parent, (R, 1)).astype(np.int32), rollout=np.where(on, rollout, -1).astype(np.int32),
        nll_weight=np.zeros((R, T), np.float32), pg_weight=np.zeros((R, T), np.float32), advantage=draw(),
        behavior_logp=draw() - 4,
    )  # fmt: skip


def aggregated(mask: np.ndarray, how: Aggregation) -> np.ndarray:
    """Weights of tokens whose rows are rollouts in groups of four, or demonstrations."""
    group = np.arange(len(mask)) // 4
    return np.asarray(row_weights(mask.sum(axis=1), how, group=group, groups=len(mask), length=16))[:, None] * mask


def steps() -> dict[str, Batch]:
    """A batch of every objective and of every way to average: what differs is weights, made before the split."""
    of = batch()
    mask = np.stack([of.rollout == i for i in range(2 * R)]).reshape(2 * R, -1)
    spread = lambda weights: weights.sum(axis=0).reshape(R, T).astype(np.float32)
    ways = {how: replace(of, pg_weight=spread(aggregated(mask, how))) for how in get_args(Aggregation)}
    kept = np.arange(2 * R) % 5 != 0  # SRL drops groups
    target = np.tile((np.arange(T) >= 8) & (np.arange(T) < 20), (R, 1)).reshape(R, -1)
    return ways | {
        "srl": replace(of, pg_weight=spread(aggregated(mask & kept[:, None], "token_mean"))),
        "sft": replace(of, nll_weight=aggregated(target, "sequence_mean").astype(np.float32)),
    }


ON_TRUNK, ON_TOKENS, ON_SEQUENCES = SFT(), GRPO(), GSPO(clip_low=0.5, clip_high=0.5)
NUMBERS = {"sft": numbers_of(ON_TRUNK), "grpo": numbers_of(ON_TOKENS), "gspo": numbers_of(ON_SEQUENCES)}


class Tokens(Objective):
    """Both halves of what objectives do to log-probs of tokens: a clipped surrogate, and NLL."""

    kl_coef = 0.0

    def token_loss(self, logp, batch, numbers):
        loss, metrics = ON_TOKENS.token_loss(logp, batch, numbers["grpo"])
        nll, more = ON_TRUNK.token_loss(logp, batch, numbers["sft"])
        return loss + nll, metrics | more


class Sequences(Tokens):
    """The same and a ratio of whole completions."""

    def token_loss(self, logp, batch, numbers):
        loss, metrics = super().token_loss(logp, batch, numbers)
        return loss + ON_SEQUENCES.token_loss(logp, batch, numbers["gspo"])[0], metrics


def gradients_on(layout, params, objective=Tokens):
    """(mesh, step -> (gradients, metrics), collectives of the program)."""
    mesh = make_mesh(layout)
    gradient = make_gradient(make_loss(MODEL, objective(), 0.7, mesh), mesh)
    if mesh is not None:
        params = jax.device_put(params, state_sharding(mesh, params))
    placed = {name: place_rows(mesh, material) for name, material in steps().items()}
    compiled = gradient.lower(params, placed["sft"], NUMBERS).compile()
    return (
        mesh,
        {name: compiled(params, x, NUMBERS) for name, x in placed.items()},
        collectives(compiled.as_text(), layout.size),
    )


def check_numbers(got, want, tolerance):
    for name, (grads, metrics) in want.items():
        more_grads, more_metrics = jax.device_get(got[name])
        largest = max(np.abs(x).max() for x in jax.tree.leaves(grads))
        assert largest > 0, name
        close = partial(np.testing.assert_allclose, atol=tolerance * largest, rtol=0, err_msg=name)
        jax.tree.map(close, more_grads, jax.device_get(grads))
        for one in metrics:  # weights are float32, and so are sums of them alone
            wanted = tolerance if one == "loss" else max(tolerance, 1e-6)
            np.testing.assert_allclose(more_metrics[one], metrics[one], rtol=wanted, atol=1e-8, err_msg=f"{name} {one}")


def check(layout, params, want):
    """Numbers of one device, results where parameters lie, and no more bytes between devices than the layout costs."""
    mesh, got, sent = gradients_on(layout, params)
    check_numbers(got, want, 1e-10)
    (grads, _), *_ = got.values()
    where = state_sharding(mesh, grads)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), grads, where)))
    held = sum(x.addressable_shards[0].data.size for x in jax.tree.leaves(grads) if x.size > 1000)
    assert held == sum(x.size for x in jax.tree.leaves(grads) if x.size > 1000) / (layout.fsdp * layout.tensor)
    terms = decoder_bytes(MODEL, layout, R, T, width=8, compiler=CPU) | head_bytes(MODEL, layout, R, T, width=8)
    assert sum(c.bytes for c in sent) == pytest.approx(sum(terms.values()), rel=0.02), (terms, sent)


@pytest.fixture(scope="module")
def alone():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype("float64"), init_params(MODEL, jax.random.key(0)))
        return params, gradients_on(MeshShape(), params)[1]


@pytest.mark.parametrize("layout", [*LAYOUTS, SLICES], ids=str)
def test_gradients_are_those_of_one_device(layout, alone):
    """SFT, SRL and RLVR, averaged in every way."""
    with jax.enable_x64(True):
        check(layout, *alone)


MUTATIONS = {
    "rows are not cut over fsdp": lambda patch: patch.setitem(RULES, "rows", ("dcn", "data")),
    "heads are whole": lambda patch: patch.setitem(RULES, "heads", ()),
    "one parameter is whole": lambda patch: patch.delitem(PARAMETERS, "layers/down"),
    "gradients lie anywhere": lambda patch: patch.setattr(update, "constrain_state", lambda mesh, x: x),
    "a look-up is not summed": lambda patch: patch.setattr(jax.lax, "psum", lambda x, axis: x),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_rule_is_needed(mutation, alone, monkeypatch):
    """Negative controls: without one rule, constraint or sum, numbers, places or bytes are not what is asserted."""
    MUTATIONS[mutation](monkeypatch)
    with jax.enable_x64(True), pytest.raises((AssertionError, ValueError)):
        check(MeshShape(data=2, fsdp=2, tensor=2), *alone)


@pytest.fixture(scope="module")
def alone_in_float32():
    params = init_params(MODEL, jax.random.key(0))
    return params, gradients_on(MeshShape(), params, Sequences)[1]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_gradients_in_float32(layout, alone_in_float32):
    """To 1e-5 of the largest entry, and with a loss that looks at whole completions."""
    params, want = alone_in_float32
    check_numbers(gradients_on(layout, params, Sequences)[1], want, 1e-5)


def test_parameters_are_cut():
    """Of 8 devices each holds an eighth of a matrix, and vectors whole."""
    mesh = make_mesh(MeshShape(fsdp=2, tensor=4))
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
        slot_address=rng.integers(0, 99, (R, slots, 6)).astype(np.uint32), slot_active=np.ones((R, slots), bool),
    )  # fmt: skip


def samples(mesh, params):
    """(tokens, their log-probs, how they end) of parameters that lie on a mesh, and the collectives they cost.

    On a mesh prompts are prefilled in three chunks, alone in one.
    """
    sample = jax.jit(make_sampler(MODEL, Sampling(max_new_tokens=12), (0,), mesh))
    given = params, place_rows(mesh, prompts()), jax.random.key(1), np.float32(0.8)
    with pytest.MonkeyPatch.context() as patch:
        if mesh is not None:
            patch.setattr("jaxsrl.rollout.sampler.chunk_size", lambda rows, columns: 16)
        compiled = sample.lower(*given).compile()
    return jax.device_get(compiled(*given)), mesh and collectives(compiled.as_text(), mesh.size, (12,))


@pytest.fixture(scope="module")
def sampled_alone():
    params = init_params(MODEL, jax.random.key(0))
    return params, samples(None, params)[0]


def check_samples(got, want):
    np.testing.assert_array_equal(got.token, want.token)
    np.testing.assert_allclose(got.logp, want.logp, atol=1e-5)
    np.testing.assert_array_equal(got.length, want.length)


@pytest.mark.parametrize("layout", [LAYOUTS[0], SLICES], ids=str)
def test_samples_are_those_of_one_device(layout, sampled_alone):
    params, want = sampled_alone
    mesh = make_mesh(layout)
    check_samples(samples(mesh, jax.device_put(params, state_sharding(mesh, params)))[0], want)


def test_a_sampler_with_a_layout_of_its_own(sampled_alone):
    """Parameters cut by fsdp are sent to where sampling gathers none of them; tokens are those of one device."""
    params, want = sampled_alone
    learner = make_mesh(MeshShape(data=2, fsdp=4))
    sampler = relayout(learner, MeshShape(data=2, tensor=4))
    held = jax.device_put(params, state_sharding(learner, params))
    sent = make_reshard(learner, sampler, "float32")(held)
    chex.assert_trees_all_equal(jax.device_get(sent), jax.device_get(params))
    where = state_sharding(sampler, params)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), sent, where)))
    got, cost = samples(sampler, sent)
    check_samples(got, want)
    # Twelve tokens send less than gathering parameters for one of them would.
    gathered = sum(c.bytes for c in cost if c.kind != "all-reduce")
    assert gathered < 4 * sum(x.size for x in jax.tree.leaves(params["layers"])) / 10


def test_what_a_reshard_moves():
    """Matrices lie in quarters of their width and are to lie in halves of their heads: half of a half is there."""
    learner = make_mesh(MeshShape(data=2, fsdp=4))
    sampler = relayout(learner, MeshShape(data=4, tensor=2))
    params = init_params(MODEL, jax.random.key(0))
    held = jax.device_put(params, state_sharding(learner, params))
    matrices = sum(x.size for x in jax.tree.leaves(params) if x.size > 1000)
    assert reshard_bytes(held, sampler, "bfloat16") == matrices * 2 * (1 / 2 - 1 / 8)
    assert reshard_bytes(held, learner, "bfloat16") == 0
    sent = make_reshard(learner, sampler, "bfloat16")(held)
    assert sent["embedding"].dtype == "bfloat16" and sent["final_norm"].dtype == "float32"


# Learner, sampler, bytes received in parts of the least, at most: more only where both cut heads, and in another order.
MOVES = [
    (MeshShape(fsdp=8), MeshShape(data=2, tensor=4), 1),
    (MeshShape(fsdp=8), MeshShape(tensor=8), 1),
    (MeshShape(data=2, fsdp=4), MeshShape(data=4, tensor=2), 1),
    (MeshShape(data=4, fsdp=2), MeshShape(data=2, tensor=4), 1),
    (MeshShape(dcn=2, fsdp=2, tensor=2), MeshShape(data=4, tensor=2), 1),
    (MeshShape(fsdp=4, tensor=2), MeshShape(data=2, tensor=4), 1.4),
    (MeshShape(tensor=8), MeshShape(fsdp=8), 1),
]


def received(learner, sampler, params):
    """(bytes, the least) of a reshard from one layout to another."""
    source = make_mesh(learner)
    target, placed = relayout(source, sampler), placed_shapes(source, params)
    text = make_reshard(source, target, "float32").lower(placed).compile().as_text()
    return sum(c.bytes for c in collectives(text, source.size)), reshard_bytes(placed, target, "float32")


def test_a_reshard_receives_what_it_must(monkeypatch):
    params = jax.eval_shape(lambda: init_params(replace(MODEL, kv_heads=8), jax.random.key(0)))
    for learner, sampler, share in MOVES:
        found, least = received(learner, sampler, params)
        assert 0.98 * least < found < 1.02 * share * least, (learner, sampler)
    # A control: compilers left to themselves gather all that they hold parts of.
    monkeypatch.setattr(sharding, "_ways", lambda source, target: [])
    found, least = received(*MOVES[0][:2], params)
    assert found > 3 * least


def test_a_reshard_between_layouts_that_cross():
    """2 x 3 and 3 x 2 devices are parts of no finer mesh: compilers are left to themselves."""
    source = make_mesh(MeshShape(data=2, fsdp=3))
    target = relayout(source, MeshShape(data=3, tensor=2))
    params = init_params(replace(MODEL, width=48), jax.random.key(0))
    held = jax.device_put(params, state_sharding(source, params))
    sent = make_reshard(source, target, "float32")(held)
    chex.assert_trees_all_equal(jax.device_get(sent), jax.device_get(params))
    where = state_sharding(target, params)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, s: x.sharding.is_equivalent_to(s, x.ndim), sent, where)))


def test_a_whole_run_on_a_mesh(tmp_path):
    """SFT, SRL and RLVR, from the first parameters to the report: the metrics of one device to float32's accuracy.

    The sampler has a layout of its own, and what it takes to send it parameters is on record.
    """
    config = load(Path(__file__).parent / "tiny_config.py")
    rows = replace(config.rows, rows=2, prompt_rows=2, evaluate_rows=2)
    model = replace(config.model, heads=2, kv_heads=2)
    lines = {}
    runs = (("one", MeshShape(), MeshShape()), ("mesh", MeshShape(fsdp=2, tensor=2), MeshShape(data=2, tensor=2)))
    for name, layout, sampler in runs:
        made = replace(config, name=name, runs=str(tmp_path), rows=rows, model=model, mesh=layout, sampler_mesh=sampler)
        lines[name] = read(train(made) / "metrics.jsonl")
    timing = [json.loads(line) for line in (tmp_path / "mesh" / "timing.jsonl").read_text().splitlines()]
    timing = [line for line in timing if "stage" in line]  # others say where the time went
    sampled = [line["reshard"] for line in timing if line["stage"] != "sft"]
    assert sampled and all(found["bytes"] > 0 and found["seconds"] > 0 for found in sampled)
    assert not any("reshard" in line for line in timing if line["stage"] == "sft")
    assert [x["step"] for x in lines["one"]] == [x["step"] for x in lines["mesh"]]
    for one, mesh in zip(lines["one"], lines["mesh"], strict=True):
        for name in ("loss", "grad/norm", "reward/mean", "collect/kept_share"):
            if one.get(name) is not None:
                assert mesh[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4), (one["stage"], one["step"], name)


def test_a_run_goes_on_on_another_mesh(tmp_path):
    """Begun on four devices, continued on one and then on two, it is the run of one device to float32's accuracy."""
    config = load(Path(__file__).parent / "tiny_config.py")
    (stage, *_), model = config.stages, replace(config.model, heads=2, kv_heads=2)
    parts = ((MeshShape(fsdp=2, tensor=2), 3), (MeshShape(), 6), (MeshShape(data=2), 9))

    def run(name, layout, steps):
        part = replace(stage, steps=steps)
        made = replace(config, name=name, runs=str(tmp_path), model=model, mesh=layout, stages=(part,))
        return [x["loss"] for x in read(train(made) / "metrics.jsonl") if x["kind"] == "train"]

    for layout, steps in parts:
        moved = run("moved", layout, steps)
    assert len(moved) == 9
    np.testing.assert_allclose(moved, run("one", MeshShape(), 9), rtol=1e-4)


def test_what_does_not_divide_is_named(tmp_path):
    config = load(Path(__file__).parent / "tiny_config.py")
    with pytest.raises(ValueError, match=r"rows.rows=2 must be a multiple of 8.*the next is 8"):
        replace(config, mesh=MeshShape(data=8))
    both = ["mesh.fsdp=2", "sampler_mesh.tensor=2"]
    assert override(config, both).layout_to_sample == MeshShape(tensor=2)
    with pytest.raises(ValueError, match="sampler_mesh lays out the devices of mesh.* has 2, .* has 1"):
        replace(config, sampler_mesh=MeshShape(data=2))
    with pytest.raises(ValueError, match="needs 16 devices, there are 8"):
        make_mesh(MeshShape(data=16))
    with pytest.raises(ValueError, match="mesh.fsdp must be >= 1"):
        MeshShape(fsdp=0)
