"""Trees as integers: what a row is planned from, without texts, tokens or objects.

`I` items are the nodes of all trees and the rollouts that hang off them, in depth-first order: a node, the subtrees of
its children, then its own rollouts; trees one after another. Every index counts items, unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Int

from jaxsrl.types import Tree


@dataclass(frozen=True, kw_only=True, eq=False)
class Tables:
    """Where each item hangs, how long it is, and where its tokens are."""

    demonstration: Int[np.ndarray, "I"]
    parent: Int[np.ndarray, "I"]  # -1 where a path begins
    end: Int[np.ndarray, "I"]  # the first item behind its subtree
    length: Int[np.ndarray, "I"]  # tokens; 0 of a rollout, which is not sampled yet
    position: Int[np.ndarray, "I"]  # depth of its first token
    level: Int[np.ndarray, "I"]  # nodes above it
    source: Int[np.ndarray, "I"]  # where its tokens begin in the pool
    target: Int[np.ndarray, "I"]  # its first token among the flat [M E] target tokens; -1 where it is none
    job: Int[np.ndarray, "I"]  # which rollout it is; -1 on the trunk
    group: Int[np.ndarray, "I"]  # the rollout's; -1 on the trunk

    def __len__(self) -> int:
        return len(self.parent)


@dataclass(frozen=True, kw_only=True, eq=False)
class Forest:
    """The trees of a round, tabulated."""

    nodes: Tables  # without rollouts
    place: tuple[Int[np.ndarray, "N"], ...]  # of each tree: its nodes' items; an empty node is where its parent is
    token: Int[np.ndarray, "U"]  # node after node, in the order of the trees
    targets: Int[np.ndarray, "M"]  # target tokens of each tree

    @property
    def of_targets(self) -> int:
        return int(self.targets.max(initial=0))


def tabulate(trees: Sequence[Tree], targets: int | None = None) -> Forest:
    """Depth-first tables of the trees' nodes.

    Args:
      targets: room for the target tokens of a tree (E); None takes what the largest needs.
    Raises: ValueError if a tree has more.
    """
    nodes = [node for tree in trees for node in tree.nodes]
    sizes = [len(tree.nodes) for tree in trees]
    first = np.concatenate([[0], np.cumsum(sizes, dtype=int)])
    length = np.array([len(node.token) for node in nodes], np.int32)
    source = np.cumsum(length, dtype=np.int32) - length
    tree = np.repeat(np.arange(len(trees), dtype=np.int32), sizes)
    own = np.array([node.parent for node in nodes], int)
    parent = np.where(own < 0, -1, own + first[tree]).tolist()
    parent, kept = _past_empty(parent, length.tolist())
    item, end = _depth_first(parent, length.tolist())
    depth, level = _depths(parent, length.tolist())
    counts, target = _targets(nodes, tree, length, len(trees))
    width = int(counts.max(initial=0)) if targets is None else targets
    if counts.max(initial=0) > width:
        raise ValueError(
            f"a demonstration has {counts.max()} tokens to be trained on, and there is room for {width}: raise targets "
            f"to at least {counts.max()}, or leave out or cut the demonstration"
        )
    item = np.array(item, np.int32)
    present = np.flatnonzero(length)
    order = present[np.argsort(item[present])]
    up = np.array(parent, int)[order]
    table = Tables(
        demonstration=tree[order], parent=np.where(up < 0, -1, item[up]).astype(np.int32),
        end=np.array(end, np.int32)[order], length=length[order], position=np.array(depth, np.int32)[order],
        level=np.array(level, np.int32)[order], source=source[order],
        target=np.where(target < 0, -1, tree * width + target)[order].astype(np.int32),
        job=np.full(len(order), -1, np.int32), group=np.full(len(order), -1, np.int32),
    )  # fmt: skip
    kept = np.array(kept, int)
    where = np.where(kept < 0, -1, item[kept]).astype(np.int32) if len(nodes) else np.zeros(0, np.int32)
    token = np.concatenate([node.token for node in nodes]).astype(np.int32) if nodes else np.zeros(0, np.int32)
    place = tuple(np.split(where, first[1:-1])) if trees else ()  # numpy splits nothing into one part
    return Forest(nodes=table, place=place, token=token, targets=counts)


def _past_empty(parent: list[int], length: list[int]) -> tuple[list[int], list[int]]:
    """Parents that have tokens; and for each node itself, or the next one above it that has some."""
    above, kept = [], []
    for i, p in enumerate(parent):
        above.append(kept[p] if p >= 0 else -1)
        kept.append(i if length[i] else above[i])
    return above, kept


def _depth_first(parent: list[int], length: list[int]) -> tuple[list[int], list[int]]:
    """The item of each node and the one behind its subtree; children keep their order."""
    size = [int(n > 0) for n in length]
    for i in range(len(parent) - 1, -1, -1):
        if parent[i] >= 0 and length[i]:
            size[parent[i]] += size[i]
    free, roots = [0] * len(parent), 0  # the next item that a child of the node takes
    item = [-1] * len(parent)
    for i, p in enumerate(parent):
        if not length[i]:
            continue
        if p < 0:
            item[i], roots = roots, roots + size[i]
        else:
            item[i], free[p] = free[p], free[p] + size[i]
        free[i] = item[i] + 1
    return item, [a + b for a, b in zip(item, size, strict=True)]


def _depths(parent: list[int], length: list[int]) -> tuple[list[int], list[int]]:
    depth, level = [], []
    for p in parent:
        depth.append(depth[p] + length[p] if p >= 0 else 0)
        level.append(level[p] + 1 if p >= 0 else 0)
    return depth, level


def _targets(nodes, tree, length, trees: int) -> tuple[np.ndarray, np.ndarray]:
    """Target tokens of each tree, and where each target node's begin among them, in the order of the nodes."""
    is_target = np.array([node.target for node in nodes], bool)
    taken = np.where(is_target, length, 0)
    counts = np.bincount(tree, weights=taken, minlength=trees).astype(np.int32)
    before = np.cumsum(taken) - taken - np.repeat(np.cumsum(counts) - counts, np.bincount(tree, minlength=trees))
    return counts, np.where(is_target, before, -1).astype(np.int32)


