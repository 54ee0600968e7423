"""Log-probs of given tokens under a policy: trees in, one number a token out. What paths share is computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxsrl.collect.share import Share
from jaxsrl.data.prompt_rows import Placed, place
from jaxsrl.data.stretches import lay_runs
from jaxsrl.data.tables import Forest, tabulate
from jaxsrl.processes import fetch, from_all
from jaxsrl.types import Batch, Params, Tree

BLOCK = 128  # rows are multiples of so many tokens, so that few programs are compiled
MOST_TOKENS = 2048  # of a row, unless a path is longer: attention within a row grows with its square


@dataclass(frozen=True, kw_only=True)
class RowScorer:
    """A compiled scorer with what stays the same between its calls.

    Args:
      score: (params, batch) -> log-probs [R T], nats, at temperature 1.
      rows: of a call; where several processes share an evaluation, those that this one holds.
      share: see `Sampler`.
    """

    score: Callable[[Params, Batch], Float[Array, "R T"]]
    rows: int = 1
    share: Share = Share()


def score_trees(scorer: RowScorer, params: Params, trees: Sequence[Tree]) -> list[dict[int, Float[np.ndarray, "T"]]]:
    """Log-probs of the target nodes' tokens, by node, for every tree; nats, given everything above the token.

    A tree stays in one row where it fits; else its shared nodes are repeated. The numbers do not depend on it. NaN
    stands for the first token of a path, which nothing is before.

    Where processes share an evaluation each gives its own trees, and all call this as often.
    """
    forest = tabulate(trees)
    wanted = (forest.nodes.target >= 0).astype(int)
    if not from_all(np.array([wanted.sum()])).max():
        return [{} for _ in trees]
    row_tokens = _row_tokens(forest, wanted)
    shape = {"prompt_rows": scorer.rows, "prompt_tokens": row_tokens, "slots": max(int(wanted.sum()), 1)}
    placed = place(forest.nodes, wanted, **shape)
    if scorer.share.count > 1:  # all make as many calls
        placed = place(forest.nodes, wanted, **shape, sheets=int(from_all(np.array([placed.sheets])).max()))
    batches, runs = _lay_out(forest, placed, scorer.rows, row_tokens)
    held = scorer.share.jobs(1)
    made = [np.asarray(fetch(scorer.score(params, batch)))[held] for batch in batches]
    return _by_node(forest, placed, runs, np.concatenate(made) if made else np.zeros((0, row_tokens)), trees)


def _row_tokens(forest: Forest, wanted: np.ndarray) -> int:
    """Room for the longest path, and for some trees together where they are short; alike in all processes."""
    nodes = forest.nodes
    longest = int((nodes.position + nodes.length).max(initial=1, where=wanted > 0))
    longest, total = from_all(np.array([longest, int(nodes.length.sum())])).max(axis=0)
    need = max(longest, min(total, MOST_TOKENS))
    return -(-int(need) // BLOCK) * BLOCK


def _lay_out(forest: Forest, placed: Placed, rows: int, row_tokens: int) -> tuple[list[Batch], Any]:
    """Batches of `rows` rows, and where each item lies in them."""
    items = placed.items
    runs = lay_runs(items, placed.first, placed.last, placed.row)
    run = np.repeat(np.arange(len(runs.item)), runs.length)
    offset = np.arange(len(run)) - np.repeat(np.cumsum(runs.length) - runs.length, runs.length)
    column = runs.start[run] + offset
    parent = np.where(offset > 0, column - 1, runs.parent[run])
    scored = (items.target[runs.item] >= 0)[run] & runs.own[run] & (parent >= 0)
    fields = {
        "token": (0, forest.token[items.source[runs.item][run] + offset]),
        "position": (0, items.position[runs.item][run] + offset), "enter": (-1, runs.index[run]),
        "leave": (-1, runs.leave[run]), "parent": (0, np.maximum(parent, 0)), "rollout": (-1, -1),
    }  # fmt: skip
    count = placed.sheets * rows
    whole = {}
    for name, (empty, value) in fields.items():
        whole[name] = np.full((count, row_tokens), empty, np.int32)
        whole[name][runs.row[run], column] = value
    zero = np.zeros((count, row_tokens), np.float32)
    weight = zero.copy()
    weight[runs.row[run], column] = scored
    whole |= {"nll_weight": weight, "pg_weight": zero, "advantage": zero, "behavior_logp": zero}
    batch = Batch(**whole)
    parts = [jax.tree.map(lambda x, s=s: x[s * rows : (s + 1) * rows], batch) for s in range(placed.sheets)]
    return parts, runs


def _by_node(forest: Forest, placed: Placed, runs, logp: np.ndarray, trees: Sequence[Tree]):
    """The numbers of each target node."""
    own = np.flatnonzero(runs.own)
    run_of = dict(zip(placed.which[runs.item[own]].tolist(), own.tolist(), strict=True))
    found = []
    for tree, where in zip(trees, forest.place, strict=True):
        told = {}
        for node, item in enumerate(where.tolist()):
            if not tree.nodes[node].target:
                continue
            if not len(tree.nodes[node].token):
                told[node] = np.zeros(0)
                continue
            run = run_of[item]
            first, length = int(runs.start[run]), int(runs.length[run])
            told[node] = logp[runs.row[run], first : first + length].astype(np.float64)
            if runs.parent[run] < 0:
                told[node][0] = np.nan
        found.append(told)
    return found
