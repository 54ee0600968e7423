"""Objectives that train on rollouts and on the demonstration, against NumPy on ragged rows in shuffled order."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.objectives.chord import CHORD, MuSchedule, chord_phi
from jaxsrl.objectives.dft import DFT
from jaxsrl.objectives.expert import expert_nll
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.luffy import LUFFY, shaped
from jaxsrl.objectives.reverse import ReverseCurriculum
from jaxsrl.objectives.rl_with_sft import RLWithSFT
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srft import SRFT
from jaxsrl.types import Demonstration
from tests.objectives.ragged import numbers, token_loss, weigh

LENGTHS, GROUP = [3, 1, 5, 2, 4, 4], [7, 2, 7, 7, 2, 2]  # group 2 is demonstration 0, group 7 demonstration 1
OWNER = [1, 0, 1, 1, 0, 0]
REWARD = np.array([0.0, 1.0, 1.0, 0.0, 0.0, 0.0])
TARGET = np.arange(4) < np.array([[2], [4], [3]])  # three demonstrations, the last without rollouts


@pytest.fixture
def case(make_rollouts, lay_out):
    """(objective, step=0, distance=0) -> loss, gradients of rollouts' tokens and of all tokens, metrics, inputs."""

    def run(objective, *, reward=REWARD, step=0, distance=0.4, target=TARGET, seed=0):
        rng = np.random.default_rng(seed)
        old = -rng.uniform(0.2, 3.0, (6, 5))
        rollouts = make_rollouts(GROUP, LENGTHS, logp=old, demonstration=OWNER)
        logp, trunk_logp = old + distance * rng.normal(size=old.shape), -rng.uniform(0.1, 4.0, target.shape)
        trunk, branches = weigh(objective, rollouts, reward, target, step)
        batch, flat, place = lay_out(rollouts, trunk, branches, logp, trunk_logp=trunk_logp, seed=seed)
        batch = replace(batch, extra={"entropy": np.abs(rng.normal(size=flat.shape))})
        gradient = jax.value_and_grad(partial(token_loss, objective), has_aux=True)
        (loss, metrics), grad = gradient(jnp.asarray(flat), batch)
        return dict(
            loss=float(loss), grad=np.asarray(grad), metrics=metrics, rollouts=rollouts, logp=logp, flat=flat,
            trunk_logp=trunk_logp, trunk=trunk, branches=branches, batch=batch, place=place,
        )  # fmt: skip

    return run


def on_trunk(got, of):
    """The gradients on the demonstrations' tokens, sorted by a key that their log-probs are."""
    weighed = (got["batch"].nll_weight != 0) | (got["batch"].pg_weight != 0)
    expert = (got["batch"].rollout < 0) & weighed
    order = np.argsort(got["flat"][expert])
    want = np.argsort(got["trunk_logp"][of])
    return got["grad"][expert][order], want


def at(mu: MuSchedule, step: int) -> float:
    """The schedule at a step."""
    return float(mu.at(jnp.int32(step), numbers(mu)))


def test_mu_goldens():
    decaying, rising = MuSchedule(), MuSchedule(warmup=200, decay=400, peak=0.5, valley=0.02)
    for step, want in ((0, 0.9), (50, 0.7755), (100, 0.475), (150, 0.1745), (200, 0.05), (5000, 0.05)):
        assert at(decaying, step) == pytest.approx(want, abs=6e-5)
    for step, want in ((0, 0.0), (100, 0.25), (200, 0.5), (400, 0.26), (600, 0.02)):
        assert at(rising, step) == pytest.approx(want, abs=6e-5)
    constant, switch = MuSchedule(decay=0, peak=0.1, valley=0.1), MuSchedule(warmup=0, decay=1, peak=1.0, valley=0.0)
    assert at(constant, 0) == at(constant, 999) == pytest.approx(0.1)
    assert at(switch, 0) == 1 and at(switch, 1) == 0
    with pytest.raises(ValueError, match="valley"):
        MuSchedule(peak=0.1, valley=0.2)


