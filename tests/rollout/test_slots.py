"""How many slots are chosen, and that policies ask for them."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxsrl.collect.settings import BatchShapes
from jaxsrl.models.config import preset
from jaxsrl.policy import Compiled, Placement, make_policy
from jaxsrl.rollout import sampler, slots
from jaxsrl.rollout.sampling import Sampling
from jaxsrl.rollout.slots import MOST, choose_slots, expected_lengths, own_columns
from jaxsrl.sharding import MeshShape, make_mesh
from jaxsrl.types import Prompts

SMALL = preset("qwen2.5-0.5b")


def prompts(rows, jobs, tokens):
    """Shapes alone."""
    none = lambda *shape: jax.ShapeDtypeStruct(shape, np.int32)
    row, job = none(rows, tokens), none(rows, jobs)
    return Prompts(
        token=row, position=row, enter=row, leave=row, slot_parent=job, slot_enter=job, slot_active=job,
        slot_address=none(rows, jobs, 6),
    )  # fmt: skip


def test_jobs_queue_where_caches_are_read_more_than_weights():
    """One row waits for the weights and not for its slots; with 64 rows on a device the slots are what is read."""
    of = lambda rows, jobs, mesh=None: choose_slots((SMALL,), 300, mesh, prompts(rows, jobs, 1408))
    assert of(1, 72) == 72 and of(64, 1) == 1
    assert 72 / MOST <= of(64, 72) < 72
    assert of(64, 72, make_mesh(MeshShape(data=8))) == of(8, 72)  # what a device holds counts
    assert choose_slots((preset("0.2M"),), 32, None, prompts(8, 56, 96)) == 56  # turns cost more than what they read
    assert choose_slots((SMALL, SMALL), 300, None, prompts(64, 72, 1408)) == of(64, 72)  # twice of everything


def test_short_completions_need_no_queue(monkeypatch):
    """Where all are as long as the cap nobody waits, so that nothing is won."""
    even = lambda rows, jobs, cap: np.full((rows, jobs), cap)
    monkeypatch.setattr(slots, "expected_lengths", even)
    assert choose_slots((SMALL,), 300, None, prompts(64, 72, 1408)) == 72


def test_what_is_expected():
    length = expected_lengths(8, 2000, 300)
    assert length.min() >= 1 and length.max() == 300 and 140 < length.mean() < 150
    assert own_columns(length, 300, queued=False) == 300 * 0.625
    assert 0.4 < own_columns(length, 300, queued=True) / 300 < 0.5


def test_a_policy_chooses_unless_it_is_told(monkeypatch):
    """What training asks for is `rows.at_once`; evaluation leaves it open."""
    asked, place = [], Placement(mesh=None, sampler_mesh=None, moves=False)
    monkeypatch.setattr("jaxsrl.policy.make_sampler", lambda *args, **more: asked.append(more) or sampler.make_sampler)
    policy = make_policy(SMALL, None, None, None, place, (0,), Compiled(), known=5)
    sampling = Sampling(max_new_tokens=300)
    open_, fixed = policy.sampler(sampling), policy.sampler(sampling, BatchShapes(at_once=3).at_once)
    assert fixed is not open_ and policy.sampler(replace(sampling, temperature=0.5), 3) is fixed
    assert asked[0]["slots"](prompts(1, 72, 1408)) == 72 and asked[1]["slots"] == 3
    assert [more["known"] for more in asked] == [5, 5]
    with pytest.raises(ValueError, match="rows.at_once must be >= 1"):
        BatchShapes(at_once=0)
