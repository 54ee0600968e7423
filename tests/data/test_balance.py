"""The learner's rows are dealt over processes by tokens, whoever sampled what is in them."""

import numpy as np

from jaxsrl.data.choose import Room, choose_shapes
from jaxsrl.data.compaction import plan
from jaxsrl.data.layout import lay_out_trees
from jaxsrl.types import BranchPoint, Node, Tree
from tests.data.forests import NOBODY

PROCESSES, EACH, ACTIONS, GROUP, CAP = 64, 8, 9, 8, 299


def chain(rng) -> Tree:
    """A problem and its actions one after the other; every action but the last is a branch point."""
    length = np.clip(rng.lognormal(np.log(40), 0.5, ACTIONS + 1), 4, 200).astype(int)
    nodes = [Node(token=np.zeros(n, np.int32), parent=i - 1) for i, n in enumerate(length)]
    return Tree(nodes=tuple(nodes), branch={("action", k): k for k in range(ACTIONS)})


def test_no_process_has_many_more_tokens_than_another():
    """64 processes of 8 demonstrations, 60 % of groups dropped: at most 1.1 of the mean, however groups fall."""
    rng = np.random.default_rng(0)
    count = PROCESSES * EACH
    trees = [chain(rng) for _ in range(count)]
    points = [tuple(BranchPoint(after=k, samples=GROUP) for k in range(ACTIONS))] * count
    few = slice(0, 64)
    room = Room(demonstrations=count, completion_tokens=CAP, parts=PROCESSES, prompt_parts=PROCESSES)
    shapes = choose_shapes(trees[few], points[few], room)
    layout = lay_out_trees((NOBODY,) * count, trees, points, shapes)
    jobs = layout.jobs
    length = np.clip(rng.lognormal(np.log(150) - 0.18, 0.6, len(jobs.active)), 1, CAP).astype(int)
    owner = jobs.demonstration // EACH  # who would learn from a rollout that stayed where its demonstration is
    for kept_groups in (
        rng.random((count, ACTIONS)) < 0.4,
        rng.random((count, ACTIONS)) < np.repeat(rng.random(PROCESSES) * 0.8, EACH)[:, None],  # hard data and easy
    ):
        kept = jobs.active & kept_groups[jobs.demonstration, jobs.branch]
        made = plan(
            layout.tables, np.where(jobs.active, length, 0), kept, np.zeros(count, bool), shapes, parts=PROCESSES
        )
        assert made.metrics["pack/tokens"] < 1.1 * made.metrics["pack/tree_tokens"]  # not levelled by repeats
        tokens = sum(batch.length.sum(axis=1).reshape(PROCESSES, -1).sum(axis=1) for batch in made.batches)
        assert tokens.max() <= 1.1 * tokens.mean(), tokens.max() / tokens.mean()
        stayed = np.bincount(owner[kept], length[kept], PROCESSES)
        assert stayed.max() > 1.25 * stayed.mean()  # the control: left where they are, they would not be even