def test_phi_and_luffy_goldens(make_batch, x64):
    """phi(p) from the loss itself: -dL/dlogp with the factor detached; f(p) and its slope by autodiff."""
    p = np.array([[0.01, 0.1, 0.5, 0.9, 0.99]])
    batch = make_batch(np.float64, nll_weight=np.ones((1, 5)))
    slope = lambda kind: -np.asarray(jax.grad(lambda x: expert_nll(x, batch, kind)[0])(jnp.log(jnp.asarray(p))))
    assert np.allclose(slope("phi"), [[0.0099, 0.09, 0.25, 0.09, 0.0099]])
    assert np.allclose(slope("probability"), p) and np.allclose(slope("one"), 1)
    attached = jax.grad(lambda x: -jnp.sum(jnp.exp(x) * (1 - jnp.exp(x)) * x))(jnp.log(jnp.asarray(p)))
    assert not np.allclose(-np.asarray(attached), slope("phi"), atol=1e-2)  # the formula if phi were not detached
    p = jnp.array([0.01, 0.1, 0.5, 1.0])
    assert np.allclose(shaped(p, 0.1), [0.0909, 0.5, 0.8333, 0.9091], atol=5e-5)
    factor = jax.vmap(jax.grad(lambda x: shaped(jnp.exp(x), 0.1)))(jnp.log(p))
    assert np.allclose(factor, [0.0826, 0.25, 0.1389, 0.0826], atol=5e-5)


@pytest.mark.parametrize("weight", ["one", "phi"])
def test_chord_is_grpo_at_one_end_and_sft_at_the_other(weight, case, x64):
    """Each of the two is averaged over its own tokens: none is diluted by a part that is not there."""
    at = lambda mu: CHORD(reward=None, mu=MuSchedule(decay=0, peak=mu, valley=mu), token_weight=weight)
    pure, none = case(GRPO()), case(at(0.0))
    assert none["loss"] == pytest.approx(pure["loss"], rel=1e-10)
    assert np.array_equal(none["grad"], pure["grad"]) and none["grad"].any()
    expert = case(SFT()) if weight == "one" else None
    all_of_it = case(at(1.0))
    if expert:
        assert all_of_it["loss"] == pytest.approx(expert["loss"], rel=1e-10)
        assert np.allclose(all_of_it["grad"], expert["grad"], rtol=1e-10, atol=0) and expert["grad"].any()
    half = case(at(0.5))
    assert half["loss"] == pytest.approx((none["loss"] + all_of_it["loss"]) / 2, rel=1e-10)
    assert np.allclose(half["grad"], (none["grad"] + all_of_it["grad"]) / 2, rtol=1e-10, atol=1e-14)
    assert half["trunk"].nll.sum() == pytest.approx(0.5) and half["branches"].pg.sum() == pytest.approx(0.5)


def test_chord_follows_its_schedule_and_counts_expert_tokens(case, x64):
    objective = CHORD(reward=None)
    for step in (0, 100, 300):
        assert case(objective, step=step)["trunk"].nll.sum() == pytest.approx(at(MuSchedule(), step))
    got = case(objective)
    p = np.exp(got["trunk_logp"][TARGET])
    want = np.histogram(p, bins=np.linspace(0, 1, 11))[0]
    assert [int(got["metrics"][f"expert/p_{10 * i:02d}"]) for i in range(10)] == want.tolist()
    assert int(got["metrics"]["sft/target_tokens"]) == TARGET.sum() == want.sum()
    published = chord_phi(reward=None)
    assert at(published.mu, 0) == at(published.mu, 10**6) == pytest.approx(0.1) and published.token_weight == "phi"
    assert case(published)["metrics"]["sft/nll"] == pytest.approx(-0.1 * got["trunk_logp"][TARGET].mean())


def test_an_expert_token_has_no_ratio(case, x64):
    """What stands in behavior_logp on the trunk reaches no loss."""
    for objective in (CHORD(reward=None), RLWithSFT(reward=None), LUFFY(reward=None), SRFT(reward=None)):
        got = case(objective)
        broken = jax.tree.map(lambda x: x, got["batch"])
        behavior = np.where(got["batch"].rollout < 0, -7.0, got["batch"].behavior_logp)
        again = token_loss(objective, jnp.asarray(got["flat"]), replace(broken, behavior_logp=behavior))[0]
        assert float(again) == got["loss"]


def test_dft_and_rl_with_sft(case, x64):
    got = case(DFT())
    logp = got["trunk_logp"][TARGET]
    assert got["loss"] == pytest.approx(-(np.exp(logp) * logp).mean(), rel=1e-10)
    slopes, order = on_trunk(got, TARGET)
    assert np.allclose(slopes, (-np.exp(logp) / TARGET.sum())[order], rtol=1e-10)
    both, rl, sft = case(RLWithSFT(reward=None, sft_coef=0.3)), case(GRPO()), case(SFT())
    assert both["loss"] == pytest.approx(rl["loss"] + 0.3 * sft["loss"], rel=1e-10)
    assert np.allclose(both["grad"], rl["grad"] + 0.3 * sft["grad"], rtol=1e-10, atol=1e-15)


