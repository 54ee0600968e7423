"""From demonstrations to weighed rollouts: rounds, groups, means, and what the host is asked."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxsrl.collect.collect import collect, whole_step
from jaxsrl.collect.complete import Sampler, complete
from jaxsrl.collect.device import make_draw
from jaxsrl.collect.grading import Reader, read
from jaxsrl.collect.learn import Learner, log_probs
from jaxsrl.collect.rollout_log import rollout_lines, shown_problems
from jaxsrl.collect.settings import Collect
from jaxsrl.data.chat import Template
from jaxsrl.data.compaction import plan
from jaxsrl.data.fill import fill, unfill
from jaxsrl.data.layout import join
from jaxsrl.data.problem_lines import demonstration_key, problem_lines
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import init_params
from jaxsrl.objectives.sft import SFT
from jaxsrl.rollout.sampler import make_sampler
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.types import Needs, Rewards
from tests.collect.by_hand import (
    BYTES,
    CAP,
    FLAT,
    PAIR,
    SPREAD,
    TABLE,
    Asked,
    demonstration,
    gather,
    in_order,
    kept,
    make_collector,
    metrics_of,
    run,
    shapes_for,
    srl,
    weights,
)

pytestmark = pytest.mark.fast


def planned(found):
    """Rollouts in the learner's rows."""
    made = plan(
        found.layout.tables, found.length, found.carries, found.trunk_used, shapes_for(1)
    )  # fmt: skip
    return {int(p) for part in made.batches for p in part.rollout.ravel()} - {-1}


def test_refill_ends_at_its_bound_and_says_it_is_short():
    found, asked = gather(FLAT, Collect(demonstrations=2, prompts=3, max_refills=2), PAIR)
    said = metrics_of(found)
    assert asked.taken == [(0, 2), (2, 2), (4, 2)] and found.position == 6
    assert said["collect/rounds"] == 3 and said["collect/short"] == 1
    assert said["collect/kept_share"] == 0.0 and said["collect/groups"] == 6
    assert not any(kept(found)) and not found.carries.any() and planned(found) == set()


def test_refill_goes_on_until_there_is_enough_and_no_further():
    write = lambda refill, sample: FLAT(refill, sample) if refill == 0 else SPREAD(refill, sample)
    found, asked = gather(write, Collect(demonstrations=2, prompts=2, max_refills=5), PAIR)
    said = metrics_of(found)
    assert len(asked.taken) == 2
    assert said["collect/rounds"] == 2 and said["collect/short"] == 0
    assert said["collect/kept_share"] == 0.5
    assert kept(found) == [False] * 4 + [True] * 4
    assert np.unique(in_order(found, found.layout.jobs.group)).size == 4
    assert planned(found) == set(found.layout.order[4:].tolist())


def test_a_fixed_number_of_rounds_asks_nothing_in_between():
    """Three rounds, weighed once, though the first alone has all that is wanted."""
    settings = Collect(demonstrations=2, prompts=2, refill_rounds=2)
    found, asked = gather(SPREAD, settings, PAIR)
    assert len(asked.taken) == 3 and asked.weighed == 1 and found.rounds == 3
    assert sum(kept(found)) == 4  # two groups of two
    _, asks = gather(SPREAD, replace(settings, refill_rounds=None), PAIR)
    assert len(asks.taken) == 1


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (3, [1, 3, 3]), (7, [1, 4, 4, 4, 7, 7, 7])])
def test_a_step_has_one_of_a_few_sizes(most, sizes):
    """Each is three programs; no step is larger than its rounds can be."""
    collector = make_collector(FLAT, Collect(demonstrations=2), PAIR, srl(), Asked())
    rounds, found = [collector.layouts(0, 0, refill, 0.0)[0] for refill in range(most)], []
    for taken in range(1, most + 1):
        whole = whole_step(join(rounds[:taken]), collector.shapes, most)
        found.append([len(x) / room for x, room in ((whole.groups.group, 16), (whole.trunk.target, 2))])
    assert found == [[size, size] for size in sizes]


