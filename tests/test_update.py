"""A tree is the dense batch in fewer tokens: same log-probs, same gradients, for trunk and branches."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.tree import attach, build, path_tokens, target_mask
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params
from jaxsrl.ops.token_logprob import token_logprob_and_entropy
from jaxsrl.sharding import MeshShape, make_mesh
from jaxsrl.types import BranchPoint, Demonstration, Rollouts, TokenWeights, Weights
from jaxsrl.update import (
    AdamW,
    batch_logp,
    init_state,
    learning_rate,
    make_apply,
    make_gradient,
    make_train_step,
    optimizer,
    score,
)
from tests.rows import pack

BYTES = ByteTokenizer()
MODEL = ModelConfig(
    vocab=BYTES.vocab_size, width=24, layers=2, heads=4, kv_heads=2, head_width=6, mlp_width=32, qk_norm=True,
    qkv_bias=True,
)  # fmt: skip
T = 192
DENSE_ROWS = 16  # one shape for all kinds, so that they share a program

# What each objective weighs: (forms of the demonstration, branch points, weight on trunk, weight on branches).
KINDS = {
    "sft": (("solve", "step"), [], 1.0, 0.0),
    "srl": ((), [BranchPoint(after=k, samples=3) for k in range(2)], 0.0, 1.0),
    "rlvr": ((), [BranchPoint(after=0, samples=4, form="solve")], 0.0, 1.0),
    "mixed": (("solve",), [BranchPoint(after=0, samples=3, form="solve"), BranchPoint(after=2, samples=2)], 0.3, 0.7),
}


def material(kind, seed=0, demonstrations=2, cap=7):
    """Trees, random rollouts and their log-probs, and random weights where the objective has any."""
    trunk, points, on_trunk, on_branches = KINDS[kind]
    rng = np.random.default_rng(seed)
    word = lambda n=4: "".join(rng.choice(list("abcdef"), n))
    trees, owner, branch, form = [], [], [], []
    for m in range(demonstrations):
        d = Demonstration(
            problem_id=str(m), problem=word(6), actions=tuple(word() for _ in range(3)),
            thoughts=tuple(word(3) for _ in range(3)),
        )  # fmt: skip
        trees.append(build(d, points, trunk, Template(), BYTES))
        for point in points:
            owner += [m] * point.samples
            branch += [point.after] * point.samples
            form += [point.form] * point.samples
    count = len(owner)
    mask = np.arange(cap) < rng.integers(1, cap + 1, count)[:, None]
    rollouts = Rollouts(
        token=rng.integers(0, 250, (count, cap)).astype(np.int32), mask=mask,
        demonstration=np.array(owner, int), form=tuple(form),
        branch=np.array(branch, int), sample=np.zeros(count, int), group=np.arange(count),
        truncated=np.zeros(count, bool),
        text=("",) * count,
    )  # fmt: skip
    logp = rng.normal(-2, 0.5, (count, cap))
    target = target_mask(trees)
    draw = lambda on, scale: np.where(on, rng.uniform(0.5, 1.5, on.shape) * scale, 0.0)
    on_rollouts = TokenWeights(nll=0 * mask, pg=draw(mask, on_branches), advantage=rng.normal(size=(count, 1)) * mask)
    on_target = TokenWeights(nll=draw(target, on_trunk), pg=0.0 * target, advantage=0.0 * target)
    return trees, rollouts, logp, Weights(trunk=on_target, rollouts=on_rollouts)


def packed(kind, rows=2, row_tokens=T, seed=0):
    return pack(*material(kind, seed), row_tokens=row_tokens, rows=rows)


def dense(kind, seed=0):
    """The same tokens and weights, one path a row and nothing shared: plain causal rows."""
    trees, rollouts, logp, given = material(kind, seed)
    rows = []
    for m, tree in enumerate(trees):
        at, tree = 0, attach(tree, rollouts, np.flatnonzero(rollouts.demonstration == m))
        for i, node in enumerate(tree.nodes):
            if node.rollout >= 0:
                weights, row, part = given.rollouts, node.rollout, rollouts.mask[node.rollout]
            elif node.target:
                weights, row, part = given.trunk, m, slice(at, at + len(node.token))
                at += len(node.token)
            else:
                continue
            path = path_tokens(tree, i)
            n, own = len(path), len(node.token)
            fields = {name: np.zeros(T) for name in ("nll_weight", "pg_weight", "advantage", "behavior_logp")}
            here = slice(n - own, n)
            for name, value in (
                ("nll_weight", weights.nll),
                ("pg_weight", weights.pg),
                ("advantage", weights.advantage),
            ):
                fields[name][here] = value[row][part]
            if node.rollout >= 0:
                fields["behavior_logp"][here] = logp[row][part]
            index = np.arange(T)
            inside = index < n
            rows.append(fields | {
                "token": np.pad(path, (0, T - n)), "position": np.where(inside, index, 0),
                "enter": np.where(inside, 0, -1), "leave": np.where(inside, 1, -1),
                "parent": np.where(inside, np.maximum(index - 1, 0), 0),
                "rollout": np.where(inside & (index >= n - own) & (node.rollout >= 0), node.rollout, -1),
            })  # fmt: skip
    empty = {
        name: np.full_like(value, -1 if name in ("enter", "leave", "rollout") else 0) for name, value in rows[0].items()
    }
    rows += [empty] * (DENSE_ROWS - len(rows))
    return [replace(packed(kind)[0][0], **{name: np.stack([row[name] for row in rows]) for name in rows[0]})]


def loss(params, batch, numbers):
    """NLL on the trunk and a clipped surrogate on branches: everything an objective does with log-probs."""
    logp = batch_logp(MODEL, params, batch, 0.7)
    ratio = jnp.exp(jnp.where(batch.pg_weight != 0, logp - batch.behavior_logp, 0.0))
    gain = jnp.minimum(ratio * batch.advantage, jnp.clip(ratio, 0.8, 1.2) * batch.advantage)
    return -jnp.sum(batch.nll_weight * logp) - jnp.sum(batch.pg_weight * gain), {}


gradient_of_loss = make_gradient(loss)
gradient = jax.jit(jax.value_and_grad(lambda params, batch: loss(params, batch, {})[0]))


def total_gradient(params, batches):
    """Loss and gradient of a step: sums over its batches."""
    parts = [gradient(params, batch) for batch in batches]
    return jax.tree.map(lambda *x: sum(x), *parts)


def largest_error(got, want):
    """Largest difference over the largest entry of what is wanted, leaf by leaf."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in map(_arrays, pairs))


