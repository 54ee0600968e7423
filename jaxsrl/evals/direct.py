"""A whole solution in one completion."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxsrl.collect.complete import Sampler, complete
from jaxsrl.data.tree import build
from jaxsrl.evals.records import Record, record
from jaxsrl.evals.statistics import one_vote
from jaxsrl.evals.summary import Column, Decoding, Shared, at_k, completion_columns, summarise
from jaxsrl.types import BranchPoint, Demonstration, Metrics, Params, Reward, Rewards

SameAnswers = Callable[[Sequence[tuple[str, str]]], Sequence[bool]]
CORRECT_FROM = 0.5  # reward from which an answer counts as right, so that a reward may pay form a little


def solve_directly(
    sampler: Sampler,
    params: Params,
    key: jax.Array,
    demonstrations: Sequence[Demonstration],
    decoding: Decoding,
    reward: Reward,
    same: SameAnswers,
) -> tuple[Metrics, list[Record]]:
    """Samples solve-form completions of each problem and rewards their final answers.

    Args:
      demonstrations: one per problem; only problem and answer are used.
      same: see `answers_at_k`.
    """
    ids = [demonstration.problem_id for demonstration in demonstrations]
    shared = Shared(share=sampler.share, ids=tuple(ids))
    whole = BranchPoint(after=0, samples=decoding.samples, form="solve")
    points = [(whole,) if own else () for own in sampler.share.own(ids)]
    trees = [build(d, p, (), sampler.template, sampler.tokenizer) for d, p in zip(demonstrations, points, strict=True)]
    rollouts = complete(sampler, params, key, decoding.temperature, trees, points)
    rewards = reward(rollouts, demonstrations)
    correct = is_correct(rewards)
    problem = [demonstrations[m].problem_id for m in rollouts.demonstration]
    columns = answer_columns(rewards) | completion_columns(rollouts)
    metrics: Metrics = {} if decoding.temperature else {"count": len(ids), "problems": len(ids)}
    metrics |= summarise(problem, decoding.label(columns, "answer"), shared) | timeouts(rewards, decoding, shared)
    if decoding.temperature:
        metrics |= summarise(problem[:: decoding.samples], answers_at_k(rewards, decoding.samples, same), shared)
    records = [
        record(
            rollouts, row, demonstration=demonstrations[rollouts.demonstration[row]], branch=0,
            sample=rollouts.sample[row], action=rewards.action[row], expert_action=rewards.expert[row],
            correct=bool(correct[row]),
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


def as_text(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Two answers are one vote if they are one text."""
    return [a == b for a, b in pairs]


def timeouts(rewards: Rewards, decoding: Decoding, shared: Shared) -> Metrics:
    """The share of completions that the reward gave up, where it may; such numbers need not repeat."""
    found = rewards.means.get("reward/timeout_share")
    if found is None:
        return {}
    every = shared.share.of_all({name: np.array([getattr(found, name)], float) for name in ("total", "over")})
    name = "sampled_timeout_share" if decoding.temperature else "timeout_share"
    return {name: float(every["total"].sum() / max(every["over"].sum(), 1))}


def answers_at_k(rewards: Rewards, samples: int, same: SameAnswers) -> dict[str, Column]:
    """pass@k, pass^k and the majority's answer of rewards that come ordered by problem and sample.

    Args:
      same: (answers, answers) -> for each pair, whether the two are one vote.
    """
    groups = [rewards.action[first : first + samples] for first in range(0, len(rewards.action), samples)]
    spelled = [list(dict.fromkeys(a for a in group if a is not None)) for group in groups]
    pairs = list(dict.fromkeys((b, a) for one in spelled for i, a in enumerate(one) for b in one[i + 1 :]))
    told = dict(zip(pairs, same(pairs), strict=True))
    votes = [one_vote(group, lambda answer, seen: told[answer, seen]) for group in groups]
    return at_k(is_correct(rewards).reshape(-1, samples), votes)
