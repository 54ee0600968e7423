"""Rewards of the device, what does not fit its rooms, and processes that each read rollouts of their own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from jaxsrl.collect.device import UNFIT
from jaxsrl.collect.rollout_log import rollout_lines, told
from jaxsrl.collect.settings import Collect
from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.types import Rooms
from tests.collect.by_hand import (
    PAIR,
    SPREAD,
    Asked,
    gather,
    in_order,
    kept,
    make_collector,
    metrics_of,
    run,
    srl,
    weights,
)

pytestmark = pytest.mark.fast
DEVICE, HOST = (srl(ActionSimilarity(autojunk=False, think="optional", where=where)) for where in ("device", "host"))
SMALL = Rooms(bytes=16, code_points=2)  # one of two completions of SPREAD has three letters
SETTINGS = Collect(demonstrations=4)


def lines(found, collector=None):
    parts = found.graded
    if found.scores is not None:
        parts = [told(collector.reader, found, np.asarray(found.completions.token), _host(found.scores))]
    return sorted(
        (line for part in parts for line in rollout_lines(found, part, "srl", 1)),
        key=lambda line: (line["group"], line["sample"]),
    )  # fmt: skip


def _host(scores):
    return replace(scores, **{name: np.asarray(value) for name, value in vars(scores).items()})


def without(settings_of, names):
    return [{k: v for k, v in line.items() if k not in names} for line in settings_of]


def test_what_fits_is_weighed_once_and_nothing_is_read():
    asked = Asked()
    collector = make_collector(SPREAD, SETTINGS, PAIR, DEVICE, asked)
    found = run(collector)
    assert asked.weighed == 1 and found.graded == () and not (found.flags & UNFIT).any()
    said = metrics_of(found)
    host, _ = gather(SPREAD, SETTINGS, PAIR, HOST)
    assert said.pop("reward/unfit_share") == 0 and said == pytest.approx(metrics_of(host))
    np.testing.assert_array_equal(weights(found, "advantage"), weights(host, "advantage"))


@pytest.mark.parametrize("prompts", [None, 3])
def test_what_does_not_fit_is_scored_on_the_host(prompts):
    """One completion of each group. Weights, means and log lines are those of a host that scores all."""
    settings = replace(SETTINGS, prompts=prompts)
    asked = Asked()
    collector = make_collector(SPREAD, settings, PAIR, DEVICE, asked, rooms=SMALL)
    found = run(collector)
    assert asked.weighed == 2
    unfit = in_order(found, (found.flags & UNFIT) != 0)
    assert unfit.tolist() == [True, False] * 4
    assert [graded.job.tolist() for graded in found.graded] == [found.layout.order[::2].tolist()]
    host, _ = gather(SPREAD, settings, PAIR, HOST)
    for name in ("pg", "advantage"):
        np.testing.assert_array_equal(weights(found, name), weights(host, name))
    assert kept(found) == kept(host)
    np.testing.assert_array_equal(in_order(found, found.weighed.reward), in_order(host, host.weighed.reward))
    said = metrics_of(found, collector)
    assert said.pop("reward/unfit_share") == 0.5 and said == pytest.approx(metrics_of(host))
    other = ("reward_settings",)
    assert without(lines(found, collector), other) == without(lines(host), other)
    assert {line["reward_settings"]["where"] for line in lines(found, collector)} == {"device"}
    # The control: left as the device has them, they would be malformed and weigh otherwise.
    assert np.asarray(found.scores.reward)[found.layout.order[::2]].tolist() == [-1.0] * 4
    left = collector.weigh(
        found.completions, found.whole.groups, found.whole.trunk.target, found.scores.reward, found.scores,
        found.whole.expert_length, np.int32(0), collector.numbers, None,
    )  # fmt: skip
    assert not np.array_equal(left.weights.rollouts.advantage, found.weighed.weights.rollouts.advantage)


class Meeting:
    """What processes say to one another, for threads in their place. Only arrays of float64 pass."""

    def __init__(self, count: int):
        self.barrier, self.said, self.sizes = threading.Barrier(count), [None] * count, []

    def from_all(self, index: int):
        def from_all(values):
            assert isinstance(values, np.ndarray) and values.dtype == np.float64
            self.said[index] = values
            self.barrier.wait(60)
            everything = np.stack(self.said)
            self.barrier.wait(60)
            if index == 0:
                self.sizes.append(values.shape)
            return everything

        return from_all


def as_processes(count, objective, **how):
    """What each of several processes collects, and what each graded; jobs go to them as rows of the sheets do."""
    meeting, seen = Meeting(count), [[] for _ in range(count)]

    def one(index):
        own = np.arange(16) // 8 % count == index if count == 2 else np.arange(16) % count == index
        collector = make_collector(
            SPREAD, SETTINGS, PAIR, objective, Asked(), own=own, from_all=meeting.from_all(index), **how
        )

        def reward(rollouts, demonstrations):
            seen[index].append(len(rollouts))
            return objective.reward(rollouts, demonstrations)

        collector = replace(collector, reader=replace(collector.reader, reward=reward))
        found = run(collector)
        return found, metrics_of(found, collector), lines(found, collector)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count))), seen


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("objective, rooms", [(HOST, SMALL), (DEVICE, SMALL)], ids=["host", "unfit"])
def test_processes_read_rollouts_of_their_own(count, objective, rooms):
    """Some may have none. Together they say what one says, and every rollout is in one log."""
    collector = make_collector(SPREAD, SETTINGS, PAIR, objective, Asked(), rooms=rooms)
    alone = run(collector)
    together, seen = as_processes(count, objective, rooms=rooms)
    if objective is HOST:
        assert sum(map(sum, seen)) == 8 and max(map(sum, seen)) < 8
    for found, said, _ in together:
        np.testing.assert_array_equal(found.weighed.reward, alone.weighed.reward)
        np.testing.assert_array_equal(weights(found), weights(alone))
        np.testing.assert_array_equal(weights(found, "advantage"), weights(alone, "advantage"))
        assert said == pytest.approx(metrics_of(alone, collector))
        assert list(said) == list(metrics_of(alone, collector))
    graded = [job for found, *_ in together for part in found.graded for job in part.job.tolist()]
    assert sorted(graded) == sorted(job for part in alone.graded for job in part.job.tolist())
    written = sorted((line for *_, part in together for line in part), key=lambda line: (line["group"], line["sample"]))
    assert written == lines(alone, collector)
