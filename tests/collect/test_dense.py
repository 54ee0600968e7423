"""A whole step of the host's loop, sampled and learned from, against the formulas written out: slow, plain, float64."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.collect.collect import collect
from jaxsrl.collect.learn import filled, rows_of
from jaxsrl.config.overrides import load
from jaxsrl.data.chat import action, head, tail
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import forward, head_matrix
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.srl import SRL
from jaxsrl.policy import Compiled
from tests.coin import coin
from tests.parts import stage_parts

TINY = load(Path(__file__).parents[1] / "tiny_config.py")
MODEL = ModelConfig(vocab=272, width=16, layers=2, heads=2, kv_heads=1, head_width=8, mlp_width=24, qk_norm=True)
HEAT = 0.7


def config(runs):
    """Three demonstrations with two branch points each, a refill, and fewer groups wanted than there are."""
    stage = TINY.stages[1]
    objective = SRL(reward=coin, policy=GRPO(filter_std=0.01), group_size=3)
    stage = replace(
        stage, objective=objective, start_from=None, test=None, steps=2,
        collect=replace(stage.collect, demonstrations=3, prompts=7, max_refills=2),
        sampling=replace(stage.sampling, temperature=HEAT),
    )  # fmt: skip
    return replace(TINY, model=MODEL, rows=replace(TINY.rows, rows=1, tokens=96), stages=(stage,), runs=str(runs))


def wide(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, tree)


def path_of(parts, demonstration, after):
    """The prompt's tokens, from the messages themselves."""
    template, tokenizer = parts.config.template, parts.tokenizer
    out = list(head(template, tokenizer, "action", demonstration.problem))
    for text in demonstration.actions[:after]:
        out += action(template, tokenizer, text)
    return out + list(tail(template, tokenizer))


def rows_by_hand(parts, collection):
    """Every rollout that is kept: prompt, tokens, log-probs then, advantage from the rewards of its group."""
    layout, rows = collection.layout, []
    token, logp = np.asarray(collection.completions.token), np.asarray(collection.completions.logp)
    for job in layout.order.tolist():
        demonstration = layout.demonstrations[layout.jobs.demonstration[job]]
        after, n = int(layout.jobs.branch[job]), int(collection.length[job])
        written = token[job, :n].tolist()
        rows.append({
            "group": (int(layout.jobs.demonstration[job]), after), "reward": float(sum(written) % 2),
            "prompt": path_of(parts, demonstration, after), "written": written, "old": logp[job, :n],
            "kept": bool(collection.carries[job]),
        })  # fmt: skip
    for row in rows:
        rewards = np.array([r["reward"] for r in rows if r["group"] == row["group"]])
        assert rewards.std() > 0.01 or not row["kept"]
        row["advantage"] = (row["reward"] - rewards.mean()) / (rewards.std() + 1e-6)
    return [row for row in rows if row["kept"]]


@partial(jax.jit, static_argnums=1)
@partial(jax.value_and_grad, argnums=0)
def dense_loss(params, prompt_tokens, ids, before, written, old, advantage, weight, heat):
    """A row a rollout and nothing shared; `before` [N C] is where the token before each written one stands."""
    place = jnp.broadcast_to(jnp.arange(prompt_tokens)[None], ids.shape)
    hidden = forward(MODEL, params, ids, place, jnp.zeros_like(ids), jnp.ones_like(ids))
    logs = jax.nn.log_softmax((hidden @ head_matrix(MODEL, params)) / heat)
    each = jnp.arange(len(ids))[:, None]
    ratio = jnp.exp(logs[each, before, written] - old)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)
    return -jnp.sum(weight * gain)


def dense_step(parts, params, collection, *, wrong=None):
    """(loss, gradient) from `rows_by_hand`, or by a wrong formula."""
    rows = rows_by_hand(parts, collection)
    longest, cap = 64, parts.stage.sampling.max_new_tokens
    total = sum(len(row["written"]) for row in rows)
    ids = np.zeros((len(rows), longest), np.int32)
    before, written = (np.zeros((len(rows), cap), np.int32) for _ in range(2))
    old, weight = (np.zeros((len(rows), cap)) for _ in range(2))
    for i, row in enumerate(rows):
        whole, n = row["prompt"] + row["written"], len(row["written"])
        ids[i, : len(whole)] = whole
        before[i, :n] = len(row["prompt"]) - 1 + np.arange(n)
        written[i, :n], old[i, :n] = row["written"], row["old"]
        weight[i, :n] = 1 / (len(rows) * n if wrong == "weight" else total)
    column = "reward" if wrong == "advantage" else "advantage"
    advantage = np.array([[row[column]] for row in rows])
    return dense_loss(
        params, longest, ids, before, written, old, advantage, weight, 1.0 if wrong == "temperature" else HEAT
    )


def largest_error(got, want):
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)


@pytest.fixture
def stepped(tmp_path, x64):
    """Parts with parameters of float64, what they collect from them, and the sum of the gradients of its batches."""
    with stage_parts(config(tmp_path), compiled=Compiled()) as (parts, state, _):
        params = wide(state.params)  # with an end token that is likely, so that lengths differ
        params["embedding"] = params["embedding"].at[parts.tokenizer.end].mul(4.0)
        key = jax.random.key(6)
        collection = collect(parts.collector, 0, 0, lambda: params, key, HEAT)
        learner = parts.learner
        batches = [filled(learner, part, len(part.start), collection) for part in rows_of(learner, collection).batches]
        # Off the policy that sampled, so that ratios differ and some are clipped.
        moved = jax.tree.map(lambda x: x * 1.02 + 0.003, params)
        found = [learner.gradient(moved, batch, learner.numbers) for batch in batches]
        grads, metrics = jax.tree.map(lambda *x: sum(x), *found)
        yield parts, moved, collection, grads, metrics, batches


def test_a_step_is_the_formulas(stepped):
    """Prompts, addresses, refill, surplus, filter, advantages, weights, rows and ratios together: 1e-10."""
    parts, params, collection, grads, metrics, batches = stepped
    groups = {int(collection.layout.jobs.group[p]) for p in np.flatnonzero(collection.carries)}
    assert collection.rounds > 1 and len(groups) == 7 and len(batches) > 1
    assert len(set(collection.length[collection.carries].tolist())) > 1
    loss, want = dense_step(parts, params, collection)
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-10)
    assert jax.tree.leaves(grads)[0].dtype == jnp.float64 and largest_error(grads, want) < 1e-10
    assert float(metrics["pg/ratio_mean"]) != pytest.approx(1, abs=1e-3)
    for wrong in ("temperature", "advantage", "weight"):  # the controls
        assert largest_error(dense_step(parts, params, collection, wrong=wrong)[1], want) > 1e-3, wrong
