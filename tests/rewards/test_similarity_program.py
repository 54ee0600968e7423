"""The reward as a part of a larger program: compiled once, over a population, and without the host."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.rewards.similarity import ActionSimilarity
from jaxsrl.rewards.similarity_device import _in_blocks, read_action, step_rewards
from tests.rewards.device_cases import ACTIONS, BYTES, COMPLETIONS, JOBS, ROOMS, TABLE, jobs, rollouts, scored, thought


def leaves_the_device(text):
    return any(word in text for word in ("callback", "send", "outfeed"))


@pytest.mark.parametrize("autojunk", [False, True])
def test_inside_a_larger_program_nothing_leaves_the_device(autojunk):
    """A population of runs, its scores weighed in the same `jit`; and the check sees a callback where there is one."""
    reward = ActionSimilarity(backend="xla", autojunk=autojunk)
    completions, expert, size, group = jobs(rollouts(BYTES, COMPLETIONS), ACTIONS)

    def step(completions, expert, size, group, table, peek=False):
        score = lambda c: reward.score(c, expert, size, group, table, ROOMS)
        scores = jax.vmap(score)(completions)
        means = jax.vmap(reward.means, (0, None, None))(scores, size[group], group >= 0)
        if peek:
            jax.debug.callback(print, scores.reward)
        return scores.reward - scores.reward.mean(axis=1, keepdims=True), means

    two = jax.tree.map(lambda x: np.stack([x, x]), completions)
    operands = (two, expert, size, group, TABLE)
    assert not leaves_the_device(str(jax.make_jaxpr(step)(*operands)))
    assert leaves_the_device(str(jax.make_jaxpr(partial(step, peek=True))(*operands)))
    for platform in ("cpu", "cuda", "tpu"):
        lowered = jax.jit(step).trace(*operands).lower(lowering_platforms=(platform,)).as_text()
        assert "while" in lowered and not leaves_the_device(lowered)


def test_a_population_is_its_members():
    """With the expert's actions shared or apart. Its members have other completions; one has none."""
    reward = ActionSimilarity(autojunk=False)
    table = jax.tree.map(jnp.asarray, TABLE)
    some = [jobs(rollouts(BYTES, [*COMPLETIONS[i:], *COMPLETIONS[:i]]), ACTIONS) for i in (0, 3)]
    completions, expert, size, group = some[0]
    none = replace(completions, length=np.zeros(JOBS, np.int32))
    many = [some[0][0], some[1][0], none]
    stacked = jax.tree.map(lambda *x: np.stack(x), *many)
    alone = [jax.device_get(reward.score(c, expert, size, group, table, ROOMS)) for c in many]
    want = jax.tree.map(lambda *x: np.stack(x), *alone)
    shared = jax.vmap(lambda c: reward.score(c, expert, size, group, table, ROOMS))(stacked)
    copies = [np.stack([x] * 3) for x in (expert, size, group)]
    apart = jax.vmap(lambda *x: reward.score(*x, table, ROOMS))(stacked, *copies)
    assert len({tuple(x.reward.tolist()) for x in alone}) == 3 and (alone[2].reward == -1).all()
    for got in (shared, apart):
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(got), want)


def test_it_compiles_once_for_a_shape():
    step_rewards.clear_cache()  # what another test compiled would not be counted here
    reward = ActionSimilarity(where="device", autojunk=False)
    scored(reward, rollouts(BYTES, [thought("x = 1")] * 3), ["x"] * 3)
    before = step_rewards._cache_size()
    for action in ("y", "x + y = 12", ""):
        scored(reward, rollouts(BYTES, [thought(action)] * 5), ["x", "yy", "x", "y", "long one"])
    assert step_rewards._cache_size() == before
    # What a malformed action is paid is a number of the program, which members of a population may differ in.
    found = scored(replace(reward, malformed=-0.25), rollouts(BYTES, [BYTES.encode("<think>")] * 3), ["x"] * 3)
    assert step_rewards._cache_size() == before and set(np.asarray(found.reward).tolist()) == {-0.25}
    scored(replace(reward, autojunk=True), rollouts(BYTES, [thought("y")] * 3), ["x"] * 3)
    assert step_rewards._cache_size() == before + 1


@pytest.mark.parametrize(("count", "blocks"), [(64, 8), (61, 1), (0, 1)])  # 8 rows each; a prime number is not divided
def test_rows_read_in_blocks_are_the_same_rows(count, blocks):
    found = rollouts(BYTES, (COMPLETIONS * 6)[:64])
    read = partial(read_action, think="required", prefilled=False, rooms=ROOMS)
    rows = (found.token[:count], found.mask.sum(axis=1)[:count])
    run = lambda most: jax.jit(partial(_in_blocks, read, most=most))
    assert (f"length={blocks}" in str(jax.make_jaxpr(run(10))(*rows, TABLE))) == (blocks > 1)
    whole, parts = (run(most)(*rows, TABLE) for most in (1000, 10))
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
