"""A collection in parts: each part weighs as if it alone had been collected."""

from dataclasses import dataclass, replace

import jax
import numpy as np
import pytest

from jaxsrl.collect.device import make_weigh_part
from jaxsrl.collect.learn import Learner, learn, parts_of
from jaxsrl.collect.settings import Collect
from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.numbers import as_arrays, numbers_of
from jaxsrl.objectives.rl_with_sft import RLWithSFT
from jaxsrl.types import TrainState
from tests.coin import coin
from tests.collect.by_hand import BYTES, PAIR, SPREAD, gather, in_order, shapes_for, srl, weights
from tests.sharing import train
from tests.test_collect import tiny, train_lines

pytestmark = pytest.mark.fast


def learner(objective, **settings):
    return Learner(
        needs=objective.needs, shapes=shapes_for(3), numbers=as_arrays(numbers_of(objective)), fill=None, unfill=None,
        score=None, rate=None, gradient=None, train_step=None, still=None, whole=None,
        weigh_part=jax.jit(make_weigh_part(objective, (BYTES.end,))), **settings,
    )  # fmt: skip


def test_a_part_weighs_as_if_it_alone_had_been_collected():
    objective = srl()
    found, _ = gather(SPREAD, Collect(demonstrations=3), PAIR, objective)
    parts = parts_of(learner(objective, minibatches=3), found)
    owner = in_order(found, found.layout.jobs.demonstration)
    seen = []
    for part in parts:
        (m,) = set(in_order(found, found.layout.jobs.demonstration)[in_order(found, part.carries)])
        alone, _ = gather(SPREAD, Collect(demonstrations=1), [PAIR[m]], objective)
        np.testing.assert_allclose(weights(part)[owner == m], weights(alone), atol=1e-6)
        assert np.all(weights(part)[owner != m] == 0)
        seen.append(m)
    assert sorted(seen) == [0, 1, 2]
    # The whole step's weights are of another scale: they are divided by all of its tokens.
    assert np.abs(weights(found)).sum() == pytest.approx(np.abs(weights(parts[0])).sum(), rel=1e-5)
    assert not np.allclose(weights(found)[owner == seen[0]], weights(parts[0])[owner == seen[0]])


def test_demonstrations_in_use_are_dealt_evenly_and_anew_each_time():
    objective = srl()
    found, _ = gather(SPREAD, Collect(demonstrations=3), PAIR, objective)
    parts = parts_of(learner(objective, minibatches=2, updates=6), found)
    owner = found.layout.jobs.demonstration
    dealt = [tuple(sorted(set(owner[part.carries[: len(owner)]]))) for part in parts]
    for first, second in zip(dealt[::2], dealt[1::2], strict=True):
        assert sorted(first + second) == [0, 1, 2] and abs(len(first) - len(second)) == 1
    assert len(set(dealt[::2])) > 1


def test_a_demonstration_goes_with_its_groups():
    objective = RLWithSFT(reward=coin, group_size=2)
    found, _ = gather(SPREAD, Collect(demonstrations=3), PAIR, objective)
    for part in parts_of(learner(objective, minibatches=3), found):
        trained = np.flatnonzero(part.trunk_used)
        assert len(trained) == 1 and np.flatnonzero(np.asarray(part.weighed.weights.trunk.nll).any(axis=1)) == trained


@dataclass(frozen=True)
class Told:
    """A batch that only remembers by which parameters it was scored."""

    behavior_logp: int | None = None


@pytest.mark.parametrize(("behavior", "scored"), [("recompute", 0), ("sampler", None)])
@pytest.mark.parametrize("minibatches", [1, 3])
def test_log_probs_are_recomputed_before_the_first_step(behavior, scored, minibatches):
    objective, seen = srl(), []

    def step(state, batches, numbers):
        seen.extend(batch.behavior_logp for batch in batches)
        return replace(state, params=state.params + 1), {}

    made = replace(
        learner(objective, minibatches=minibatches, updates=2, behavior=behavior), train_step=step,
        fill=lambda *_: Told(), score=lambda params, batch: params, whole=lambda params: params,
    )  # fmt: skip
    found, _ = gather(SPREAD, Collect(demonstrations=3), PAIR, objective)
    state, metrics, _ = learn(made, TrainState(step=0, skipped=0, params=0, opt_state=(), key=None), found, None)
    assert state.params == len(metrics) == 2 * minibatches and len(seen) >= len(metrics)
    assert set(seen) == {scored}


@pytest.mark.parametrize("wrong, said", [
    (dict(minibatches=0), "minibatches must be >= 1"), (dict(minibatches=3), "at most collect.demonstrations=2"),
    (dict(minibatches=2, compact=False), "set compact=true"), (dict(minibatches=2, steps=6), "times minibatches=2"),
])  # fmt: skip
def test_what_cannot_be_dealt_is_refused(tmp_path, wrong, said):
    (stage,) = tiny(tmp_path, ("rlvr",)).stages
    with pytest.raises(ValueError, match=said):
        replace(stage, updates_per_rollout=2, **wrong)


@pytest.mark.parametrize("minibatches", [1, 2])
def test_a_run_takes_a_step_for_each(tmp_path, minibatches):
    config = tiny(tmp_path, ("rlvr",), steps=8)
    stage = config.stages[0]
    every = replace(stage.objective, policy=GRPO())  # keeps every group, so that every step learns
    stage = replace(stage, objective=every, updates_per_rollout=2, minibatches=minibatches)
    folder = train(replace(config, stages=(stage,)))
    lines = train_lines(folder)
    assert [x["step"] for x in lines] == list(range(1, 9))
    collected = [x["step"] for x in lines if "collect/groups" in x]
    assert collected == list(range(1, 9, 2 * minibatches))
    moved = [x for x in lines if x["loss"] is not None]
    assert len(moved) == 8 and all(x["pg/weight"] == pytest.approx(1, abs=1e-5) for x in moved)
