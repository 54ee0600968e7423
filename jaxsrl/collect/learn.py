"""From a collection to optimizer steps: rows are planned from lengths and flags, filled on the device, learned from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Array

from jaxsrl.collect.collect import Collection, Whole
from jaxsrl.collect.device import CARRIES, KEPT
from jaxsrl.data.compaction import Plan, plan
from jaxsrl.data.layout import Layout
from jaxsrl.data.shapes import Shapes
from jaxsrl.types import (
    Batch,
    Completions,
    Metrics,
    Needs,
    Numbers,
    Params,
    Segments,
    TokenWeights,
    TrainState,
    Weights,
)


@dataclass(frozen=True, kw_only=True)
class Learner:
    """The functions and settings that turn a step's material into optimizer steps; the same at every step of a stage.

    Args:
      fill: (segments, trunk, completions, weights, group) -> Batch; `unfill` (log-probs [R T], segments, lengths, C) ->
        [P C]; `score` (params, batch) -> log-probs [R T]. Compiled.
      rate: optimizer step -> learning rate.
      train_step: (state, batches, numbers, *frozen) -> (state, metrics).
      still: state -> (state, metrics); the step where nothing carries weight.
      whole: trained parameters -> the model's.
      place_rows: (rows of a batch that this process has, how many there are in all) -> the batch on the devices.
      held: (rows of a batch) -> which of them this process has; None where it has all.
      parts: of the devices, that have rows of their own.
      compact: rows are planned from what was sampled; else from the layout alone, with room for whole completions.
      updates: times that a collection is learned from.
      minibatches: optimizer steps each time, on parts that hold a demonstration with all its groups.
      weigh_part: see `device.make_weigh_part`.
    """

    needs: Needs
    shapes: Shapes
    numbers: Numbers
    fill: Callable[..., Batch]
    unfill: Callable[..., Array]
    score: Callable[..., Array]
    rate: Callable[[Array], Array]
    gradient: Callable[..., Any]
    train_step: Callable[..., tuple[TrainState, Metrics]]
    still: Callable[[TrainState], tuple[TrainState, Metrics]]
    whole: Callable[[Params], Params]
    frozen: tuple[Params, ...] = ()
    place_rows: Callable[[Segments, int], Segments] = lambda segments, rows: segments
    held: Callable[[int], Sequence[bool]] | None = None
    parts: int = 1
    compact: bool = True
    updates: int = 1
    minibatches: int = 1
    weigh_part: Callable[..., Weights] | None = None
    place: Callable[[Any], Any] = lambda x: x
    behavior: Literal["sampler", "recompute"] = "sampler"


def learn(
    learner: Learner, state: TrainState, collection: Collection, reference: Callable[[], Params]
) -> tuple[TrainState, list[Metrics], Metrics]:
    """The optimizer steps on one collection.

    Args:
      reference: the frozen reference's parameters, on the device; asked where the loss compares with them.
    Returns: the state, metrics of each step (on the device still; none where nothing carried weight), and what the rows
      came to.
    """
    parts = [collection] if learner.minibatches == 1 else parts_of(learner, collection)
    planned = [rows_of(learner, part) for part in parts]
    batches = [
        [filled(learner, *one, part) for one in zip(made.batches, made.rows, strict=True)]
        if part.carries.any() or part.trunk_used.any()
        else []
        for made, part in zip(planned, parts, strict=True)
    ]
    if learner.needs.reference and any(batches):
        batches = _scored(learner, reference(), batches, "ref_logp")
    if learner.behavior == "recompute":  # before the first of these steps, whatever part it takes
        batches = _scored(learner, learner.whole(state.params), batches, "behavior_logp")
    metrics = []
    for batch in batches if len(parts) > 1 else batches * learner.updates:
        if batch:
            state, found = learner.train_step(state, batch, learner.numbers, *learner.frozen)
        else:  # every group was dropped, and the refill bound met: a step that moves nothing
            state, found = learner.still(state)
        metrics.append(found)
    times = learner.updates if len(parts) > 1 else 1
    return state, metrics, {name: sum(p.metrics[name] for p in planned) // times for name in planned[0].metrics}


def _scored(learner: Learner, params: Params, batches: list[list[Batch]], name: str) -> list[list[Batch]]:
    return [[replace(batch, **{name: learner.score(params, batch)}) for batch in part] for part in batches]


def parts_of(learner: Learner, collection: Collection) -> list[Collection]:
    """The minibatches of a collection, in the order in which they are learned from.

    Demonstrations are dealt anew for each time that the collection is learned from, those in use first: no minibatch
    has two more of them than another. What is dealt follows from the position in the data alone.
    """
    whole, weighed, groups = collection.whole, collection.weighed, collection.whole.groups
    owner = np.zeros(len(groups.group), int)  # of a job, its demonstration
    owner[: len(collection.layout.jobs.demonstration)] = collection.layout.jobs.demonstration
    kept = (collection.flags & KEPT) != 0
    of_group, kept_group = owner[groups.member[:, 0]], np.zeros(len(groups.member), bool)
    kept_group[groups.group[kept]] = True
    used = np.asarray(collection.trunk_used) | (np.bincount(owner[kept], minlength=len(collection.trunk_used)) > 0)
    known = learner.place((groups, whole.trunk.target))
    out = []
    for update in range(learner.updates):
        order = np.random.default_rng((collection.position, update)).permutation(len(used))
        part = np.empty(len(used), int)
        part[order[np.argsort(~used[order], kind="stable")]] = np.arange(len(used)) % learner.minibatches
        for index in range(learner.minibatches):
            own = part == index
            weights = learner.weigh_part(
                collection.completions, *known, weighed.reward, learner.place(np.int32(collection.step)),
                learner.numbers, collection.ref_logp, *learner.place((kept_group & own[of_group], own)),
            )  # fmt: skip
            flags = np.where(own[owner], collection.flags, collection.flags & ~np.uint8(CARRIES))
            out.append(replace(
                collection, weighed=replace(weighed, weights=weights), flags=flags,
                trunk_used=collection.trunk_used & own,
            ))  # fmt: skip
    return out


def rows_of(learner: Learner, collection: Collection) -> Plan:
    """Where every token of the step stands in the learner's rows."""
    if not learner.compact:
        return own_rows_plan(learner, collection.layout, collection.completions.token.shape[1], collection.rounds)
    return plan(
        collection.layout.tables,
        collection.length,
        collection.carries,
        collection.trunk_used,
        learner.shapes,
        whole_groups=learner.needs.whole_groups,
        parts=learner.parts,
        held=learner.held,
    )