def slow_luffy(got, objective, *, in_baseline, reward=REWARD, expert=1.0):
    """Advantages of rollouts [P] and demonstrations [M], and the loss, group by group."""
    policy = objective.policy
    own, theirs = np.zeros(6), np.zeros(3)
    for group, m in ((2, 0), (7, 1)):
        members = [p for p in range(6) if GROUP[p] == group]
        pool = [reward[p] for p in members] + ([expert] if in_baseline else [])
        mean, std = np.mean(pool), np.std(pool, ddof=policy.ddof)
        scale = std + policy.epsilon if policy.std == "group" and std > 0 else 1.0
        for p in members:
            own[p] = (reward[p] - mean) / scale
        theirs[m] = (expert - mean) / scale
    lengths = np.array(LENGTHS)
    tokens = lengths.sum() + TARGET[:2].sum()
    loss = 0.0
    for p in range(6):
        ratio = np.exp(got["logp"][p, : lengths[p]] - got["rollouts"].behavior_logp[p, : lengths[p]])
        clipped = np.clip(ratio, 1 - policy.clip_low, 1 + policy.clip_high)
        weight = 1 / tokens if policy.aggregation == "token_mean" else 1 / (8 * policy.length)
        loss -= weight * np.minimum(ratio * own[p], clipped * own[p]).sum()
    for m in range(2):
        p = np.exp(got["trunk_logp"][m][TARGET[m]])
        weight = 1 / tokens if policy.aggregation == "token_mean" else 1 / (8 * policy.length)
        gain = p if objective.gamma is None else p / (p + objective.gamma)
        loss -= weight * theirs[m] * gain.sum()
    return own, theirs, loss


@pytest.mark.parametrize("in_baseline", [True, False])
@pytest.mark.parametrize("policy", [None, GRPO(ddof=1), GRPO(std="none", clip_high=0.05)])
def test_luffy(policy, in_baseline, case, x64):
    settings = dict(reward=None, in_baseline=in_baseline) | ({"policy": policy} if policy else {})
    objective = LUFFY(**settings)
    got = case(objective)
    own, theirs, loss = slow_luffy(got, objective, in_baseline=in_baseline)
    assert np.allclose(got["branches"].advantage[:, 0], own) and np.allclose(got["trunk"].advantage[:, 0], theirs)
    batch = got["batch"]
    bonus = 0.001 * np.sum(np.where(batch.rollout >= 0, batch.pg_weight * batch.extra["entropy"], 0.0))
    assert got["loss"] == pytest.approx(loss - bonus, rel=1e-10) and bonus > 0  # only the rollouts' entropy counts
    assert got["metrics"]["pg/entropy"] == pytest.approx(bonus / 0.001) and objective.needs.entropy
    assert not got["trunk"].nll.any() and not got["trunk"].pg[2].any()  # a demonstration without a group has no weight
    slopes, order = on_trunk(got, TARGET & (np.arange(3) < 2)[:, None])
    assert (slopes <= 0).all() and slopes.any()  # an expert above the mean is made more likely


def test_whitening_counts_the_experts_tokens(case, x64):
    """Mean 0 and deviation 1 over the tokens of rollouts and experts together, of groups that are kept."""
    reward = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0])  # group 2 is all right, and so is its expert
    once = case(LUFFY(reward=None, policy=GRPO(filter_std=0.0)), reward=reward)
    got = case(LUFFY(reward=None, policy=GRPO(filter_std=0.0, whiten=True)), reward=reward)
    own, theirs = once["branches"].pg != 0, once["trunk"].pg != 0
    tokens = np.concatenate([once["branches"].advantage[own], once["trunk"].advantage[theirs]])
    white = np.concatenate([got["branches"].advantage[own], got["trunk"].advantage[theirs]])
    assert np.allclose(white, (tokens - tokens.mean()) / tokens.std(), rtol=1e-10)
    assert len(tokens) == 3 + 5 + 2 + 4 and not np.allclose(white, tokens)
    assert not got["branches"].advantage[~own].any() and not got["trunk"].advantage[~theirs].any()