def test_a_mean_over_some_rollouts_is_theirs_in_several_rounds_too():
    """One of four is well formed in the first round, all in the second."""
    write = lambda refill, sample: SPREAD(refill, sample) if refill else ""
    some = lambda refill, sample: "a" if (refill, sample) == (0, 1) else write(refill, sample)
    found, _ = gather(some, Collect(demonstrations=2, prompts=4, max_refills=1), PAIR)
    reward = in_order(found, found.weighed.reward).astype(float)
    formed = reward != -1.0
    assert formed.tolist() == [False, True] * 2 + [True] * 4
    by_all = np.mean([reward[:4][formed[:4]].mean(), reward[4:][formed[4:]].mean()])
    said = metrics_of(found)
    assert said["reward/similarity"] == pytest.approx(reward[formed].mean()) != pytest.approx(by_all)
    assert said["reward/malformed_share"] == pytest.approx(np.mean(~formed))
    assert said["completion/entropy"] == pytest.approx(0.5)  # nats a token


def test_the_reference_scores_every_rollout_where_it_stands():
    """Over a refill: a scorer that sees tokens alone gives each rollout's own tokens back, in their places."""
    write = lambda refill, sample: FLAT(refill, sample) if refill == 0 else SPREAD(refill, sample)
    objective = srl(reward_kl="token", reward_kl_coef=0.5)
    settings, shapes = Collect(demonstrations=2, prompts=2, max_refills=5), shapes_for(2)
    score = lambda params, batch: np.where(batch.pg_weight != 0, -batch.token / params, np.nan)
    filling = jax.jit(lambda *a: fill(*a[:4], shapes.tokens))
    learner = Learner(
        needs=Needs(), shapes=shapes, numbers={}, fill=filling, unfill=jax.jit(unfill, static_argnums=3), score=score,
        rate=None, gradient=None, train_step=None, still=None, whole=None,
    )  # fmt: skip
    scored = []

    def reference(layout, whole, completions):
        scored.append(np.asarray(log_probs(learner, 100.0, layout, whole, completions)))
        return scored[-1]

    plain = make_collector(write, settings, PAIR, objective, Asked())
    found = run(replace(plain, reference=reference))
    token, length = np.asarray(found.completions.token), found.length
    mask = np.arange(CAP) < length[:, None]
    np.testing.assert_allclose(scored[-1], np.where(mask, -token / 100, 0.0), rtol=1e-6)
    without, _ = gather(write, settings, PAIR)
    job = found.layout.order[4]
    first = mask[job].sum()
    k1 = -0.5 + token[job][:first] / 100
    want = weights(without, "advantage")[4][:first] - 0.5 * np.cumsum(k1[::-1])[::-1]
    np.testing.assert_allclose(weights(found, "advantage")[4][:first], want, rtol=1e-6)


