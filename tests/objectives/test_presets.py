"""Advantages and averages of every preset: published goldens, and what each library's row says."""

from dataclasses import replace

import numpy as np
import pytest

from jaxsrl.objectives import presets
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.rewards.overlong import Overlong, overlong_penalty
from jaxsrl.types import Rewards
from tests.objectives.ragged import weigh

pytestmark = pytest.mark.usefixtures("x64")

REWARDS = np.array([0.2, 0.4, 0.4, 0.6, -1, 0.5, 0.3, 0.4])
NONE = np.zeros((1, 0), bool)
POPULATION = [-0.0525, 0.3674, 0.3674, 0.7873, -2.5718, 0.5774, 0.1575, 0.3674]
SAMPLE = [-0.0491, 0.3437, 0.3437, 0.7364, -2.4057, 0.5401, 0.1473, 0.3437]
CENTRED = [-0.025, 0.175, 0.175, 0.375, -1.225, 0.275, 0.075, 0.175]
OTHERS = [-0.0286, 0.2, 0.2, 0.4286, -1.4, 0.3143, 0.0857, 0.2]


def weighed(policy, rollouts, reward):
    return weigh(policy, rollouts, np.asarray(reward, float), NONE)[1]


@pytest.mark.parametrize("preset, want, atol", [
    (presets.grpo_printed(), POPULATION, 6e-5), (presets.verl(), SAMPLE, 6e-5), (presets.slime(), SAMPLE, 6e-5),
    (presets.skyrl(), SAMPLE, 6e-5), (presets.trl(), np.array(CENTRED) / (0.50920 + 1e-4), 6e-5),
    (presets.prime_rl(), CENTRED, 1e-9), (presets.dr_grpo(100), CENTRED, 1e-9), (presets.rloo(), OTHERS, 6e-5),
    (presets.dapo(), POPULATION, 6e-5), (presets.areal(), POPULATION, 6e-5),
    (presets.reinforce_plus_plus(), POPULATION, 6e-5), (presets.lite_ppo(), POPULATION, 6e-5),
])  # fmt: skip
def test_advantages_of_one_group(preset, want, atol, make_rollouts):
    """Completions of one token: the batch is the group, so what is whitened has the population's deviation."""
    got = weighed(preset, make_rollouts([3] * 8, [1] * 8), REWARDS).advantage[:, 0]
    assert np.allclose(got, want, atol=atol)


def test_nemo_rl_looks_at_the_others(make_rollouts):
    got = weighed(presets.nemo_rl(), make_rollouts([3] * 4, [1] * 4), [0.0, 1.0, 1.0, 0.5]).advantage[:, 0]
    want = []
    for i, r in enumerate([0.0, 1.0, 1.0, 0.5]):
        others = np.delete([0.0, 1.0, 1.0, 0.5], i)
        want.append((r - others.mean()) / (others.std(ddof=1) + 1e-6))
    assert np.allclose(got, want)
    # One against equals: their deviation is 0, and dividing is skipped.
    assert np.allclose(weighed(presets.nemo_rl(), make_rollouts([0] * 3, [1] * 3), [1.0, 0, 0]).advantage[0, 0], 1.0)


@pytest.mark.parametrize("preset, singleton_advantage, weight", [
    (presets.verl(), 0.7, "token"), (presets.trl(), 0.0, "token"), (presets.slime(), 0.0, "sequence"),
    (presets.prime_rl(), 0.0, "token"), (presets.nemo_rl(), 0.0, "token"), (presets.skyrl(), 0.7, "token"),
])  # fmt: skip
def test_a_group_of_one_and_the_average(preset, singleton_advantage, weight, make_rollouts):
    rollouts = make_rollouts([5, 2, 2], [1, 2, 5])
    got = weighed(preset, rollouts, [0.7, 0.0, 1.0])
    assert got.advantage[0, 0] == pytest.approx(singleton_advantage)
    want = rollouts.mask / 8 if weight == "token" else rollouts.mask / np.array([[1], [2], [5]]) / 3
    assert np.allclose(got.pg, want)


def test_areal_normalises_twice(make_rollouts):
    rollouts = make_rollouts([0, 0, 0, 1, 1, 1], [1, 2, 3, 1, 1, 4])
    reward = np.array([0.0, 0.2, 1.0, 5.0, 9.0, 5.5])
    once = weighed(GRPO(ddof=1), rollouts, reward).advantage
    got, tokens = weighed(presets.areal(), rollouts, reward).advantage, once[rollouts.mask]
    assert np.allclose(got[rollouts.mask], (tokens - tokens.mean()) / tokens.std())
    assert not np.allclose(got, once)


