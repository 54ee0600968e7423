"""The reward on the device is the host's to the last bit."""

from dataclasses import replace
from difflib import SequenceMatcher

import jax
import numpy as np
import pytest

from jaxsrl.data.chat import Template
from jaxsrl.data.token_bytes import token_bytes
from jaxsrl.rewards.format import parse
from jaxsrl.rewards.similarity import ActionSimilarity, host_ratio
from jaxsrl.types import DeviceReward, Mean, Rooms
from tests.rewards.device_cases import (
    ACTIONS,
    BYTES,
    COMPLETIONS,
    GROUPS,
    JOBS,
    OPEN,
    SMALL,
    both,
    experts,
    jobs,
    rollouts,
    scored,
    those,
    thought,
)  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [{}, {"metric": "exact", "malformed": -0.3}, {"autojunk": False, "malformed": 0.0, "think": "optional"}],
)
def test_host_and_device_give_the_same_grades(settings):
    rewards, scores = both(rollouts(BYTES, COMPLETIONS), ACTIONS, **settings)
    assert scores.fits.all() and isinstance(ActionSimilarity(), DeviceReward)
    if not settings:
        assert rewards.reward[[0, 2, 3, 4, 8, 9]].tolist() == [1, -1, -1, -1, 0.25, 1]
        assert rewards.action[7] == "∑ \N{REPLACEMENT CHARACTER}"


def test_the_integers_give_difflibs_ratio_to_the_last_bit():
    """Not the float32 reward, which a log must not show."""
    found = rollouts(BYTES, COMPLETIONS)
    scores = those(scored(ActionSimilarity(), found, ACTIONS), len(found))
    rows = np.flatnonzero(scores.formed)
    pairs = [(parse(found.text[i]).action, ACTIONS[i].strip()) for i in rows]
    want = [SequenceMatcher(None, a, b).ratio() for a, b in pairs]
    assert host_ratio(scores.matched, scores.total)[rows].tolist() == want and len(want) == 9
    assert scores.reward[rows].astype(float).tolist() != want
    assert host_ratio([0], [0]).tolist() == [SequenceMatcher(None, "", "").ratio()] == [1]


def test_in_float64_the_reward_itself_is_difflibs():
    found = rollouts(BYTES, COMPLETIONS)
    want = ActionSimilarity(malformed=-0.3)(found, experts(ACTIONS)).reward
    with jax.enable_x64(True):
        scores = scored(ActionSimilarity(malformed=-0.3), found, ACTIONS)
        means = ActionSimilarity().means(scores, jobs(found, ACTIONS)[2][jobs(found, ACTIONS)[3]], np.ones(JOBS, bool))
    assert scores.reward.dtype == np.float64 and scores.reward[: len(found)].tolist() == want.tolist()
    assert scores.matched.dtype == scores.total.dtype == np.int32
    assert means["reward/mean"].total.dtype == np.float64


def test_what_the_template_gave_is_part_of_the_text():
    cut = [ids[1:] if ids[0] == OPEN[0] else ids for ids in COMPLETIONS]
    table = token_bytes(BYTES, Template(prefill_think=True))
    given, _ = both(rollouts(BYTES, cut, table), ACTIONS, table)
    whole, _ = both(rollouts(BYTES, COMPLETIONS), ACTIONS)
    assert given.reward[[0, 1, 5, 6]].tolist() == whole.reward[[0, 1, 5, 6]].tolist()


def test_metrics_of_the_device_are_the_hosts_and_empty_jobs_count_nowhere():
    reward, found = ActionSimilarity(), rollouts(BYTES, COMPLETIONS)
    want = reward(found, experts(ACTIONS)).means | {"reward/unfit_share": Mean(0, len(found))}
    _, _, size, group = jobs(found, ACTIONS)
    scores = scored(reward, found, ACTIONS)

    def means(counted):
        return jax.device_get(jax.jit(reward.means)(scores, size[group], counted))

    got = means(np.arange(JOBS) < len(found))
    assert {name: float(mean.over) for name, mean in got.items()} == {name: mean.over for name, mean in want.items()}
    np.testing.assert_allclose([got[name].total for name in want], [mean.total for mean in want.values()], rtol=1e-6)
    wrong, none = means(np.ones(JOBS, bool)), means(np.zeros(JOBS, bool))
    assert wrong["reward/mean"].total == got["reward/mean"].total - (JOBS - len(found))
    assert not np.array([*none.values()]).any()


