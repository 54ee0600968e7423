"""What every objective promises: one program for all numbers, no callback, and nothing from what is not there."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jaxsrl.objectives import presets
from jaxsrl.objectives.chord import CHORD, chord_phi
from jaxsrl.objectives.cispo import CISPO
from jaxsrl.objectives.dft import DFT
from jaxsrl.objectives.dpo import DPO
from jaxsrl.objectives.gmpo import GMPO
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.gspo import GSPO
from jaxsrl.objectives.kto import KTO
from jaxsrl.objectives.luffy import LUFFY
from jaxsrl.objectives.numbers import numbers_of, static_of
from jaxsrl.objectives.pivot import PivotRL
from jaxsrl.objectives.reverse import ReverseCurriculum
from jaxsrl.objectives.rl_with_sft import RLWithSFT
from jaxsrl.objectives.rlvr import RLVR
from jaxsrl.objectives.sft import SFT
from jaxsrl.objectives.srft import SRFT
from jaxsrl.objectives.srl import SRL
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.types import Collected, Groups, Needs, Objective
from tests.objectives.ragged import collected, numbers, rollouts_of

GROUP, LENGTHS, OWNER = [7, 2, 7, 7, 2, 2, 5, 5], [3, 1, 5, 2, 4, 4, 1, 2], [1, 0, 1, 1, 0, 0, 2, 2]
REWARD = np.array([0.0, 1.0, 1.0, 0.25, 0.0, 0.5, 0.3, 0.1 + 0.2])  # the last group is alike but for rounding
TARGET = np.arange(4) < np.array([[2], [4], [3]])
CLOSE = ([0.979, 0.999], 0.01)  # the deviation is the threshold, and small beside the rewards
POLICIES = {
    "gspo": GSPO(), "gmpo": GMPO(), "cispo": CISPO(), "rloo": presets.rloo(reward_kl_coef=0.1),
    "rpp": presets.reinforce_plus_plus(reward_kl_coef=0.1), "lite": presets.lite_ppo(), "nemo": presets.nemo_rl(),
    "dr": presets.dr_grpo(16), "verl": presets.verl(), "areal": presets.areal(), "cut": GRPO(mask_truncated=True),
    "by group": GRPO(aggregation="group_mean"), "kl": GRPO(kl_coef=0.1, kl="k2", filter_std=0.1),
}  # fmt: skip
OBJECTIVES: dict[str, Objective] = {
    "sft": SFT(), "dft": DFT(), "srl": SRL(reward=None), "rlvr": RLVR(reward=None), "pivot": PivotRL(reward=None),
    "r3": ReverseCurriculum(reward=None), "chord": CHORD(reward=None), "phi": chord_phi(reward=None),
    "sft term": RLWithSFT(reward=None), "luffy": LUFFY(reward=None), "srft": SRFT(reward=None),
    "luffy apart": LUFFY(reward=None, in_baseline=False, policy=GRPO(filter_std=0.1, mask_truncated=True)),
    "luffy white": LUFFY(reward=None, policy=GRPO(whiten=True)), "dpo": DPO(reward=None), "kto": KTO(reward=None),
} | {name: RLVR(reward=None, policy=policy) for name, policy in POLICIES.items()}  # fmt: skip
ALL = pytest.mark.parametrize("name", OBJECTIVES)


def made() -> Collected:
    """Three ragged groups of three demonstrations, in the default float type."""
    rng = np.random.default_rng(0)
    rollouts = rollouts_of(
        GROUP, LENGTHS, demonstration=OWNER, logp=-rng.uniform(0.1, 2, (8, 5)), truncated=np.arange(8) == 2
    )
    return collected(replace(rollouts, ref_logp=-rng.uniform(0.1, 2, (8, 5))), TARGET, step=3)


@pytest.fixture
def material(x64) -> Collected:
    return made()


def weighed(objective, material, reward=REWARD):
    return objective.weigh(material, jnp.asarray(reward, jnp.result_type(float)), numbers(objective))


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jaxprs_in_params(equation.params):
            yield from primitives(inner)


def callbacks(function, *args):
    return [name for name in primitives(jax.make_jaxpr(jax.jit(function))(*args).jaxpr) if "callback" in name]


@ALL
def test_weights_are_made_without_the_host(name, material):
    objective, reward = OBJECTIVES[name], jnp.asarray(REWARD)
    assert not callbacks(objective.weigh, material, reward, numbers(objective))
    assert callbacks(lambda x: jax.pure_callback(np.sum, jax.ShapeDtypeStruct((), x.dtype), x), reward)  # it sees one


def with_numbers(settings, change):
    """The same settings with every number changed."""
    own = numbers_of(settings)
    new = {k: change(v) if isinstance(v, float) else with_numbers(getattr(settings, k), change) for k, v in own.items()}
    return replace(settings, **new)


def alike(got, want, rtol=1e-10, atol=1e-13):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), got, want)


@pytest.mark.parametrize("name", [name for name, objective in OBJECTIVES.items() if numbers_of(objective)])
def test_a_population_of_numbers_is_one_program(name, material, make_batch):
    """Weights and loss of each member are what an objective makes that has these numbers as its settings."""
    objective, rng = OBJECTIVES[name], np.random.default_rng(1)
    other = with_numbers(objective, lambda x: 0.9 * x)
    draw = lambda *shape: rng.uniform(0.1, 1.0, (2, 6))
    batch = make_batch(
        np.float64, pg_weight=draw(), nll_weight=draw(), advantage=draw() - 0.5, behavior_logp=-draw(),
        ref_logp=-draw(), rollout=[[0, 0, 1, 1, -1, -1], [2, 2, 2, 3, -1, -1]], group=[[0] * 4 + [-1] * 2] * 2,
    )  # fmt: skip
    batch = replace(batch, extra={"entropy": draw(), "z0": draw(), "label": np.sign(draw() - 0.5)})
    far = rng.permutation(np.linspace(-1.0, 1.0, 12)).reshape(2, 6)  # on both sides of every clip
    logp, reward = jnp.asarray(batch.behavior_logp + far), jnp.asarray(REWARD)
    both = lambda objective, n: (objective.weigh(material, reward, n), objective.token_loss(logp, batch, n))
    many = jax.tree.map(lambda *x: jnp.stack(x), numbers(objective), numbers(other))
    assert static_of(objective) == static_of(other)
    got = jax.jit(jax.vmap(lambda n: both(objective, n)))(many)
    for m, alone in enumerate((objective, other)):
        alike(jax.tree.map(lambda x, m=m: x[m], got), both(alone, numbers(alone)))


def test_a_number_that_is_read_from_the_settings_would_show(material):
    """The control of the test above."""

    class Deaf(RLWithSFT):
        def weigh(self, collected, reward, numbers):
            weights = super().weigh(collected, reward, numbers)
            return replace(weights, trunk=replace(weights.trunk, nll=self.sft_coef * weights.trunk.pg + self.sft_coef))

    deaf = Deaf(reward=None)
    other = with_numbers(deaf, lambda x: 0.9 * x)
    got = deaf.weigh(material, jnp.asarray(REWARD), numbers(other))
    assert not np.allclose(got.trunk.nll, weighed(other, material).trunk.nll)


@ALL
def test_what_is_not_there_changes_nothing(name, material):
    """Empty jobs, groups, columns, demonstrations and tokens between the others, and garbage in all of them."""
    objective, rng = OBJECTIVES[name], np.random.default_rng(2)
    want = weighed(objective, material)
    job, demonstration = rng.permutation(len(REWARD) + 4), rng.permutation(len(TARGET) + 2)
    reward = np.array([np.nan, np.inf, 1e30, -np.inf] * 3)
    reward[job[: len(REWARD)]] = REWARD
    got = weighed(objective, scattered(material, job, demonstration, rng), reward)
    for found, narrow, place in ((got.rollouts, want.rollouts, job), (got.trunk, want.trunk, demonstration)):
        for field in fields(narrow):
            expected = np.zeros(getattr(found, field.name).shape)
            value = np.asarray(getattr(narrow, field.name))
            expected[place[: len(value)], : value.shape[1]] = value
            alike(np.asarray(getattr(found, field.name)), expected)
    assert got.extra.keys() == want.extra.keys()
    for field, value in want.extra.items():
        alike(np.asarray(got.extra[field])[job[: len(value)]], np.asarray(value))
        assert not np.asarray(got.extra[field])[job[len(value) :]].any()


def scattered(material: Collected, job, demonstration, rng) -> Collected:
    """Row p of the material is row job[p] of the result, demonstration m is demonstration[m]; four jobs, two groups,
    a column, two demonstrations and two tokens more, of which nothing is to be read."""
    g, (count, size) = material.groups, material.groups.member.shape
    place = rng.permutation(count + 2)  # of groups

    def put(old, rows, where, garbage, wide=0):
        shape = (rows, *(n + wide for n in np.shape(old)[1:]))
        out = np.broadcast_to(garbage, shape).astype(np.asarray(old).dtype).copy()
        out[(where[: len(old)], *(slice(n) for n in np.shape(old)[1:]))] = old
        return out

    jobs = len(job)
    some = lambda high, *shape: rng.integers(0, high, shape)
    groups = Groups(
        member=put(np.where(g.present, job[np.asarray(g.member)], some(jobs, count, size)), count + 2, place,
                   some(jobs, count + 2, size + 1), 1),
        present=put(g.present, count + 2, place, False, 1),
        demonstration=put(demonstration[np.asarray(g.demonstration)], count + 2, place, some(5, count + 2)),
        hash=put(g.hash, count + 2, place, 7), group=put(place[np.asarray(g.group)], jobs, job, some(count + 2, jobs)),
        column=put(g.column, jobs, job, some(size + 1, jobs)), active=put(g.active, jobs, job, False),
    )  # fmt: skip
    mask = np.asarray(material.mask)
    dirty = lambda x: put(np.where(mask, x, np.nan), jobs, job, np.nan, 2)
    return jax.tree.map(jnp.asarray, replace(
        material, groups=groups, mask=put(mask, jobs, job, False, 2), behavior_logp=dirty(material.behavior_logp),
        ref_logp=dirty(material.ref_logp), truncated=put(material.truncated, jobs, job, True),
        target=put(material.target, len(demonstration), demonstration, False, 2),
    ))  # fmt: skip


@ALL
def test_a_step_without_rollouts_is_finite(name, material):
    """Every job of it is empty."""
    none = lambda x: jnp.zeros_like(x)
    groups = replace(material.groups, present=none(material.groups.present), active=none(material.groups.active))
    got = weighed(OBJECTIVES[name], replace(material, groups=groups, mask=none(material.mask)))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(got))
    assert not any(np.any(x) for x in jax.tree.leaves((got.rollouts, got.trunk.pg, got.extra)))


@ALL
def test_float32_weighs_as_float64_does(name):
    """To 1e-5, and the same tokens: a group whose rewards differ by rounding is dropped by both."""
    found = {}
    for wide in (False, True):
        with jax.enable_x64(wide):
            found[wide] = jax.tree.map(np.asarray, weighed(OBJECTIVES[name], made()))
    assert {x.dtype.name for x in jax.tree.leaves(found[False])} == {"float32"}
    assert {x.dtype.name for x in jax.tree.leaves(found[True])} == {"float64"}
    alike(found[False], found[True], rtol=1e-5, atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a != 0, b != 0), found[False], found[True])


@pytest.mark.parametrize("reward, threshold", [
    ([0.1 + 0.2, 0.3], 0.0), ([1.0, 1.05], 0.025), ([0.4, 0.5], 0.05), CLOSE,
])  # fmt: skip
def test_both_precisions_keep_the_same_groups(reward, threshold, precision):
    """Rewards that are equal, or a deviation that is the threshold, but for rounding: such a group is dropped."""
    dtype = jnp.result_type(float)
    kept = lambda reward: GRPO(filter_std=0.0).kept(
        jnp.asarray([reward], dtype), jnp.ones((1, len(reward)), bool), {"filter_std": jnp.asarray(threshold, dtype)}
    )
    assert not kept(reward)[0] and kept([*reward[:-1], reward[-1] + 1e-4])[0]


def test_bare_comparisons_would_follow_the_dtype():
    """The controls of the test above."""
    deviation = lambda reward, dtype: np.std(np.asarray(reward, dtype))
    both = lambda rule: (rule(np.float32), rule(np.float64))
    assert both(lambda d: np.ptp(np.asarray([0.1 + 0.2, 0.3], d)) == 0) == (True, False)
    assert len(set(both(lambda d: deviation([1.0, 1.05], d) > d(0.025)))) == 2
    own = lambda std, threshold: (
        std - threshold > 8 * np.finfo(std.dtype).eps * std
    )  # of its own size, not the rewards'
    assert len(set(both(lambda d: own(deviation(CLOSE[0], d), d(CLOSE[1]))))) == 2


@ALL
def test_objectives_are_values(name):
    objective = OBJECTIVES[name]
    again = replace(objective)
    assert again is not objective and again == objective and hash(again) == hash(objective)
    assert static_of(again) == static_of(objective) and hash(static_of(again)) == hash(static_of(objective))
    assert sum(static_of(objective) == static_of(other) for other in OBJECTIVES.values()) == 1


def test_what_is_static_and_what_is_a_number():
    narrow, wide = (SRL(reward=None, policy=GRPO(clip_high=c)) for c in (0.2, 1))
    assert static_of(narrow) == static_of(wide) and narrow != wide
    assert numbers_of(wide)["policy"]["clip_high"] == 1.0 and isinstance(numbers_of(wide)["policy"]["clip_high"], float)
    assert numbers_of(GRPO(dual_clip=3))["dual_clip"] == 3.0 and "dual_clip" not in numbers_of(GRPO())
    assert static_of(GRPO(dual_clip=3)) != static_of(GRPO())
    assert static_of(narrow) != static_of(replace(narrow, group_size=4))
    on, off = (RLVR(reward=None, policy=GRPO(kl_coef=c)) for c in (0.1, 0.0))
    assert static_of(on) != static_of(off) and static_of(on) == static_of(RLVR(reward=None, policy=GRPO(kl_coef=0.2)))
    assert static_of(RLVR(reward=None, policy=GSPO())) != static_of(RLVR(reward=None, policy=GMPO()))


@pytest.mark.parametrize("name", [name for name, objective in OBJECTIVES.items() if "reward" in vars(objective)])
def test_a_grader_is_static(name):
    plain, stern = (replace(OBJECTIVES[name], reward=ActionSimilarity(malformed=m)) for m in (-1.0, -0.5))
    assert numbers_of(plain) == numbers_of(OBJECTIVES[name]) and "malformed" not in str(numbers_of(plain))
    assert static_of(plain) != static_of(stern)


def test_needs_are_declared():
    kl, in_reward = (RLVR(reward=None, policy=GRPO(**{name: 0.1})) for name in ("kl_coef", "reward_kl_coef"))
    want = {
        SFT(): Needs(), SRL(reward=None): Needs(), kl: Needs(reference=True), in_reward: Needs(reference_to_weigh=True),
        DPO(reward=None): Needs(reference=True, whole_groups=True), PivotRL(reward=None): Needs(profile=True),
        KTO(reward=None): Needs(reference=True, reference_to_weigh=True), LUFFY(reward=None): Needs(entropy=True),
        LUFFY(reward=None, entropy_coef=0.0): Needs(), SRFT(reward=None): Needs(),
    }  # fmt: skip
    assert {objective: objective.needs for objective in want} == want
