"""What every host reward is asked before its numbers are used."""

from collections.abc import Sequence

import numpy as np

from jaxsrl.types import Demonstration, Rewards, Rollouts


def checked(rewards: Rewards, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
    """The rewards, if there is one finite reward a rollout. A NaN would spread to the whole group, and be trained on.

    Raises: ValueError that names the first rollout whose reward is not finite, or if there are not P of everything.
    """
    count = len(rollouts)
    sizes = {"reward": np.shape(rewards.reward), "action": (len(rewards.action),), "expert": (len(rewards.expert),)}
    if wrong := {name: shape for name, shape in sizes.items() if shape != (count,)}:
        raise ValueError(f"a reward must say {count} of everything for {count} rollouts, got shapes {wrong}")
    for row in np.flatnonzero(~np.isfinite(rewards.reward)):
        demonstration = demonstrations[rollouts.demonstration[row]]
        where = demonstration.source or demonstration.problem_id
        given, sample = int(rollouts.branch[row]), int(rollouts.sample[row])
        raise ValueError(
            f"rollout {row} ({where}, after {given} actions, sample {sample}): a reward must be finite, "
            f"got {rewards.reward[row]} for {rollouts.text[row][:80]!r}"
        )
    return rewards
