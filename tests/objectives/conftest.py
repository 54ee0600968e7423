"""Rollouts and batches made by hand, for every test of an objective."""

import jax
import numpy as np
import pytest

from jaxsrl.types import Batch
from tests.objectives.ragged import rollouts_of


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """The test runs once in each; what it is given is how close a number has to come, relatively."""
    with jax.enable_x64(request.param == "float64"):
        yield 1e-10 if request.param == "float64" else 1e-5


def batch_of(dtype=np.float32, **fields):
    """A batch in which everything not given is zero, but for `rollout`: -1, the trunk."""
    shape = np.shape(next(iter(fields.values())))
    whole = {name: np.zeros(shape, np.int32) for name in ("token", "position", "enter", "leave", "parent")}
    whole["rollout"] = np.full(shape, -1, np.int32)
    whole |= {name: np.zeros(shape, dtype) for name in ("nll_weight", "pg_weight", "advantage", "behavior_logp")}
    kind = lambda name: np.int32 if name in ("rollout", "group") else dtype
    return Batch(**whole | {name: np.asarray(value, kind(name)) for name, value in fields.items()})


@pytest.fixture
def make_rollouts():
    return rollouts_of


@pytest.fixture
def make_batch():
    return batch_of


def laid_out(rollouts, trunk, weights, logp, *, trunk_logp=None, seed=0, rows=3, dtype=np.float64, ref_logp=None):
    """A batch with the rollouts' tokens in rows, in shuffled order, and demonstrations' targets between them.

    Returns: the batch, log-probs [R T], and where token [p, t] stands: an int array [P C] into the flat batch.
    """
    rng = np.random.default_rng(seed)
    pieces = [("rollout", p) for p in range(len(rollouts))] + [("trunk", m) for m in range(len(trunk.nll))]
    pieces = [pieces[i] for i in rng.permutation(len(pieces))]
    fields = ("nll", "pg", "advantage")
    lanes = [[] for _ in range(rows)]
    for i, (kind, index) in enumerate(pieces):
        source = weights if kind == "rollout" else trunk
        used = rollouts.mask[index] if kind == "rollout" else np.ones(trunk.nll.shape[1], bool)
        for t in np.flatnonzero(used):
            values = {name: getattr(source, name)[index, t] for name in fields}
            own = kind == "rollout"
            values["logp"] = logp[index, t] if own else trunk_logp[index, t]
            values["behavior_logp"] = rollouts.behavior_logp[index, t] if own else 0.0
            values["ref_logp"] = ref_logp[index, t] if own and ref_logp is not None else 0.0
            lanes[i % rows].append(values | {"rollout": index if own else -1, "at": (kind, index, t)})
    width = max(map(len, lanes)) + 2
    names = ("nll", "pg", "advantage", "logp", "behavior_logp", "ref_logp", "rollout")
    flat = {name: np.zeros((rows, width), dtype) for name in names}
    flat["rollout"] -= 1
    place = np.full(rollouts.mask.shape, -1)
    for r, lane in enumerate(lanes):
        for c, values in enumerate(lane):
            for name in names:
                flat[name][r, c] = values[name]
            kind, index, t = values["at"]
            if kind == "rollout":
                place[index, t] = r * width + c
    batch = batch_of(
        dtype, nll_weight=flat["nll"], pg_weight=flat["pg"], advantage=flat["advantage"],
        behavior_logp=flat["behavior_logp"], rollout=flat["rollout"], ref_logp=flat["ref_logp"],
    )  # fmt: skip
    return batch, flat["logp"], place


@pytest.fixture
def lay_out():
    return laid_out