def own_rows_plan(learner: Learner, layout: Layout, cap: int, rounds: int) -> Plan:
    """The layout's own rows, with room for whole completions: as many batches in every step, of one size."""
    active, shapes = layout.jobs.active, learner.shapes
    batch = max(shapes.rows)
    return plan(
        layout.tables, np.where(active, cap, 0), active, np.ones(len(layout.trunk.target), bool), shapes,
        whole_groups=learner.needs.whole_groups, rows=(batch,) * -(-shapes.round_rows * rounds // batch),
        held=learner.held,
    )  # fmt: skip


def filled(learner: Learner, segments: Segments, rows: int, collection: Collection) -> Batch:
    whole, weights = collection.whole, collection.weighed.weights
    placed = learner.place_rows(segments, rows)
    return learner.fill(placed, whole.trunk, collection.completions, weights, whole.groups.group)


def log_probs(learner: Learner, params: Params, layout: Layout, whole: Whole, completions: Completions) -> Array:
    """[P C] log-probs of completions, nats; 0 behind their ends. A fill with unit weights.

    Rows have room for whole completions, as nothing was fetched yet that would say how long they are.
    """
    shape = completions.token.shape
    one, none = np.ones(shape, np.float32), np.zeros(whole.trunk.target.shape, np.float32)
    weights = Weights(
        trunk=TokenWeights(nll=none, pg=none, advantage=none), rollouts=TokenWeights(nll=0 * one, pg=one, advantage=one)
    )
    length, unused = np.where(whole.groups.active, shape[1], 0), np.zeros(len(none), bool)
    out = 0.0
    made = plan(layout.tables, length, whole.groups.active, unused, learner.shapes, held=learner.held)
    for segments, rows in zip(made.batches, made.rows, strict=True):
        placed = learner.place_rows(segments, rows)
        batch = learner.fill(placed, whole.trunk, completions, weights, whole.groups.group)
        out = out + learner.unfill(learner.score(params, batch), placed, completions.length, shape[1])
    return out
