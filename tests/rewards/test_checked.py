"""A reward that is not finite is refused, and the rollout is named."""

from dataclasses import replace

import numpy as np
import pytest

from jaxsrl.rewards.checked import checked
from jaxsrl.types import Demonstration, Rewards
from tests.rewards.device_cases import BYTES, rollouts, thought

TOLD = [Demonstration(problem_id=str(i), problem="?", actions=("x",), source=f"f:{i}") for i in range(3)]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite_names_its_rollout(wrong):
    found = rollouts(BYTES, [thought(action) for action in ("x", "y", "z")])
    rewards = Rewards(reward=np.zeros(3), action=("x",) * 3, expert=("x",) * 3, settings={})
    assert checked(rewards, found, TOLD) is rewards
    with pytest.raises(ValueError, match=rf"rollout 1 \(f:1, after 0 actions, sample 0\).*got {wrong}.*think>y"):
        checked(replace(rewards, reward=np.array([0.0, wrong, np.nan])), found, TOLD)
    with pytest.raises(ValueError, match=r"3 of everything.*\(3, 1\)"):
        checked(replace(rewards, reward=np.zeros((3, 1))), found, TOLD)
    with pytest.raises(ValueError, match="3 of everything.*action"):
        checked(replace(rewards, action=("x",)), found, TOLD)
