"""Random trees with rollouts, and what every weighed token of a batch sees, read off slowly."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from jaxsrl.data.layout import Layout, lay_out_trees
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.tree import path, path_tokens
from jaxsrl.types import (
    Batch,
    BranchPoint,
    Completions,
    Demonstration,
    Node,
    Rollouts,
    TokenWeights,
    Tree,
    Weights,
)

CAP = 6  # tokens of a completion
NOBODY = Demonstration(problem_id="p", problem="x?", actions=("a", "b"))


def shapes(**changed) -> Shapes:
    small = dict(
        prompt_rows=3, prompt_tokens=96, slots=8, groups=24, group_size=4, code_points=0, sheets=1, trunk_tokens=64,
        demonstrations=5, targets=120, tokens=400, runs=100, rows=(4, 2, 1), round_rows=8,
    )  # fmt: skip
    return Shapes(**small | changed)


def random_tree(rng, nodes: int, branches: int, *, two_roots: bool = True) -> tuple[Tree, tuple[BranchPoint, ...]]:
    """A general tree: any node may have children and rollouts, one in three is a target, some are empty."""
    made = []
    for i in range(nodes):
        # Depth needs more than uniform parents: half of the nodes go on where the last one ended.
        parent = -1 if i == 0 or (two_roots and i == nodes // 2) else int(rng.integers(max(0, i - 3), i))
        size = 0 if parent >= 0 and rng.random() < 0.1 else int(rng.integers(1, 5))
        token = rng.integers(1, 10**6, size).astype(np.int32)
        made.append(Node(token=token, parent=parent, target=bool(rng.random() < 0.34)))
    at = sorted(rng.choice(nodes, min(branches, nodes), replace=False).tolist())
    branch = {("action", k): node for k, node in enumerate(at)}
    points = tuple(BranchPoint(after=k, samples=int(rng.integers(1, 5))) for k in range(len(at)))
    return Tree(nodes=tuple(made), branch=branch), points


@dataclass
class Case:
    """A layout with completions and weights, and the same as the packing of trees takes it."""

    trees: list[Tree]
    points: list[tuple[BranchPoint, ...]]
    layout: Layout
    completions: Completions
    weights: Weights
    kept: np.ndarray
    trunk_used: np.ndarray
    rollouts: Rollouts


def case(seed: int, *, nodes: int = 14, branches: int = 4, trees: int = 5, used: float = 0.6, **changed) -> Case:
    rng = np.random.default_rng(seed)
    drawn = [random_tree(rng, nodes, branches) for _ in range(trees)]
    forest, points = [tree for tree, _ in drawn], [p for _, p in drawn]
    layout = lay_out_trees((NOBODY,) * trees, forest, points, shapes(**changed))
    jobs, count = layout.jobs, len(layout.jobs.active)
    length = np.where(jobs.active, rng.integers(1, CAP + 1, count), 0).astype(np.int32)
    mask = np.arange(CAP)[None] < length[:, None]
    kept = jobs.active & (rng.random(count) < 0.6)
    trunk_used = rng.random(layout.shapes.demonstrations) < used
    numbers = lambda *shape: rng.uniform(0.5, 1.5, shape).astype(np.float32)
    of_rollouts = mask & kept[:, None]
    target = np.asarray(layout.trunk.target) & trunk_used[:, None]
    draw = lambda where: TokenWeights(
        **{n: np.where(where, numbers(*where.shape), 0) for n in ("nll", "pg", "advantage")}
    )
    logp = np.where(mask, -numbers(count, CAP), 0)
    token = np.where(mask, rng.integers(1, 10**6, (count, CAP)), 0).astype(np.int32)
    rollouts = Rollouts(
        token=token, mask=mask, demonstration=jobs.demonstration, form=("action",) * count,
        branch=jobs.branch, sample=jobs.sample, group=jobs.group, truncated=np.zeros(count, bool), text=("",) * count,
    )  # fmt: skip
    return Case(
        points=points, trees=forest, layout=layout, completions=Completions(token=token, logp=logp, length=length),
        kept=kept, trunk_used=trunk_used, rollouts=rollouts,
        weights=Weights(trunk=draw(target), rollouts=draw(of_rollouts), extra={"label": numbers(count)}),
    )  # fmt: skip


def seen_by_paths(batch: Batch) -> np.ndarray:
    """[R T T]: the rule of intervals and positions."""
    enter, leave, position = (np.asarray(x) for x in (batch.enter, batch.leave, batch.position))
    inside = (enter[:, None, :] <= enter[:, :, None]) & (enter[:, :, None] < leave[:, None, :])
    return inside & (position[:, None, :] <= position[:, :, None])


def seen_by_order(batch: Batch) -> np.ndarray:
    """[R T T]: the rule for rows in depth-first order: not behind the token, and enter[q] < leave[k]."""
    enter, leave = np.asarray(batch.enter), np.asarray(batch.leave)
    place = np.arange(enter.shape[1])
    return (place[None, :] <= place[:, None])[None] & (enter[:, :, None] < leave[:, None, :])


def weighed(batches) -> Counter:
    """Every token with weight: its path, itself included, where it belongs, and its numbers."""
    out = Counter()
    for batch in batches:
        seen = seen_by_paths(batch)
        names = ("nll_weight", "pg_weight", "advantage", "behavior_logp")
        token, position, parent, rollout = (
            np.asarray(getattr(batch, n)) for n in ("token", "position", "parent", "rollout")
        )
        for r, t in zip(*np.nonzero(np.asarray(batch.nll_weight) + np.asarray(batch.pg_weight)), strict=True):
            here = np.flatnonzero(seen[r, t])
            here = here[np.argsort(position[r, here])]
            assert np.array_equal(position[r, here], np.arange(len(here))) and here[-1] == t
            assert parent[r, t] == here[-2]
            values = tuple(round(float(np.asarray(getattr(batch, name))[r, t]), 6) for name in names)
            out[(tuple(token[r, here].tolist()), int(rollout[r, t]), *values)] += 1
    return out


def expected(c: Case) -> tuple[Counter, dict[str, int]]:
    """What `weighed` finds in right rows, and what packing counts: path by path, with nothing shared."""
    out, tokens, dense = Counter(), 0, 0
    for m, tree in enumerate(c.trees):
        paths: dict[int | tuple[str, int], np.ndarray] = {}  # of what is wanted: nodes, and rollouts by ("job", p)
        at, needed = 0, set()
        for i, node in enumerate(tree.nodes):
            if not node.target:
                continue
            if c.trunk_used[m] and len(node.token):
                paths[i] = path_tokens(tree, i)
                needed |= set(path(tree, i))
                _count(out, paths[i], len(node.token), c.weights.trunk, m, at, -1, None)
            at += len(node.token)
        for p in np.flatnonzero(c.kept & (c.layout.jobs.demonstration == m)).tolist():
            node, length = tree.branch["action", int(c.layout.jobs.branch[p])], int(c.completions.length[p])
            own = c.completions.token[p, :length]
            paths["job", p] = np.concatenate([path_tokens(tree, node), own])
            needed |= set(path(tree, node))
            tokens += length
            _count(out, paths["job", p], length, c.weights.rollouts, p, 0, p, c.completions.logp[p])
        tokens += sum(len(tree.nodes[i].token) for i in needed)
        above = {j for i in paths if not isinstance(i, tuple) for j in path(tree, i)[:-1]}
        ends = [tree.branch["action", int(c.layout.jobs.branch[i[1]])] for i in paths if isinstance(i, tuple)]
        above |= {j for end in ends for j in path(tree, end)}
        dense += sum(len(tokens_) for i, tokens_ in paths.items() if i not in above)
    return out, {"pack/tree_tokens": tokens, "pack/dense_tokens": dense}


def _count(out: Counter, tokens, own: int, weights, row: int, first: int, rollout: int, logp) -> None:
    for k in range(own):
        end = len(tokens) - own + k + 1
        values = [float(getattr(weights, name)[row, first + k]) for name in ("nll", "pg", "advantage")]
        if values[0] + values[1] == 0 or end < 2:
            continue
        values.append(0.0 if logp is None else float(logp[k]))
        out[(tuple(tokens[:end].tolist()), rollout, *(round(value, 6) for value in values))] += 1
