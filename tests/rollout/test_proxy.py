"""Proxy-tuning at its two ends, and against logits that are mixed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.collect.complete import Sampler, complete
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import forward, head_matrix, init_params
from jaxsrl.rollout.proxy import make_proxy_sampler
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.types import BranchPoint, Demonstration
from tests.rows import logp_of

BYTES = ByteTokenizer()
SIZE = dict(vocab=BYTES.vocab_size, heads=2, kv_heads=1, head_width=8, mlp_width=24)
LARGE, SMALL = ModelConfig(width=24, layers=1, **SIZE), ModelConfig(width=16, layers=1, **SIZE)
CAP = 6
GIVEN = [Demonstration(problem_id=w, problem=w, actions=("ab", "cd")) for w in ("abc", "defg")]
POINTS = [[BranchPoint(after=0, samples=3), BranchPoint(after=1, samples=2)]] * 2


def draw(sample, params, temperature=1.0):
    """Trees, rollouts, and what the sampler gave their tokens."""
    compiled, drawn = jax.jit(sample), []

    def keeping(*args):
        drawn.append(compiled(*args))
        return drawn[-1]

    sampler = Sampler(
        sample=keeping, tokenizer=BYTES, template=Template(), rows=2, row_tokens=64, slots=6, max_new_tokens=CAP
    )
    trees = [build(d, p, (), sampler.template, BYTES) for d, p in zip(GIVEN, POINTS, strict=True)]
    rollouts = complete(sampler, params, jax.random.key(3), temperature, trees, POINTS)
    return trees, rollouts, logp_of(drawn, rollouts)


@pytest.fixture(scope="module")
def params():
    scaled = lambda config, seed: jax.tree.map(lambda x: 3.0 * x, init_params(config, jax.random.key(seed)))
    return {"M": scaled(LARGE, 0), "plus": scaled(SMALL, 1), "minus": scaled(SMALL, 2)}


def proxy(large=LARGE, **settings):
    return make_proxy_sampler(large, SMALL, Sampling(max_new_tokens=CAP), BYTES.ends, **settings)


def test_the_two_ends(params):
    """With alpha 0 it is M, with M in the place of M- it is M+; all of one size, so that there are three programs."""
    base, plus, minus = (init_params(SMALL, jax.random.key(seed)) for seed in range(3))
    one = jax.jit(make_sampler(SMALL, Sampling(max_new_tokens=CAP), BYTES.ends))
    on, off = jax.jit(proxy(large=SMALL)), jax.jit(proxy(large=SMALL, alpha=0.0))
    of = lambda sample, given: draw(sample, given)[1:]
    untuned, tuned = of(one, base), of(one, plus)
    nothing, everything = of(off, (base, plus, minus)), of(on, (base, plus, base))
    for (got, logp), (want, its), close in ((nothing, untuned, 1e-6), (everything, tuned, 1e-4)):
        np.testing.assert_array_equal(got.token, want.token)
        np.testing.assert_allclose(logp, its, atol=close)
    between = of(on, (base, plus, minus))[0].token
    assert not np.array_equal(between, untuned[0].token) and not np.array_equal(between, tuned[0].token)


def test_log_probs_are_those_of_the_mixed_logits(params):
    """Every rollout in a row of its own, with padding behind it that it cannot see."""
    alpha, temperature = 0.5, 0.8
    trees, rollouts, drawn = draw(proxy(alpha=alpha), (params["M"], params["plus"], params["minus"]), temperature)
    given = [
        path_tokens(trees[m], trees[m].branch["action", int(k)])
        for m, k in zip(rollouts.demonstration, rollouts.branch, strict=True)
    ]
    token, position = np.zeros((len(rollouts), 32), int), np.tile(np.arange(32), (len(rollouts), 1))
    for p, before in enumerate(given):
        written = rollouts.token[p][rollouts.mask[p]]
        token[p, : len(before) + len(written)] = [*before, *written]

    def logits(config, name):
        tree = (position, np.zeros_like(token), np.ones_like(token))
        return jax.jit(
            lambda p: jnp.matmul(forward(config, p, token, *tree), head_matrix(config, p))
        )(params[name])  # fmt: skip

    mixed = logits(LARGE, "M") + alpha * (logits(SMALL, "plus") - logits(SMALL, "minus"))
    logp = np.asarray(jax.nn.log_softmax(mixed / temperature))
    for p, before in enumerate(given):
        n = rollouts.mask[p].sum()
        at = len(before) - 1 + np.arange(n)
        want = logp[p, at, rollouts.token[p, :n]]
        assert np.abs(want - drawn[p, :n]).max() < 2e-4


def test_vocabularies_must_be_one():
    other = ModelConfig(width=16, layers=1, **SIZE | {"vocab": 300})
    with pytest.raises(ValueError, match="vocabulary"):
        make_proxy_sampler(LARGE, other, Sampling(), BYTES.ends)