def _arrays(pair):
    return tuple(np.asarray(x, np.float64) for x in pair)


@pytest.mark.parametrize("kind", list(KINDS))
def test_tree_equals_dense_in_float64(kind):
    """Value and every parameter's gradient, to 1e-10 of the largest entry."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: x.astype(jnp.float64), init_params(MODEL, jax.random.key(0)))
        tree, flat = total_gradient(params, packed(kind)[0]), total_gradient(params, dense(kind))
        assert jax.tree.leaves(tree)[0].dtype == jnp.float64
        assert largest_error(tree, flat) < 1e-10


@pytest.mark.parametrize("kind", list(KINDS))
def test_tree_equals_dense_in_float32(kind):
    params = init_params(MODEL, jax.random.key(0))
    assert largest_error(total_gradient(params, packed(kind)[0]), total_gradient(params, dense(kind))) < 1e-5


def test_without_intervals_the_tree_is_not_the_dense_batch():
    """Negative control: siblings that see each other change the numbers."""
    params = init_params(MODEL, jax.random.key(0))
    (batch,), _ = packed("srl")
    open_wide = replace(batch, enter=np.where(batch.enter >= 0, 0, -1), leave=np.where(batch.leave >= 0, 1, -1))
    want = total_gradient(params, dense("srl"))
    assert largest_error(total_gradient(params, [open_wide]), want) > 1e-2


def test_row_offset_as_position_is_not_the_dense_batch():
    """Negative control."""
    params = init_params(MODEL, jax.random.key(0))
    (batch,), _ = packed("srl")
    shifted = replace(batch, position=np.tile(np.arange(T), (2, 1)))
    assert largest_error(total_gradient(params, [shifted]), total_gradient(params, dense("srl"))) > 1e-3


def test_editing_a_sibling_changes_nothing():
    params = init_params(MODEL, jax.random.key(0))
    (batch,), _ = packed("srl")
    logp = lambda token: np.asarray(batch_logp(MODEL, params, replace(batch, token=token), 1.0))
    changed = batch.rollout == 1
    before, after = logp(batch.token), logp(np.where(changed, (batch.token + 1) % 250, batch.token))
    assert np.array_equal(before[~changed], after[~changed])
    assert (before[changed] != after[changed]).any()


@pytest.mark.parametrize("rows, row_tokens", [(1, 64), (2, 40)])
def test_packing_and_splitting_change_no_gradient(rows, row_tokens):
    """Batches of other shapes, trees cut over rows: the same sum."""
    params = init_params(MODEL, jax.random.key(0))
    batches, metrics = packed("srl", rows=rows, row_tokens=row_tokens)
    assert len(batches) > 1
    assert (metrics["pack/cut_trees"] > 0) == (row_tokens == 40)
    assert largest_error(total_gradient(params, batches), total_gradient(params, packed("srl")[0])) < 1e-5


def test_what_lies_in_padding_does_not_matter():
    """Unscored places may hold anything."""
    params = init_params(MODEL, jax.random.key(0))
    (batch,), _ = packed("srl")
    unweighed = batch.pg_weight == 0
    dirty = replace(batch, behavior_logp=np.where(unweighed, np.nan, batch.behavior_logp))
    clean, messy = total_gradient(params, [batch]), total_gradient(params, [dirty])
    assert largest_error(messy, clean) == 0


def step_once(batches, params):
    tx = optimizer(AdamW())
    step = make_train_step(gradient_of_loss, make_apply(tx, lambda step: 1e-3))
    return step(init_state(params, tx, jax.random.key(0)), batches, {})


def test_accumulation_changes_nothing():
    params = init_params(MODEL, jax.random.key(0))
    one, _ = step_once(packed("srl")[0], params)
    many, _ = step_once(packed("srl", rows=1, row_tokens=64)[0], params)
    assert largest_error(many.opt_state[1][0].mu, one.opt_state[1][0].mu) < 1e-5


def test_an_update_that_is_not_finite_is_left_out_and_counted():
    params = init_params(MODEL, jax.random.key(0))
    (batch,), _ = packed("srl")
    broken = replace(batch, advantage=np.where(batch.pg_weight != 0, np.inf, 0).astype(np.float32))
    state, metrics = step_once([broken], params)
    assert int(state.step) == 1 and int(state.skipped) == 1 and int(metrics["update/skipped"]) == 1
    assert all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(params), strict=True)
    )
    moved, _ = step_once([batch], params)
    assert int(moved.skipped) == 0 and not np.array_equal(moved.params["embedding"], params["embedding"])


def test_a_step_compiles_once():
    params = init_params(MODEL, jax.random.key(0))
    settings = AdamW(schedule="cosine", warmup_steps=2)
    tx = optimizer(settings)
    once = tx._replace(update=chex.assert_max_traces(tx.update, n=1))
    gradient = make_gradient(chex.assert_max_traces(loss, n=1))
    step, state = (
        make_train_step(gradient, make_apply(once, learning_rate(settings, 10))),
        init_state(params, tx, jax.random.key(0)),
    )
    state, _ = step(state, packed("srl", seed=1)[0], {"a": 0.5})
    with _no_compilation():
        for seed in (2, 3):  # with other numbers too
            state, _ = step(state, packed("srl", seed=seed)[0], {"a": 0.5 / seed})
    # The control: a batch of another shape is traced anew, and that is seen.
    with pytest.raises(AssertionError, match="traced > 1 times"):
        step(state, packed("srl", rows=1)[0], {"a": 0.5})


class _no_compilation:
    """Fails if anything is compiled inside."""

    def __enter__(self):
        self.seen, self.open = [], True
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event, duration, **_):
        if self.open and event == "/jax/core/compile/backend_compile_duration":
            self.seen.append(event)

    def __exit__(self, *_):
        self.open = False  # a listener cannot be taken away again
        assert not self.seen, f"{len(self.seen)} programs were compiled after warm-up"


def test_training_with_narrow_moments_goes_down():
    params = init_params(MODEL, jax.random.key(0))
    losses = {}
    for moments in ("float32", "bfloat16"):
        tx = optimizer(AdamW(moments=moments))
        step = make_train_step(gradient_of_loss, make_apply(tx, lambda step: 3e-3))
        state = init_state(params, tx, jax.random.key(0))
        for _ in range(6):
            state, metrics = step(state, packed("sft")[0], {})
            losses.setdefault(moments, []).append(float(metrics["loss"]))
    assert losses["bfloat16"][-1] < 0.9 * losses["bfloat16"][0]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.02)
    with pytest.raises(ValueError, match="moments must be float32 or bfloat16"):
        AdamW(moments="float16")


@pytest.mark.parametrize("vocab", [36, 35])
def test_log_probs_on_a_mesh_are_those_of_one_device(vocab, x64):
    """Entropies too. Whether or not the tensor axis cuts the vocabulary: values and gradients, float64, 1e-12."""
    rng = np.random.default_rng(0)
    before, head = rng.normal(size=(4, 12, 8)), rng.normal(size=(8, vocab))
    token, scored, weight = rng.integers(0, vocab, (4, 12)), rng.random((4, 12)) < 0.6, rng.normal(size=(2, 4, 12))
    heat, mesh = rng.uniform(0.5, 1.5, (4, 12)), make_mesh(MeshShape(fsdp=2, tensor=2))

    def run(mesh):
        both = lambda *x: jnp.stack(score(mesh, *x, token, scored, heat, token_logprob_and_entropy))
        total = lambda before, head: (weight * both(before, head)).sum()
        compiled = jax.jit(jax.value_and_grad(total, (0, 1))).lower(before, head).compile()
        return compiled(before, head), compiled.as_text()

    (want, _), (got, text) = run(None), run(mesh)
    assert largest_error(got, want) < 1e-12
    assert (f"f64[24,{vocab // 2}]" in text) == (vocab == 36)  # logits of half the tokens under half the columns
