"""The next action, with the expert's actions before it given: how far one step alone is right."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxsrl.collect.complete import Sampler, complete
from jaxsrl.data.tree import build
from jaxsrl.evals.baselines import other_problem_actions, previous_action
from jaxsrl.evals.records import Record, record
from jaxsrl.evals.settings import Evaluation
from jaxsrl.evals.summary import Column, Decoding, Shared, at_k, completion_columns, summarise
from jaxsrl.rewards.format import parse
from jaxsrl.rewards.similarity import score_pairs
from jaxsrl.types import BranchPoint, Demonstration, Metrics, Params, Rollouts


def probe_actions(
    sampler: Sampler,
    params: Params,
    key: jax.Array,
    demonstrations: Sequence[Demonstration],
    decoding: Decoding,
    settings: Evaluation,
) -> tuple[Metrics, list[Record]]:
    """Samples one action at every branch point of every demonstration and compares it with the expert's."""
    ids = [demonstration.problem_id for demonstration in demonstrations]
    every = [_points(demonstration, decoding.samples, settings.last_action) for demonstration in demonstrations]
    points = [some if own else () for some, own in zip(every, sampler.share.own(ids), strict=True)]
    trees = [build(d, p, (), sampler.template, sampler.tokenizer) for d, p in zip(demonstrations, points, strict=True)]
    rollouts = complete(sampler, params, key, decoding.temperature, trees, points)
    places = list(zip(rollouts.demonstration.tolist(), rollouts.branch.tolist(), strict=True))
    expert = [demonstrations[m].actions[after].strip() for m, after in places]
    action = [_action(rollouts, row, settings) for row in range(len(rollouts))]
    columns = _compare(demonstrations, places, action, expert, settings)
    exact, similarity = columns["exact"].value, columns["similarity"].value
    problem, shared = [ids[m] for m, _ in places], Shared(share=sampler.share, ids=tuple(dict.fromkeys(ids)))
    asked = {ids[m] for m, some in enumerate(every) if some}
    counts = {"count": sum(map(len, every)), "problems": len(asked)}
    metrics: Metrics = {} if decoding.temperature else counts
    metrics |= summarise(problem, decoding.label(columns | completion_columns(rollouts), "exact"), shared)
    if decoding.temperature:
        groups = exact.astype(bool).reshape(-1, decoding.samples)
        metrics |= summarise(problem[:: decoding.samples], at_k(groups), shared)
    records = [
        record(
            rollouts, row, demonstration=demonstrations[m], branch=after, sample=rollouts.sample[row],
            action=action[row], expert_action=expert[row], correct=bool(exact[row]),
            similarity=None if action[row] is None else float(similarity[row]),
        )
        for row, (m, after) in enumerate(places)
    ]  # fmt: skip
    return metrics, records


def _points(demonstration: Demonstration, samples: int, last: bool) -> tuple[BranchPoint, ...]:
    """The N - 1 targets of SRL, and the last action where it is asked for."""
    count = len(demonstration.actions) - (not last)
    return tuple(BranchPoint(after=after, samples=samples) for after in range(count))


def _action(rollouts: Rollouts, row: int, settings: Evaluation) -> str | None:
    if rollouts.truncated[row]:
        return None
    parsed = parse(rollouts.text[row], think=settings.think)
    return parsed and parsed.action


def _compare(demonstrations, places, action, expert, settings: Evaluation) -> dict[str, Column]:
    """Similarity of the model's action and of both baselines, all three of the same, well-formed rows."""

    def score(actions):
        pairs = [("", e) if a is None else (a, e) for a, e in zip(actions, expert, strict=True)]
        return score_pairs(pairs, unit=settings.unit, autojunk=settings.autojunk)

    formed = np.array([a is not None for a in action], bool)
    other = other_problem_actions(demonstrations, places)
    other_known = formed & np.array([a is not None for a in other], bool)
    own, from_other = score(action), score(other)
    previous = score([previous_action(demonstrations[m], after) for m, after in places])
    return {
        "exact": Column(value=np.array([a == e for a, e in zip(action, expert, strict=True)], float), share=True),
        "similarity": Column(value=own, among=formed, bounded=True),
        "similarity_previous": Column(value=previous, among=formed, bounded=True),
        "similarity_other_problem": Column(value=from_other, among=other_known, bounded=True),
        "above_previous": Column(value=own - previous, among=formed),
        "above_other_problem": Column(value=own - from_other, among=other_known),
        "malformed": Column(value=(~formed).astype(float), share=True),
    }