def test_an_entropy_that_is_not_weighed_may_be_anything(case, x64):
    """The bonus is -0.001 sum pg_weight * H over the rollouts' tokens: so is its gradient."""
    objective = LUFFY(reward=None)
    got = case(objective)
    batch, own = got["batch"], (got["batch"].rollout >= 0) & (got["batch"].pg_weight != 0)
    loss = lambda entropy: token_loss(objective, jnp.asarray(got["flat"]), replace(batch, extra={"entropy": entropy}))[
        0
    ]
    value, slope = jax.value_and_grad(loss)(jnp.where(own, batch.extra["entropy"], jnp.nan))
    assert float(value) == pytest.approx(got["loss"], rel=1e-12)
    assert np.allclose(slope, np.where(own, -0.001 * batch.pg_weight, 0.0), rtol=1e-10, atol=0)
    assert loss(0 * batch.extra["entropy"]) > value  # more entropy is less loss


def test_the_expert_rescues_a_group_that_is_all_wrong(case, x64):
    """Included, one right of four has the golden-like sqrt(3); excluded, its advantage is its reward above them."""
    wrong = np.zeros(6)
    inside = case(LUFFY(reward=None, policy=GRPO(filter_std=0.0)), reward=wrong)
    assert np.allclose(inside["trunk"].advantage[0, 0], np.sqrt(3), atol=1e-4)
    assert inside["branches"].pg.any() and case(GRPO(filter_std=0.0), reward=wrong)["branches"].pg.any() == 0
    apart = case(LUFFY(reward=None, in_baseline=False, policy=GRPO()), reward=wrong)
    assert apart["trunk"].advantage[0, 0] == 1.0 and not apart["branches"].advantage.any()
    right = case(LUFFY(reward=None), reward=np.ones(6))
    assert not right["trunk"].advantage.any() and not right["grad"].any()  # nothing left to learn


def test_srft(case, x64):
    signs = np.where(REWARD > 0, 1.0, -1.0)
    objective = SRFT(reward=None)
    got = case(objective, reward=signs)
    _, _, rl = slow_luffy(got, objective, in_baseline=True, reward=signs)
    lengths = np.array(LENGTHS)
    behavior = np.concatenate([got["rollouts"].behavior_logp[p, :n] for p, n in enumerate(lengths)])
    entropy = -behavior.mean()
    new = [got["logp"][p, :n].sum() for p, n in enumerate(lengths)]
    own = sum((-0.1 * np.exp(entropy) if s > 0 else 1.0) * x for s, x in zip(signs, new, strict=True)) / lengths.sum()
    expert = 0.5 * np.exp(-entropy) * -got["trunk_logp"][TARGET].mean()
    assert got["loss"] == pytest.approx(rl + own + expert, rel=1e-10)


def test_reverse_curriculum_moves_earlier():
    ten = Demonstration(problem_id="p", problem="x", actions=tuple("abcdefghij"))
    objective = ReverseCurriculum(reward=None, steps=90, group_size=4)
    at = lambda step, o=objective, d=ten: o.branch_points(d, step)[0].after
    assert [at(s) for s in (0, 10, 45, 89, 90, 500)] == [9, 8, 4, 0, 0, 0]
    assert [at(s) for s in range(90)] == sorted((at(s) for s in range(90)), reverse=True)
    assert objective.branch_points(ten, 0)[0].form == "solve"
    assert at(0, d=Demonstration(problem_id="q", problem="x", actions=("a",))) == 0
    mixed = ReverseCurriculum(reward=None, mixed=True)
    assert {at(s, mixed) for s in range(200)} == set(range(10)) and at(3, mixed) == at(3, mixed)


@pytest.mark.parametrize("make, name", [
    (lambda: CHORD(reward=None, token_weight="p"), "token_weight"), (lambda: CHORD(reward=None, trunk=()), "trunk"),
    (lambda: LUFFY(reward=None, gamma=0.0), "gamma"), (lambda: LUFFY(reward=None, trunk=("action",)), "trunk"),
    (lambda: LUFFY(reward=None, policy=GRPO(reward_kl_coef=0.1)), "reward_kl_coef"),
    (lambda: LUFFY(reward=None, policy=GRPO(whiten=True), in_baseline=False), "whiten"),
    (lambda: LUFFY(reward=None, policy=GRPO(std="batch"), in_baseline=False), "std"),
    (lambda: RLWithSFT(reward=None, sft_coef=-1.0), "sft_coef"),
    (lambda: ReverseCurriculum(reward=None, steps=0), "steps"),
])  # fmt: skip
def test_bad_settings_name_themselves(make, name):
    with pytest.raises(ValueError, match=name):
        make()
