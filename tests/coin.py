"""A reward for tests that train."""

import numpy as np

from jaxsrl.types import Rewards


def coin(rollouts, demonstrations):
    """One that half of everything gets, so that every group is learned from however bad the policy is."""
    nothing = (None,) * len(rollouts)
    reward = (np.where(rollouts.mask, rollouts.token, 0).sum(axis=1) % 2).astype(float)
    return Rewards(reward=reward, action=nothing, expert=nothing, settings={})
