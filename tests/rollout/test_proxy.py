"""Proxy-tuning at its two ends, and against logits that are mixed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.collect import Actor, Rows, complete
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.chat import Template
from jaxsrl.data.tree import build, path_tokens
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import forward, head_matrix, init_params
from jaxsrl.rollout.proxy import make_proxy_sampler
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.types import BranchPoint, Demonstration

BYTES = ByteTokenizer()
SIZE = dict(vocab=BYTES.vocab_size, heads=2, kv_heads=1, head_width=8, mlp_width=24)
LARGE, SMALL = ModelConfig(width=24, layers=2, **SIZE), ModelConfig(width=16, layers=1, **SIZE)
CAP = 6
GIVEN = [Demonstration(problem_id=w, problem=w, actions=("ab", "cd")) for w in ("abc", "defg")]
POINTS = [[BranchPoint(after=0, samples=3), BranchPoint(after=1, samples=2)]] * 2


def draw(sample, params, temperature=1.0):
    rows = Rows(prompt_tokens=64, prompt_rows=2, slots=6)
    actor = Actor(sample=jax.jit(sample), tokenizer=BYTES, template=Template(), rows=rows, max_new_tokens=CAP)
    trees = [build(d, p, (), actor.template, BYTES) for d, p in zip(GIVEN, POINTS, strict=True)]
    return trees, complete(actor, params, jax.random.key(3), temperature, trees, POINTS)


@pytest.fixture(scope="module")
def params():
    scaled = lambda config, seed: jax.tree.map(lambda x: 3.0 * x, init_params(config, jax.random.key(seed)))
    return {"M": scaled(LARGE, 0), "plus": scaled(SMALL, 1), "minus": scaled(SMALL, 2)}


def proxy(large=LARGE, **settings):
    return make_proxy_sampler(large, SMALL, Sampling(max_new_tokens=CAP), BYTES.end, **settings)


def test_the_two_ends(params):
    three = (params["M"], params["plus"], params["minus"])
    alone = lambda config, one: draw(make_sampler(config, Sampling(max_new_tokens=CAP), BYTES.end), one)[1]
    off, large = draw(proxy(alpha=0.0), three)[1], alone(LARGE, params["M"])
    np.testing.assert_array_equal(off.token, large.token)
    np.testing.assert_allclose(off.behavior_logp, large.behavior_logp, atol=1e-6)
    swapped = draw(proxy(large=SMALL), (params["minus"], params["plus"], params["minus"]))[1]
    small = alone(SMALL, params["plus"])
    np.testing.assert_array_equal(swapped.token, small.token)
    np.testing.assert_allclose(swapped.behavior_logp, small.behavior_logp, atol=1e-4)
    assert not np.array_equal(draw(proxy(), three)[1].token, large.token)  # and in between it is neither


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_log_probs_are_those_of_the_mixed_logits(params, alpha):
    trees, rollouts = draw(proxy(alpha=alpha), (params["M"], params["plus"], params["minus"]), temperature=0.8)
    worst = 0.0
    for p in range(len(rollouts)):
        tree = trees[rollouts.demonstration[p]]
        before = path_tokens(tree, tree.branch[rollouts.form[p], int(rollouts.branch[p])])
        written = rollouts.token[p][rollouts.mask[p]]
        whole = np.concatenate([before, written])[None]
        n = whole.shape[1]
        position, zero = np.arange(n)[None], np.zeros((1, n), int)
        z = []
        for config, name in ((LARGE, "M"), (SMALL, "plus"), (SMALL, "minus")):
            hidden = forward(config, params[name], whole, position, zero, zero + 1)
            z.append(jnp.matmul(hidden, head_matrix(config, params[name])))
        mixed = jax.nn.log_softmax((z[0] + alpha * (z[1] - z[2])) / 0.8)[0]
        want = mixed[np.arange(len(before) - 1, n - 1), written]
        worst = max(worst, float(jnp.abs(want - rollouts.behavior_logp[p][rollouts.mask[p]]).max()))
    assert worst < 2e-4


def test_vocabularies_must_be_one():
    other = ModelConfig(width=16, layers=1, **SIZE | {"vocab": 300})
    with pytest.raises(ValueError, match="vocabulary"):
        make_proxy_sampler(LARGE, other, Sampling(), BYTES.end)
