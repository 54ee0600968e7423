"""What every objective promises from weights to loss: groups that are left out, tokens without weight, shapes."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.types import Batch, Collected, Objective, Weights
from tests.objectives.ragged import numbers
from tests.objectives.test_contract import ALL, GROUP, OBJECTIVES, REWARD, alike, made, weighed


@pytest.fixture
def material(x64) -> Collected:
    return made()


def in_rows(objective: Objective, found: Collected, weights: Weights) -> tuple[Any, Batch]:
    """Log-probs and a batch: a row a rollout, then a row a demonstration, all P + M of them as wide as the widest."""
    jobs, shown = found.mask.shape[0], found.target.shape[0]
    rows, width = jobs + shown, max(found.mask.shape[1], found.target.shape[1])
    wide = lambda x: jnp.pad(x, [(0, 0), (0, width - x.shape[1])])
    of = lambda name: jnp.concatenate([wide(getattr(weights.rollouts, name)), wide(getattr(weights.trunk, name))])
    of_tokens = lambda x: jnp.pad(wide(x), [(0, shown), (0, 0)])
    of_jobs = lambda x, rest: jnp.tile(jnp.pad(x, (0, shown), constant_values=rest)[:, None], (1, width))
    draw = jnp.asarray(np.random.default_rng(1).uniform(0.1, 3, (rows, width)), weights.rollouts.pg.dtype)
    blank, extra = jnp.zeros((rows, width), jnp.int32), {k: of_jobs(v, 0) for k, v in weights.extra.items()}
    return -draw, Batch(
        token=blank, position=blank, enter=blank, leave=blank, parent=blank, rollout=of_jobs(jnp.arange(jobs), -1),
        nll_weight=of("nll"), pg_weight=of("pg"), advantage=of("advantage"),
        behavior_logp=of_tokens(found.behavior_logp),
        ref_logp=of_tokens(found.ref_logp) if objective.needs.reference else None,
        group=of_jobs(found.groups.group, -1) if objective.needs.whole_groups else None,
        extra=extra | ({"entropy": draw} if objective.needs.entropy else {}),
    )  # fmt: skip


def loss_of(objective: Objective, logp, batch: Batch):
    """((loss, metrics), the slope at every log-prob)."""
    loss = lambda x: objective.token_loss(x, batch, numbers(objective))
    return jax.value_and_grad(loss, has_aux=True)(logp)


@ALL
@pytest.mark.parametrize("gone", [2, 7])
def test_a_group_that_is_left_out_is_in_no_average(name, gone, material):
    """As a surplus group is, its jobs marked as empty: the others weigh what they weigh in a step without it."""
    objective, g = OBJECTIVES[name], material.groups
    out, keep = np.array(GROUP) == gone, np.flatnonzero(np.array(GROUP) != gone)
    place = out[np.asarray(g.member)[:, 0]]  # of the group
    left = replace(g, present=g.present & ~place[:, None], active=g.active & ~out)
    less = replace(material, mask=material.mask & ~out[:, None], truncated=material.truncated & ~out, groups=left)
    got = weighed(objective, less, np.where(out, np.nan, REWARD))
    want = weighed(objective, only(material, keep, ~place), REWARD[keep])
    alike(got.trunk, want.trunk)
    for a, b in ((got.rollouts, want.rollouts), (got.extra, want.extra)):
        alike(jax.tree.map(lambda x: x[keep], a), b)
        assert not any(np.asarray(x)[out].any() for x in jax.tree.leaves(a))


def only(material: Collected, jobs, groups) -> Collected:
    """The step with these jobs and groups alone; its demonstrations are all still there."""
    g, job, place = material.groups, np.zeros(len(GROUP), int), np.cumsum(groups) - 1
    job[jobs] = np.arange(len(jobs))
    of_groups = {name: getattr(g, name)[groups] for name in ("present", "demonstration", "hash")}
    left = replace(
        g, member=jnp.asarray(job)[g.member][groups], group=jnp.asarray(place)[g.group[jobs]], column=g.column[jobs],
        active=g.active[jobs], **of_groups,
    )  # fmt: skip
    of_jobs = {name: getattr(material, name)[jobs] for name in ("mask", "behavior_logp", "ref_logp", "truncated")}
    return replace(material, groups=left, **of_jobs)


@ALL
def test_tokens_without_weight_may_hold_anything(name, material):
    """In the loss, its metrics and its gradient."""
    objective = OBJECTIVES[name]
    logp, batch = in_rows(objective, material, weighed(objective, material))
    want = loss_of(objective, logp, batch)
    free = (batch.pg_weight == 0) & (batch.nll_weight == 0)
    dirt = lambda x: None if x is None else jnp.where(free, jnp.nan, x)
    of = {name: dirt(getattr(batch, name)) for name in ("advantage", "behavior_logp", "ref_logp")}
    alike(loss_of(objective, jnp.where(free, -jnp.inf, logp), replace(batch, **of)), want)
    assert free.any() and np.asarray(want[1]).any() and not np.asarray(want[1])[free].any()


@ALL
def test_a_float32_loss_is_float64s_to_1e_5(name):
    found = {}
    for wide in (False, True):
        with jax.enable_x64(wide):
            material, objective = made(), OBJECTIVES[name]
            reward = REWARD.astype(np.float32)  # the same ones
            logp, batch = in_rows(objective, material, weighed(objective, material, reward))
            found[wide] = jax.tree.map(np.asarray, loss_of(objective, logp, batch))
    alike(found[False], found[True], rtol=1e-5, atol=2e-6)


@ALL
def test_shapes_are_checked_at_the_door(name, material):
    """One reward, or one row of log-probs, would be spread over all by broadcasting."""
    objective = OBJECTIVES[name]
    with pytest.raises(AssertionError):
        objective.weigh(material, jnp.zeros(1), numbers(objective))
    logp, batch = in_rows(objective, material, weighed(objective, material))
    with pytest.raises(AssertionError):
        objective.token_loss(logp[:1], batch, numbers(objective))
