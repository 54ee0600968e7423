"""Published relatives of GRPO, and what other libraries call GRPO, as settings of the files here.

Every preset takes overrides: `dapo(kl_coef=0.01)`. Advantages are equal to the library's to the rounding of its
epsilon; where rewards of a group are equal, ours are exactly 0. What a preset leaves at our default is not claimed.
"""

from typing import Any

from jaxsrl.objectives.grpo import GRPO
from jaxsrl.objectives.reinforce import Reinforce


def grpo_printed(**settings: Any) -> GRPO:
    """arXiv:2402.03300 as printed: population deviation, mean of each completion, then of completions; k3 in the loss.

    The paper's coefficient is 0.04.
    """
    return GRPO(**dict(aggregation="sequence_mean", kl="k3", kl_coef=0.04, epsilon=0.0) | settings)


def dr_grpo(length: int, **settings: Any) -> GRPO:
    """arXiv:2503.20783: no deviation, and a constant instead of the completion's own length, in tokens."""
    return GRPO(**dict(std="none", aggregation="fixed_length", length=length) | settings)


def dapo(**settings: Any) -> GRPO:
    """arXiv:2503.14476: clip 0.8 to 1.28, token mean, groups that are all right or all wrong dropped and refilled.

    Refill is `Collect.prompts`; the length term is `rewards.overlong.Overlong`, around rewards of +1 and -1.
    """
    return GRPO(**dict(clip_low=0.2, clip_high=0.28, aggregation="token_mean", filter_std=0.0) | settings)


def rloo(**settings: Any) -> Reinforce:
    """arXiv:2402.14740: mean of the others as baseline, whole completions, KL in the reward (`reward_kl_coef`)."""
    whole = dict(aggregation="fixed_length", length=1)  # sum over a completion's tokens, mean over completions
    return Reinforce(**dict(baseline="leave_one_out", std="none", reward_kl="sequence", **whole) | settings)


def reinforce_plus_plus(**settings: Any) -> GRPO:
    """arXiv:2501.03262: return of reward and KL per token, whitened over the step's tokens; PPO's clip."""
    return GRPO(**dict(baseline="none", std="none", whiten=True, reward_kl="token") | settings)


def reinforce_plus_plus_baseline(**settings: Any) -> GRPO:
    """The variant of arXiv:2501.03262 that subtracts the group's mean before it whitens."""
    return reinforce_plus_plus(**dict(baseline="mean") | settings)


def lite_ppo(**settings: Any) -> GRPO:
    """arXiv:2508.08221: the group's mean, the step's deviation of rewards, token mean, PPO's clip."""
    return GRPO(**dict(std="batch") | settings)


def verl(**settings: Any) -> GRPO:
    """verl's default. A group of one keeps its raw reward as advantage; clip 0.2 with the dual clip at 3."""
    return GRPO(**dict(ddof=1, epsilon=1e-6, singleton_advantage=1.0, dual_clip=3.0) | settings)


def trl(**settings: Any) -> GRPO:
    """TRL's default: tokens of the whole optimizer step are the denominator."""
    return GRPO(**dict(ddof=1, epsilon=1e-4) | settings)


def slime(**settings: Any) -> GRPO:
    """slime's default: each completion's own mean."""
    return GRPO(**dict(ddof=1, epsilon=1e-6, aggregation="sequence_mean") | settings)


def areal(**settings: Any) -> GRPO:
    """AReaL's documented GRPO: rewards normalised by group, then advantages by batch. ddof is an option there; 1 here
    is our choice."""
    return GRPO(**dict(ddof=1, whiten=True) | settings)


def prime_rl(**settings: Any) -> GRPO:
    """prime-rl: the group's mean and no deviation, over all tokens."""
    return GRPO(**dict(std="none") | settings)


def nemo_rl(**settings: Any) -> GRPO:
    """NeMo-RL: baseline and deviation of the others of the group. ddof 1 is our choice.

    Its groups are rollouts with equal prompt tokens; ours are those of one branch point of one demonstration.
    """
    return GRPO(**dict(baseline="leave_one_out", std="leave_one_out", ddof=1, epsilon=1e-6) | settings)


def skyrl(**settings: Any) -> GRPO:
    """SkyRL: as verl with PPO's clip alone; a group of one is kept, with its raw reward."""
    return GRPO(**dict(ddof=1, epsilon=1e-6, singleton_advantage=1.0) | settings)