def hang(
    nodes: Tables, at: Int[np.ndarray, "J"], job: Int[np.ndarray, "J"], group: Int[np.ndarray, "J"]
) -> Tables:  # fmt: skip
    """The tables with rollouts below the nodes `at`; siblings keep the order they are given in."""
    count, leaves = len(nodes), len(at)
    # A rollout stands behind the last item below its node, and behind those of deeper nodes that end there too.
    key = np.concatenate([2 * np.arange(count), 2 * nodes.end[at] - 1])
    deeper = np.concatenate([np.zeros(count, int), -at])
    order = np.lexsort((deeper, key))  # stable
    item = np.empty(count + leaves, np.int32)
    item[order] = np.arange(count + leaves, dtype=np.int32)
    below = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=count))])
    size = nodes.end - np.arange(count) + below[nodes.end] - below[:count]
    none = np.full(leaves, -1, np.int32)
    both = {
        "demonstration": (nodes.demonstration, nodes.demonstration[at]),
        "parent": (np.where(nodes.parent < 0, -1, item[nodes.parent]), item[at]),
        "end": (item[:count] + size, item[count:] + 1),
        "length": (nodes.length, none * 0),
        "position": (nodes.position, (nodes.position + nodes.length)[at]),
        "level": (nodes.level, nodes.level[at] + 1),
        "source": (nodes.source, none * 0),
        "target": (nodes.target, none),
        "job": (nodes.job, job),
        "group": (nodes.group, group),
    }
    return Tables(**{name: np.concatenate(pair).astype(np.int32)[order] for name, pair in both.items()})


def select(tables: Tables, wanted: Bool[np.ndarray, "I"]) -> tuple[Tables, Int[np.ndarray, "L"]]:
    """The wanted items and those above them, as tables of their own; and which items they are."""
    before = np.concatenate([[0], np.cumsum(wanted)])
    needed = before[tables.end] > before[:-1]
    kept = np.flatnonzero(needed)
    index = np.concatenate([[0], np.cumsum(needed)]).astype(np.int32)
    small = Tables(**{field.name: getattr(tables, field.name)[kept] for field in fields(Tables)})
    return replace(small, parent=np.where(small.parent < 0, -1, index[small.parent]), end=index[small.end]), kept


SHIFTS = {"demonstration": "demonstrations", "source": "trunk", "target": "targets", "job": "jobs", "group": "groups"}


def join(parts: Sequence[tuple[Tables, dict[str, int]]]) -> Tables:
    """Tables of several rounds as one. Each comes with how many there are before it of what its numbers count."""
    items = np.cumsum([0, *(len(table) for table, _ in parts)])
    shifted = []
    for (table, before), first in zip(parts, items, strict=False):
        move = {"parent": int(first), "end": int(first)} | {name: before[of] for name, of in SHIFTS.items()}
        values = {name: getattr(table, name) for name in move}
        shifted.append(
            replace(table, **{n: np.where(v < 0, -1, v + move[n]).astype(np.int32) for n, v in values.items()})
        )
    return Tables(**{f.name: np.concatenate([getattr(table, f.name) for table in shifted]) for f in fields(Tables)})