def test_lite_ppo_divides_by_the_step(make_rollouts):
    rollouts, reward = make_rollouts([0, 0, 1, 1], [2, 1, 1, 1]), np.array([0.0, 1.0, 0.4, 0.5])
    got = weighed(presets.lite_ppo(), rollouts, reward).advantage[:, 0]
    assert np.allclose(got, np.array([-0.5, 0.5, -0.05, 0.05]) / (reward.std() + 1e-6))
    assert np.allclose(weighed(GRPO(), rollouts, reward).advantage[2:, 0], [-1, 1], atol=1e-4)  # noise at full size


def test_reinforce_plus_plus_whitens_returns_over_tokens(make_rollouts):
    """Without and with the group's mean taken off first; long completions count more."""
    rollouts, reward = make_rollouts([0, 0, 1, 1], [4, 1, 2, 1]), np.array([0.0, 1.0, 3.0, 5.0])
    lengths = [4, 1, 2, 1]
    for preset, before in (
        (presets.reinforce_plus_plus(), reward),
        (presets.reinforce_plus_plus_baseline(), reward - np.array([0.5, 0.5, 4.0, 4.0])),
    ):
        tokens = np.repeat(before, lengths)
        got = weighed(preset, rollouts, reward).advantage
        assert np.allclose(got[:, 0], (before - tokens.mean()) / tokens.std())
        assert not got[~rollouts.mask].any()


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_kl_in_the_reward(kind, make_rollouts):
    """k1 of the tokens from each on; the sum of all of them before the baseline where it is the completion's."""
    rng = np.random.default_rng(0)
    logp, ref = -rng.uniform(0, 2, (4, 5)), -rng.uniform(0, 2, (4, 5))
    lengths, reward = [3, 5, 2, 4], np.array([0.0, 1.0, 0.5, 0.5])
    rollouts = replace(make_rollouts([1, 0, 0, 1], lengths, logp=logp), ref_logp=ref)
    beta = 0.3
    to_go = [[beta * sum(logp[p, s] - ref[p, s] for s in range(t, n)) for t in range(n)] for p, n in enumerate(lengths)]
    if kind == "sequence":
        got = weighed(presets.rloo(reward_kl_coef=beta), rollouts, reward).advantage
        left = reward - [row[0] for row in to_go]
        want = np.array([left[0] - left[3], left[1] - left[2], left[2] - left[1], left[3] - left[0]])
        assert np.allclose(got, want[:, None] * rollouts.mask)
    else:
        got = weighed(presets.reinforce_plus_plus(reward_kl_coef=beta), rollouts, reward).advantage
        returns = np.concatenate([reward[p] - np.array(row) for p, row in enumerate(to_go)])
        assert np.allclose(got[rollouts.mask], (returns - returns.mean()) / returns.std())
    with pytest.raises(ValueError, match="ref_logp"):
        weighed(presets.rloo(reward_kl_coef=beta), make_rollouts([0, 0], [1, 1]), [0.0, 1.0])


def test_overlong_goldens(make_rollouts):
    """The paper's numbers, in tokens; the mask's width is no length."""
    lengths = np.array([16_384, 18_432, 20_480, 21_000, 10])
    penalty = overlong_penalty(lengths, max_tokens=20_480, margin_tokens=4_096)
    assert np.allclose(penalty, [0, -0.5, -1, -1, 0])
    graded = Rewards(reward=np.array([1.0, -1.0]), action=("a", "b"), expert=("a", "a"), settings={})
    reward = Overlong(reward=lambda rollouts, demonstrations: graded, max_tokens=8, margin_tokens=4)
    got = reward(make_rollouts([0, 0], [6, 3], width=50), [])
    assert np.allclose(got.reward, [0.5, -1.0]) and got.metrics["reward/overlong_mean"] == pytest.approx(-0.25)
    with pytest.raises(ValueError, match="margin_tokens"):
        Overlong(reward=None, max_tokens=3, margin_tokens=4)
    with pytest.raises(ValueError, match="from 16384 tokens on .*max_new_tokens=50 ends"):
        Overlong(reward=reward.reward)(make_rollouts([0, 0], [6, 3], width=50), [])


def test_dapo_drops_groups_by_correctness_not_by_length(make_rollouts):
    """All right, of different lengths: spared the penalty, so dropped; the negative control keeps it in the loss."""
    rollouts = make_rollouts([0, 0, 1, 1], [7, 3, 7, 3], width=8)
    graded = Rewards(reward=np.array([1.0, 1, 1, -1]), action=("a",) * 4, expert=("a",) * 4, settings={})
    carried = {}
    for spare in (True, False):
        reward = Overlong(reward=lambda r, d: graded, max_tokens=8, margin_tokens=4, spare_equal=spare)
        reward = reward(rollouts, []).reward
        carried[spare] = weighed(presets.dapo(), rollouts, reward).pg.any(axis=1).tolist()
    assert carried == {True: [False, False, True, True], False: [True] * 4}
