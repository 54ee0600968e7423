"""The sampler against the learner: same log-probs, and noise that depends on the address alone."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.collect import Actor, Rows, complete
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.packing import pack
from jaxsrl.data.tree import attach, build
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling, truncate
from jaxsrl.types import BranchPoint, Demonstration, TokenWeights
from jaxsrl.update import batch_logp

BYTES = ByteTokenizer()
MODEL = ModelConfig(
    vocab=BYTES.vocab_size, width=32, layers=2, heads=4, kv_heads=2, head_width=8, mlp_width=48, qk_norm=True
)
CAP = 12


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL, jax.random.key(0))


def actor(rows=Rows(prompt_tokens=96, prompt_rows=2, slots=8, tokens=160, rows=2), **template):  # noqa: B008
    sampling = Sampling(max_new_tokens=CAP)
    sample = jax.jit(make_sampler(MODEL, sampling, BYTES.end))
    return Actor(sample=sample, tokenizer=BYTES, template=Template(**template), rows=rows, max_new_tokens=CAP)


def demonstrations(count=3):
    rng = np.random.default_rng(0)
    word = lambda: "".join(rng.choice(list("abcdef"), 5))
    return [Demonstration(problem_id=str(i), problem=word(), actions=(word(), word(), word())) for i in range(count)]


def draw(acting, params, count=3, temperature=1.0, key=0, order=None):
    given = demonstrations(count)
    given = [given[i] for i in order] if order else given
    points = [[BranchPoint(after=k, samples=3) for k in range(2)] for _ in given]
    trees = [build(d, p, (), acting.template, BYTES) for d, p in zip(given, points, strict=True)]
    return trees, complete(acting, params, jax.random.key(key), temperature, trees, points)


def learner_logp(params, trees, rollouts, temperature, scored=None):
    """Log-probs of the sampled tokens as the learner computes them, in the shape of the rollouts."""
    zero = np.zeros((len(trees), 0))
    weight = np.where(rollouts.mask, 1.0, 0.0)
    trees = [attach(t, rollouts, np.flatnonzero(rollouts.demonstration == m)) for m, t in enumerate(trees)]
    batches, _ = pack(
        trees, rollouts.behavior_logp, rollouts.mask, TokenWeights(nll=zero, pg=zero, advantage=zero),
        TokenWeights(nll=0 * weight, pg=weight, advantage=weight), row_tokens=160, rows=2,
    )  # fmt: skip
    out = np.zeros(rollouts.mask.shape)
    for batch in batches:
        logp = np.asarray(batch_logp(MODEL, params, jax.tree.map(jnp.asarray, batch), temperature))
        for p in range(len(rollouts)):
            if (batch.rollout == p).any():
                out[p][rollouts.mask[p]] = logp[batch.rollout == p]
    return out


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("trunk_in", ["assistant", "user"])
def test_sampler_and_learner_agree(params, temperature, trunk_in):
    """Traps 2, 5: forgetting the temperature on one side must show."""
    acting = actor(trunk_in=trunk_in)
    trees, rollouts = draw(acting, params, temperature=temperature)
    again = learner_logp(params, trees, rollouts, temperature)
    assert np.abs(again - rollouts.behavior_logp)[rollouts.mask].max() < 1e-5
    if temperature != 1:
        forgotten = learner_logp(params, trees, rollouts, 1.0)
        assert np.abs(forgotten - rollouts.behavior_logp)[rollouts.mask].max() > 1e-2


def test_the_end_token_is_kept_and_nothing_follows_it(params):
    """Trap 7. The end token is made likely, so that completions do end."""
    biased = params | {"embedding": params["embedding"].at[BYTES.end].mul(6.0)}
    _, rollouts = draw(actor(), biased, key=1)
    ended = ~rollouts.truncated
    assert ended.any()
    length = rollouts.mask.sum(axis=1)
    last = rollouts.token[np.arange(len(rollouts)), length - 1]
    assert (last[ended] == BYTES.end).all() and (rollouts.token[~rollouts.mask] == 0).all()
    assert (rollouts.behavior_logp[np.arange(len(rollouts)), length - 1] != 0).all()
    inside = rollouts.mask & (np.arange(CAP) < length[:, None] - 1)
    assert (rollouts.token[inside] != BYTES.end).all()


def test_tokens_depend_on_the_address_and_not_on_the_batch(params):
    """Trap 58 and the design: other prompts beside it, other rows, other order: same tokens."""
    _, alone = draw(actor(), params, count=1)
    _, together = draw(actor(), params, count=3)
    _, turned = draw(actor(), params, count=3, order=[2, 1, 0])
    wide = Rows(prompt_tokens=160, prompt_rows=1, slots=5)
    _, other_shape = draw(actor(rows=wide), params, count=3)
    first = together.demonstration == 0
    assert np.array_equal(alone.token, together.token[first])
    assert np.array_equal(alone.token, turned.token[turned.demonstration == 2])
    assert np.array_equal(together.token, other_shape.token)
    _, another_seed = draw(actor(), params, count=1, key=7)
    assert not np.array_equal(alone.token, another_seed.token)
    assert len({tuple(row) for row in alone.token}) > 1


def test_temperature_zero_is_greedy(params):
    trees, rollouts = draw(actor(), params, temperature=0.0)
    same = rollouts.token.reshape(-1, 3, CAP)
    assert (same == same[:, :1]).all()
    again = learner_logp(params, trees, rollouts, 1.0)
    assert np.abs(again - rollouts.behavior_logp)[rollouts.mask].max() < 1e-5


def test_truncation_keeps_the_documented_sets():
    logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
    kept = lambda k, p: np.isfinite(np.asarray(truncate(logits, k, p)))[0].tolist()
    assert kept(2, 1.0) == [True, True, False, False]
    assert kept(0, 0.6) == [True, True, False, False]
    assert kept(0, 0.4) == [True, False, False, False]
    assert kept(0, 1.0) == [True] * 4


def test_truncated_sampling_is_refused_in_training():
    """Trap 6."""
    with pytest.raises(ValueError, match="top_k=5"):
        Sampling(top_k=5).check_trainable()
    with pytest.raises(ValueError, match="temperature"):
        replace(Sampling(), temperature=0.0).check_trainable()
