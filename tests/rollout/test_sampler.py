"""The sampler against the learner: same log-probs, and noise that depends on the address alone."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.collect.complete import Sampler, complete
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.layout import lay_out
from jaxsrl.data.tree import build
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params, rollout_copy
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling, truncate
from jaxsrl.types import BranchPoint, Demonstration, TokenWeights, Weights
from jaxsrl.update import batch_logp
from tests.rows import logp_of, pack, shapes_of

BYTES = ByteTokenizer()
MODEL = ModelConfig(
    vocab=BYTES.vocab_size, width=32, layers=2, heads=4, kv_heads=2, head_width=8, mlp_width=48, qk_norm=True
)
CAP = 12


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL, jax.random.key(0))


def sampler(row_tokens=96, rows=2, slots=8, **template):
    """A sampler, and a list of what it draws: log-probs are no part of what evaluation reads."""
    sample, drawn = jax.jit(make_sampler(MODEL, Sampling(max_new_tokens=CAP), BYTES.ends)), []

    def keeping(*args):
        drawn.append(sample(*args))
        return drawn[-1]

    return Sampler(
        sample=keeping, tokenizer=BYTES, template=Template(**template), rows=rows, row_tokens=row_tokens, slots=slots,
        max_new_tokens=CAP,
    ), drawn  # fmt: skip


def demonstrations(count=3):
    rng = np.random.default_rng(0)
    word = lambda: "".join(rng.choice(list("abcdef"), 5))
    return [Demonstration(problem_id=str(i), problem=word(), actions=(word(), word(), word())) for i in range(count)]


def draw(acting, params, count=3, temperature=1.0, key=0, order=None, samples=3):
    given = demonstrations(count)
    given = [given[i] for i in order] if order else given
    points = [[BranchPoint(after=k, samples=samples) for k in range(2)] for _ in given]
    acting, drawn = acting
    trees = [build(d, p, (), acting.template, BYTES) for d, p in zip(given, points, strict=True)]
    rollouts = complete(acting, params, jax.random.key(key), temperature, trees, points)
    return trees, rollouts, logp_of(drawn, rollouts)


def learner_logp(params, trees, rollouts, temperature):
    """Log-probs of the sampled tokens as the learner computes them, in the shape of the rollouts."""
    zero = np.zeros((len(trees), 0))
    weight = np.where(rollouts.mask, 1.0, 0.0)
    weights = Weights(
        trunk=TokenWeights(nll=zero, pg=zero, advantage=zero),
        rollouts=TokenWeights(nll=0 * weight, pg=weight, advantage=weight),
    )
    batches, _ = pack(trees, rollouts, 0 * weight, weights, row_tokens=160, rows=2)
    out = np.zeros(rollouts.mask.shape)
    for batch in batches:
        logp = np.asarray(batch_logp(MODEL, params, jax.tree.map(jnp.asarray, batch), temperature))
        for p in range(len(rollouts)):
            if (batch.rollout == p).any():
                out[p][rollouts.mask[p]] = logp[batch.rollout == p]
    return out


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize(("trunk_in", "row_tokens"), [("assistant", 96), ("user", 160)])
def test_sampler_and_learner_agree(params, temperature, trunk_in, row_tokens):
    """Forgetting the temperature on one side must show."""
    acting = sampler(trunk_in=trunk_in, row_tokens=row_tokens)
    trees, rollouts, logp = draw(acting, params, temperature=temperature)
    again = learner_logp(params, trees, rollouts, temperature)
    assert np.abs(again - logp)[rollouts.mask].max() < 1e-5
    if temperature != 1:
        forgotten = learner_logp(params, trees, rollouts, 1.0)
        assert np.abs(forgotten - logp)[rollouts.mask].max() > 1e-2


def test_the_end_token_is_kept_and_nothing_follows_it(params):
    """The end token is made likely, so that completions do end."""
    biased = params | {"embedding": params["embedding"].at[BYTES.end].mul(6.0)}
    _, rollouts, logp = draw(sampler(), biased, key=1)
    ended = ~rollouts.truncated
    assert ended.any()
    length = rollouts.mask.sum(axis=1)
    last = rollouts.token[np.arange(len(rollouts)), length - 1]
    assert (last[ended] == BYTES.end).all() and (rollouts.token[~rollouts.mask] == 0).all()
    assert (logp[np.arange(len(rollouts)), length - 1] != 0).all()
    inside = rollouts.mask & (np.arange(CAP) < length[:, None] - 1)
    assert (rollouts.token[inside] != BYTES.end).all()


def test_each_of_several_end_tokens_ends_a_completion(params):
    """Two ids are made likely. With one of them as the end, the other one stands inside of completions."""
    other = ord("a")
    biased = params | {"embedding": params["embedding"].at[jnp.array([BYTES.end, other])].mul(6.0)}
    points = [[BranchPoint(after=1, samples=8)]] * 2
    prompts, _ = laid_out(demonstrations(2), points, row_tokens=96, slots=8, rows=2)
    found = {}
    for ends in ((BYTES.end,), (BYTES.end, other), (other, BYTES.end)):
        sample = jax.jit(make_sampler(MODEL, Sampling(max_new_tokens=CAP), ends))
        drawn = jax.device_get(sample(biased, prompts, jax.random.key(1), np.float32(1.0)))
        length, token = drawn.length[drawn.length > 0], drawn.token[drawn.length > 0]
        last = token[np.arange(len(token)), length - 1]
        inside = token[np.arange(CAP) < length[:, None] - 1]
        assert not set(inside.tolist()) & set(ends) and set(last[length < CAP].tolist()) <= set(ends)
        found[ends] = set(inside.tolist()), set(last.tolist()), token.tolist()
    assert other in found[BYTES.end,][0] and other in found[BYTES.end, other][1]
    assert found[BYTES.end, other] == found[other, BYTES.end]


def test_tokens_depend_on_the_address_and_not_on_the_batch(params):
    """Other prompts beside it, other rows, other order: same tokens."""
    _, alone, _ = draw(sampler(), params, count=1)
    _, together, _ = draw(sampler(), params, count=3)
    _, turned, _ = draw(sampler(), params, count=3, order=[2, 1, 0])
    _, other_shape, _ = draw(sampler(row_tokens=160, rows=1, slots=5), params, count=3)
    first = together.demonstration == 0
    assert np.array_equal(alone.token, together.token[first])
    assert np.array_equal(alone.token, turned.token[turned.demonstration == 2])
    assert np.array_equal(together.token, other_shape.token)
    _, another_seed, _ = draw(sampler(), params, count=1, key=7)
    assert not np.array_equal(alone.token, another_seed.token)
    assert len({tuple(row) for row in alone.token}) > 1


def test_a_branch_point_may_take_more_than_a_row(params):
    """Rows of one slot and of two: what is drawn, and its order, are those of rows that hold all."""
    _, together, _ = draw(sampler(), params, count=2, samples=5)
    assert (
        together.sample.tolist() == [0, 1, 2, 3, 4] * 4 and together.group.tolist() == np.repeat(range(4), 5).tolist()
    )
    for slots in (1, 2):
        _, cut, _ = draw(sampler(row_tokens=40, slots=slots), params, count=2, samples=5)
        np.testing.assert_array_equal(cut.token, together.token)
        for name in ("demonstration", "branch", "sample", "group", "truncated"):
            np.testing.assert_array_equal(getattr(cut, name), getattr(together, name))
        assert (cut.form, cut.text) == (together.form, together.text)


def laid_out(given, points, *, row_tokens, slots, rows, positions=None):
    """(prompts, layout) of demonstrations that take one sheet."""
    shapes = replace(
        shapes_of(1, 1), prompt_rows=rows, prompt_tokens=row_tokens, slots=slots, groups=rows * slots, group_size=slots,
        demonstrations=len(given),
    )  # fmt: skip
    layout = lay_out(given, points, shapes, template=Template(), tokenizer=BYTES, positions=positions)
    (sheet,) = layout.sheets
    return sheet.prompts, layout


def test_equal_prompts_draw_apart_by_their_position(params):
    """Two equal prompts in one call: other tokens, each the same alone and in rows of another shape."""
    sample = jax.jit(make_sampler(MODEL, Sampling(max_new_tokens=CAP), BYTES.ends))
    one, points = demonstrations(1)[0], [BranchPoint(after=1, samples=3)]

    def drawn(positions, **shape):
        given = len(positions)
        prompts, layout = laid_out([one] * given, [points] * given, positions=positions, **shape)
        out = sample(params, prompts, jax.random.key(0), np.float32(1.0))
        return np.asarray(out.token)[layout.order].reshape(given, 3, CAP)

    wide, long = {"row_tokens": 96, "slots": 8, "rows": 2}, {"row_tokens": 48, "slots": 4, "rows": 3}
    both = drawn([4, 9], **wide)
    assert not (both[0] == both[1]).all(axis=1).any()
    np.testing.assert_array_equal(drawn([9, 4], **long), both[::-1])
    np.testing.assert_array_equal(drawn([9], **long), both[1:])


def test_jobs_are_the_slots_row_after_row(params):
    """Nothing is written behind a length, and nothing at all into an empty slot."""
    sample = jax.jit(make_sampler(MODEL, Sampling(max_new_tokens=CAP), BYTES.ends))
    points = [[BranchPoint(after=0, samples=3)]] * 2
    prompts, _ = laid_out(demonstrations(2), points, row_tokens=32, slots=4, rows=2)
    out = sample(params, prompts, jax.random.key(0), np.float32(1.0))
    assert out.token.shape == out.logp.shape == (8, CAP) and out.length.shape == (8,)
    active = prompts.slot_active.reshape(-1)
    assert active.tolist() == [True, True, True, False] * 2
    assert (out.length[active] > 0).all() and (out.length[~active] == 0).all()
    behind = np.arange(CAP) >= np.asarray(out.length)[:, None]
    assert (np.asarray(out.token)[behind] == 0).all() and (np.asarray(out.logp)[behind] == 0).all()


@pytest.mark.parametrize("tied", [True, False])
def test_a_copy_in_bfloat16_samples_the_same(tied):
    """Bit for bit. The control: where norms are narrow as well, it is another model."""
    config = replace(MODEL, dtype="bfloat16", tied=tied, qkv_bias=True)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + 0.1 * rng.normal(size=x.shape).astype("f"), init_params(config, jax.random.key(0))
    )
    points = [[BranchPoint(after=0, samples=8)]]
    prompts, _ = laid_out(demonstrations(1), points, row_tokens=48, slots=8, rows=1)
    sample = jax.jit(make_sampler(config, Sampling(max_new_tokens=CAP), BYTES.ends))
    of = lambda params: sample(params, prompts, jax.random.key(0), np.float32(0.8))
    copy = jax.jit(rollout_copy, static_argnums=0)(config, params)
    assert {x.dtype.name for path, x in jax.tree_util.tree_leaves_with_path(copy) if "norm" not in path[-1].key} == {
        "bfloat16"
    }
    assert copy["final_norm"].dtype == copy["layers"]["query_norm"].dtype == jnp.float32
    want = of(params)
    jax.tree.map(np.testing.assert_array_equal, of(copy), want)
    narrow = of(jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))
    assert not np.array_equal(narrow.logp, want.logp)
    assert rollout_copy(MODEL, params) is params


def test_temperature_zero_is_greedy(params):
    trees, rollouts, logp = draw(sampler(), params, temperature=0.0)
    same = rollouts.token.reshape(-1, 3, CAP)
    assert (same == same[:, :1]).all()
    again = learner_logp(params, trees, rollouts, 1.0)
    assert np.abs(again - logp)[rollouts.mask].max() < 1e-5


def test_truncation_keeps_the_documented_sets():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
    kept = lambda k, p: np.isfinite(np.asarray(truncate(logits, k, p)))[0].tolist()
    assert kept(2, 1.0) == [True, True, False, False]
    assert kept(0, 0.6) == [True, True, False, False]
    assert kept(0, 0.4) == [True, False, False, False]
    assert kept(0, 1.0) == [True] * 4


def test_truncated_sampling_is_refused_in_training():
    with pytest.raises(ValueError, match="top_k=5"):
        Sampling(top_k=5).check_trainable()
    with pytest.raises(ValueError, match="temperature"):
        replace(Sampling(), temperature=0.0).check_trainable()
