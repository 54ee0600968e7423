"""A whole solution in one completion."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxsrl.collect.complete import Sampler, complete
from jaxsrl.data.tree import build
from jaxsrl.evals.records import Record, record
from jaxsrl.evals.summary import Column, Decoding, at_k, completion_columns, summarise
from jaxsrl.types import BranchPoint, Demonstration, Grades, Metrics, Params, Reward

CORRECT_FROM = 0.5  # reward from which an answer counts as right, so that a grader may reward form a little


def solve_directly(
    sampler: Sampler,
    params: Params,
    key: jax.Array,
    demonstrations: Sequence[Demonstration],
    decoding: Decoding,
    grader: Reward,
) -> tuple[Metrics, list[Record]]:
    """Samples solve-form completions of each problem and grades their final answers.

    Args:
      demonstrations: one per problem; only problem and answer are used.
    """
    points = [(BranchPoint(after=0, samples=decoding.samples, form="solve"),)] * len(demonstrations)
    trees = [build(d, p, (), sampler.template, sampler.tokenizer) for d, p in zip(demonstrations, points, strict=True)]
    rollouts = complete(sampler, params, key, decoding.temperature, trees, points)
    grades = grader(rollouts, demonstrations)
    correct = is_correct(grades)
    problem = [demonstrations[m].problem_id for m in rollouts.demonstration]
    columns = answer_columns(grades) | completion_columns(rollouts)
    metrics: Metrics = {} if decoding.temperature else {"count": len(rollouts), "problems": len(demonstrations)}
    metrics |= summarise(problem, decoding.label(columns, "answer"))
    if decoding.temperature:
        metrics |= summarise(problem[:: decoding.samples], answers_at_k(grades, decoding.samples))
    records = [
        record(
            rollouts, row, problem=problem[row], branch=0, sample=rollouts.sample[row], action=grades.action[row],
            expert_action=grades.expert[row], correct=bool(correct[row]),
        )
        for row in range(len(rollouts))
    ]  # fmt: skip
    return metrics, records


def is_correct(grades: Grades) -> np.ndarray:
    return np.asarray(grades.reward) >= CORRECT_FROM


def answer_columns(grades: Grades) -> dict[str, Column]:
    """Whether the answer is right, and whether there is none."""
    missing = np.array([action is None for action in grades.action], float)
    return {
        "answer": Column(value=is_correct(grades).astype(float), share=True),
        "malformed": Column(value=missing, share=True),
    }


def answers_at_k(grades: Grades, samples: int) -> dict[str, Column]:
    """pass@k, pass^k and the majority's answer of grades that come ordered by problem and sample."""
    votes = [grades.action[first : first + samples] for first in range(0, len(grades.action), samples)]
    return at_k(is_correct(grades).reshape(-1, samples), votes)