def test_equal_prompts_with_different_targets_are_groups_of_their_own():
    """Trap: a baseline over prompt texts would mix rewards that were compared with different actions."""
    twins = [demonstration("1", "aa", "x", problem="same"), demonstration("2", "zz", "x", problem="same")]
    found, _ = gather(lambda refill, sample: "a" if sample else "aa", Collect(demonstrations=2), twins)
    group = in_order(found, found.layout.jobs.group)
    assert group[0] == group[1] != group[2] == group[3]
    np.testing.assert_allclose(in_order(found, found.weighed.reward), [1, 2 / 3, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(in_order(found, found.advantage), [1, -1, 0, 0], atol=1e-4)
    # and one demonstration that is drawn twice is two groups
    twice, _ = gather(SPREAD, Collect(demonstrations=2), twins[:1])
    group = in_order(twice, twice.layout.jobs.group)
    assert group[0] == group[1] != group[2] == group[3]


def test_demonstrations_without_branch_points():
    single, double = demonstration("s", "only"), demonstration("d", "aa", "b")
    found, _ = gather(SPREAD, Collect(demonstrations=2), [single])
    assert len(found.layout.order) == 0 and found.layout.sheets == () and planned(found) == set()
    assert metrics_of(found) == {"collect/prefilled_tokens": 0, "collect/sampled_tokens": 0}
    found, asked = gather(SPREAD, Collect(demonstrations=1, prompts=1, max_refills=3), [single, double])
    assert len(asked.taken) == 2 and in_order(found, found.layout.jobs.demonstration).tolist() == [1, 1]
    lines = [line for part in found.graded for line in rollout_lines(found, part, "srl", 1)]
    assert [line["problem"] for line in lines] == ["d", "d"]
    # SFT never samples, so it never refills
    found, asked = gather(SPREAD, Collect(demonstrations=2, prompts=3), PAIR, SFT())
    assert len(asked.taken) == 1 and found.trunk_used.tolist() == [True, True]


def test_lines_refer_to_the_texts_they_were_given():
    """Two demonstrations of one problem have two keys, and each text is written once a step, whatever branches off."""
    twins = [demonstration("p", "aa", "bb", "cc"), demonstration("p", "ab", "bb", "cc")]
    found, _ = gather(SPREAD, Collect(demonstrations=2), twins)
    lines = [line for part in found.graded for line in rollout_lines(found, part, "srl", 3)]
    shown = [line for part in found.graded for line in shown_problems(found, part, "srl", 3)]
    texts = {line["demonstration"]: line["actions"] for line in shown}
    assert [line["step"] for line in shown] == [3, 3] and sorted(texts.values()) == [list(d.actions) for d in twins]
    assert {line["text"] for line in shown} == {"p"} and len(lines) > len(shown)
    for line in lines:
        assert texts[line["demonstration"]][line["branch"]] == line["expert_action"]
    same = [demonstration_key(demonstration(*parts)) for parts in (("p", "a", "b"), ("p", "a", "b"), ("p", "ab"))]
    assert same[0] == same[1] != same[2]
    one, other = (replace(twins[0], observations=("", seen, "")) for seen in ("1 file", "2 files"))
    (first,), (second,) = problem_lines([one], {}), problem_lines([other], {})  # what was observed is told apart, too
    assert first["demonstration"] != second["demonstration"] and first["observations"] == ["", "1 file", ""]
    assert "observations" not in problem_lines([twins[0]], {})[0]


def test_a_reward_that_is_not_finite_names_the_rollout():
    def broken(rollouts, demonstrations):
        reward = np.where((rollouts.demonstration == 1) & (rollouts.sample == 1), np.nan, 0.5)
        nothing = (None,) * len(reward)
        return Rewards(reward=reward, action=nothing, expert=nothing, settings={})

    with pytest.raises(ValueError, match=r"q.*0.*1") as caught:
        gather(SPREAD, Collect(demonstrations=2), PAIR, srl(reward=broken))
    assert "nan" in str(caught.value)


def test_complete_without_any_branch_point_is_empty():
    sampler = Sampler(
        sample=None, tokenizer=BYTES, template=Template(), rows=2, row_tokens=32, slots=8, max_new_tokens=CAP
    )
    empty = complete(sampler, None, jax.random.key(0), 1.0, [], [])
    assert len(empty) == 0 and empty.token.shape == empty.mask.shape == (0, CAP)


@pytest.mark.parametrize("values", [{"demonstrations": 0}, {"prompts": 0}, {"max_refills": -1}, {"refill_rounds": -1}])
def test_wrong_settings_are_named(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))}=|{next(iter(values))} (and|must)"):
        Collect(**values)


def test_rewards_do_not_depend_on_what_is_graded_beside_them():
    objective = srl()
    found, _ = gather(SPREAD, Collect(demonstrations=3), PAIR)
    reader = Reader(reward=objective.reward, described=None, token_bytes=TABLE, own=None)
    texts = lambda job: read(reader, found.layout, job, np.asarray(found.completions.token), found.length)
    grade = lambda job: objective.reward(texts(job), found.layout.demonstrations).reward.tolist()
    together = grade(found.layout.order)
    alone = [reward for job in found.layout.order for reward in grade(np.array([job]))]
    assert together == alone and len(set(alone)) > 1


def test_branch_point_order_is_that_of_the_rollouts():
    found, _ = gather(SPREAD, Collect(demonstrations=1), [demonstration("long", "aa", "bb", "cc")])
    (graded,) = found.graded
    assert graded.rollouts.branch.tolist() == [0, 0, 1, 1]
    assert graded.rollouts.sample.tolist() == [0, 1, 0, 1]


def test_the_key_reaches_the_sampler():
    """With the same parameters, another key draws other tokens, and the same key the same ones."""
    model = ModelConfig(vocab=272, width=16, layers=1, heads=2, kv_heads=1, head_width=8, mlp_width=16)
    params = init_params(model, jax.random.key(0))
    sample = make_sampler(model, Sampling(max_new_tokens=CAP), BYTES.ends)
    plain = make_collector(SPREAD, Collect(demonstrations=2), PAIR, srl(), Asked())
    real = replace(plain, draw=jax.jit(make_draw(sample, None, TABLE, None)))
    drawn = [collect(real, 0, 0, lambda: params, jax.random.key(seed), 1.0) for seed in (0, 0, 1)]
    token = [in_order(found, found.completions.token) for found in drawn]
    logp = [in_order(found, found.completions.logp) for found in drawn]
    np.testing.assert_array_equal(token[0], token[1])
    np.testing.assert_array_equal(logp[0], logp[1])
    assert (token[0] != token[2]).any(axis=1).mean() > 0.9
