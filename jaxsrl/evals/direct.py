"""A whole solution in one completion."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxsrl.collect.complete import Sampler, complete
from jaxsrl.data.tree import build
from jaxsrl.evals.records import Record, record
from jaxsrl.evals.summary import Column, Decoding, at_k, completion_columns, summarise
from jaxsrl.types import BranchPoint, Demonstration, Metrics, Params, Reward, Rewards

CORRECT_FROM = 0.5  # reward from which an answer counts as right, so that a reward may pay form a little


def solve_directly(
    sampler: Sampler,
    params: Params,
    key: jax.Array,
    demonstrations: Sequence[Demonstration],
    decoding: Decoding,
    reward: Reward,
) -> tuple[Metrics, list[Record]]:
    """Samples solve-form completions of each problem and rewards their final answers.

    Args:
      demonstrations: one per problem; only problem and answer are used.
    """
    points = [(BranchPoint(after=0, samples=decoding.samples, form="solve"),)] * len(demonstrations)
    trees = [build(d, p, (), sampler.template, sampler.tokenizer) for d, p in zip(demonstrations, points, strict=True)]
    rollouts = complete(sampler, params, key, decoding.temperature, trees, points)
    rewards = reward(rollouts, demonstrations)
    correct = is_correct(rewards)
    problem = [demonstrations[m].problem_id for m in rollouts.demonstration]
    columns = answer_columns(rewards) | completion_columns(rollouts)
    metrics: Metrics = {} if decoding.temperature else {"count": len(rollouts), "problems": len(demonstrations)}
    metrics |= summarise(problem, decoding.label(columns, "answer"))
    if decoding.temperature:
        metrics |= summarise(problem[:: decoding.samples], answers_at_k(rewards, decoding.samples))
    records = [
        record(
            rollouts, row, problem=problem[row], branch=0, sample=rollouts.sample[row], action=rewards.action[row],
            expert_action=rewards.expert[row], correct=bool(correct[row]),
        )
        for row in range(len(rollouts))
    ]  # fmt: skip
    return metrics, records


def is_correct(rewards: Rewards) -> np.ndarray:
    return np.asarray(rewards.reward) >= CORRECT_FROM


def answer_columns(rewards: Rewards) -> dict[str, Column]:
    """Whether the answer is right, and whether there is none."""
    missing = np.array([action is None for action in rewards.action], float)
    return {
        "answer": Column(value=is_correct(rewards).astype(float), share=True),
        "malformed": Column(value=missing, share=True),
    }


def answers_at_k(rewards: Rewards, samples: int) -> dict[str, Column]:
    """pass@k, pass^k and the majority's answer of rewards that come ordered by problem and sample."""
    votes = [rewards.action[first : first + samples] for first in range(0, len(rewards.action), samples)]
    return at_k(is_correct(rewards).reshape(-1, samples), votes)