def test_what_does_not_fit_is_malformed_and_counted_until_the_host_scores_it():
    long = "y" * 65
    completions = [thought("x"), thought(long), thought("x" * 120), thought("y" * 64), [*BYTES.encode("z" * 120), 256]]
    found, actions = rollouts(BYTES, completions), ["x", "y", "x" * 9, long, long]
    reward, count = ActionSimilarity(autojunk=False, where="device"), len(found)
    rewards, scores = both(found, actions, rooms=SMALL, autojunk=False)
    # A long action, a long completion, a long expert. What is malformed needs no expert.
    assert np.flatnonzero(~scores.fits).tolist() == [1, 2, 3] and rewards.metrics["reward/unfit_share"] == 3 / 5
    assert scores.reward[:count].tolist() == [1, -1, -1, -1, -1] and not scores.formed[1:].any()
    assert rewards.reward.tolist() == [1, 2 / 66, 18 / 129, 128 / 129, -1]
    left = reward.rewards(those(scores, count), found, experts(actions), unfit_on_host=False)
    assert left.reward.tolist() == [1, -1, -1, -1, -1] and left.action == ("x", None, None, None, None)

    _, _, size, group = jobs(found, actions, SMALL)
    counted = np.arange(JOBS) < count
    means = lambda counted: {
        name: tuple(map(float, m)) for name, m in reward.means(scores, size[group], counted).items()
    }
    assert {n: t / o for n, (t, o) in means(counted).items() if o} == left.metrics
    # What fits, and the host's of the others, add up to all.
    part, rest = means(counted & scores.fits), reward(_rows(found, [1, 2, 3]), experts(actions)).means
    rest = rest | {"reward/unfit_share": Mean(3, 3)}
    for name, mean in rewards.means.items():
        other = rest.get(name, Mean(0, 0))
        np.testing.assert_allclose((part[name][0] + other.total, part[name][1] + other.over), mean, rtol=1e-6)


def _rows(found, rows):
    pick = lambda x: x if x is None else tuple(x[i] for i in rows) if isinstance(x, tuple) else x[rows]
    return replace(found, **{name: pick(value) for name, value in vars(found).items()})


def test_only_what_needs_room_does_not_fit():
    """And what has an id outside the table. Without an end it is malformed whatever it says."""
    completions = [thought("x" * 50), thought("x" * 70), thought("x"), thought("x" * 70)[:-1], thought("x")]
    found = rollouts(BYTES, completions)
    unknown = [BYTES.vocab_size, *thought("x")]
    found.token[4, : len(unknown)], found.mask[4, : len(unknown)] = unknown, True
    for bytes_, want in ((64, [False, False, True, True, False]), (128, [True, False, True, True, False])):
        run = scored(ActionSimilarity(autojunk=False), found, ["y"] * 5, rooms=Rooms(bytes=bytes_, code_points=64))
        assert run.fits[:5].tolist() == want
        assert run.reward[:5].tolist() == [0 if want[0] else -1, -1, 0, -1, -1]


def test_wrong_settings_and_rollouts_raise():
    for wrong in ({"where": "gpu"}, {"where": "device", "unit": "word"}, {"where": "device", "backend": "host"}):
        with pytest.raises(ValueError, match="where"):
            ActionSimilarity(**wrong)
    found = rollouts(BYTES, [thought("x")])
    with pytest.raises(ValueError, match="unit='word'"):
        scored(ActionSimilarity(unit="word"), found, ["x"])
    reward = ActionSimilarity(where="device", autojunk=False)
    scores = those(scored(reward, found, ["x"]), 1)
    with pytest.raises(ValueError, match=r"rollout 0: `text`"):
        reward.rewards(scores, replace(found, text=("x",)), experts("x"))


def test_rooms_above_the_limit_or_below_what_is_given_raise():
    table = token_bytes(BYTES, Template(prefill_think=True))
    found = rollouts(BYTES, [thought("x")], table)
    for size, points, width, say in (
        (8192, 4097, 64, "4096"), (8192, 64, 4097, "4096"), (8192, 64, 0, "padded to 0"), (14, 8, 64, "rooms.bytes"),
    ):  # fmt: skip
        completions, _, length, group = jobs(found, ["x"])
        with pytest.raises(ValueError, match=say):
            ActionSimilarity().score(
                completions, np.zeros((GROUPS, width), np.int32), length, group, table,
                Rooms(bytes=size, code_points=points),
            )  # fmt: skip


@pytest.mark.parametrize(
    ("platform", "settings", "want"),
    [("cpu", {}, False), ("gpu", {}, True), ("tpu", {}, True), ("gpu", {"unit": "word"}, False),
     ("gpu", {"backend": "host"}, False), ("gpu", {"where": "host"}, False), ("cpu", {"where": "device"}, True)],
)  # fmt: skip
def test_the_platform_chooses_where(monkeypatch, platform, settings, want):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert ActionSimilarity(**settings).on_device() is want


def test_rollouts_of_one_group_share_their_experts_row():
    texts = ["∑ = 7", "x", "∑ = 7", "∑ = 7"]
    found = rollouts(BYTES, [thought("∑ = 8")] * 4)
    assert jobs(found, texts)[3][:4].tolist() == [0, 1, 0, 0]
    rewards, _ = both(found, texts, autojunk=False)
    assert rewards.reward.tolist() == [0.8, 0, 0.8, 0.8]
