"""Trees, rollouts and weights as batches of the learner, in one call: a plan that is filled."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxsrl.data.compaction import Plan, plan
from jaxsrl.data.fill import fill
from jaxsrl.data.shapes import Shapes
from jaxsrl.data.tables import Tables, hang, tabulate
from jaxsrl.types import Batch, Completions, Metrics, Rollouts, Segments, Tree, Trunk, Weights

filled = jax.jit(fill, static_argnums=4)


def shapes_of(row_tokens: int, rows: int) -> Shapes:
    """Those of the learner; a plan reads no others."""
    none = dict.fromkeys(("prompt_rows", "prompt_tokens", "slots", "groups", "group_size", "trunk_tokens"), 1)
    none |= {"code_points": 0, "sheets": 0, "demonstrations": 1, "targets": 0, "round_rows": 1}
    return Shapes(**none, tokens=row_tokens, runs=row_tokens, rows=(rows,))


def pooled(trees: Sequence[Tree], rollouts: Rollouts | None) -> tuple[Tables, Trunk]:
    """Tables with the rollouts where they branch off, and what the trunk's tokens are."""
    forest = tabulate(trees)
    trunk = Trunk(token=forest.token, target=np.arange(forest.of_targets) < forest.targets[:, None])
    if rollouts is None:
        return forest.nodes, trunk
    where = zip(rollouts.demonstration, rollouts.form, rollouts.branch, strict=True)
    at = np.array([forest.place[m][trees[m].branch[form, int(k)]] for m, form, k in where], int)
    return hang(forest.nodes, at, np.arange(len(at)), rollouts.group), trunk


def planned(tables: Tables, weights: Weights, length: np.ndarray, *, row_tokens: int, rows: int, **how) -> Plan:
    """Rows of all that carries weight."""
    carries = lambda part: ((part.nll != 0) | (part.pg != 0)).any(axis=1)
    used = carries(weights.trunk)
    return plan(tables, length, carries(weights.rollouts), used, shapes_of(row_tokens, rows), **how)


def pack(
    trees: Sequence[Tree], rollouts: Rollouts | None, logp: np.ndarray, weights: Weights, *, row_tokens: int, rows: int,
    group: np.ndarray | None = None,
) -> tuple[list[Batch], Metrics]:  # fmt: skip
    """Batches of host arrays, and what packing did.

    Args:
      logp: [P C], of the rollouts' tokens.
      group: [P], of groups that stay in one row; batches then have `group`.
    """
    tables, trunk = pooled(trees, rollouts)
    if rollouts is None:
        completions = Completions(token=np.zeros(logp.shape, np.int32), logp=logp, length=np.zeros(len(logp), np.int32))
    else:
        length = rollouts.mask.sum(axis=1).astype(np.int32)
        completions = Completions(token=rollouts.token, logp=logp, length=length)
    made = planned(
        tables, weights, completions.length, row_tokens=row_tokens, rows=rows, whole_groups=group is not None
    )  # fmt: skip
    batches = [batch_of(part, trunk, completions, weights, row_tokens, group) for part in made.batches]
    return batches, made.metrics


def batch_of(
    segments: Segments, trunk: Trunk, completions: Completions, weights: Weights, row_tokens: int, group=None
) -> Batch:
    """One batch on the host."""
    return jax.device_get(filled(segments, trunk, completions, weights, row_tokens, group=group))


def logp_of(drawn: Sequence[Completions], rollouts: Rollouts) -> np.ndarray:
    """[P C], what a sampler gave each rollout's tokens, found by the tokens: evaluation does not read it."""
    there = {}
    for part in drawn:
        for token, logp in zip(np.asarray(part.token), np.asarray(part.logp), strict=True):
            there.setdefault(token.tobytes(), logp)
    return np.stack([there[token.tobytes()] for token in rollouts.token])
