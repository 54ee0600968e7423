"""Rollouts and batches made by hand, for every test of an objective."""

import numpy as np
import pytest

from jaxsrl.types import Batch, Rollouts


def rollouts_of(group, lengths, *, width=None, truncated=None, demonstration=None, form="solve", logp=None):
    """Rollouts with the given group ids and lengths in tokens; a demonstration for each group, in order of their ids,
    unless it is given."""
    lengths = np.asarray(lengths)
    width = width or int(lengths.max(initial=1))
    count, none = len(lengths), np.zeros(len(lengths), int)
    owner = np.unique(group, return_inverse=True)[1] if demonstration is None else np.asarray(demonstration)
    return Rollouts(
        token=np.zeros((count, width), np.int32), mask=np.arange(width) < lengths[:, None],
        behavior_logp=np.zeros((count, width)) if logp is None else np.asarray(logp), demonstration=owner,
        form=(form,) * count, branch=none, sample=none, group=np.asarray(group),
        truncated=np.zeros(count, bool) if truncated is None else np.asarray(truncated), text=("",) * count,
    )  # fmt: skip


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
