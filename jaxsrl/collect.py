"""Prompts to rollouts to rewards to batches, for training and evaluation alike."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import numpy as np

from jaxsrl.data.chat import Template, Tokenizer, prefill
from jaxsrl.data.packing import pack, pack_prompts
from jaxsrl.data.tree import attach, build, count_tokens, target_mask
from jaxsrl.processes import fetch, from_each
from jaxsrl.types import (
    Batch,
    BranchPoint,
    Demonstration,
    Grades,
    Mean,
    Metrics,
    Objective,
    Params,
    Rollouts,
    TokenBytes,
    TokenWeights,
    Tree,
)


class Source(Protocol):
    """Demonstrations in an order that is a function of the position alone."""

    def take(self, position: int, count: int) -> tuple[list[Demonstration], int]: ...


@dataclass(frozen=True, kw_only=True)
class Collect:
    """What an optimizer step is made of.

    Args:
      demonstrations: drawn per round.
      prompts: groups with weight that a step wants; rounds are added until it has them, surplus is left out. None
        takes one round as it comes.
      max_refills: bound on added rounds; a step that is still short goes ahead with what it has.
    """

    demonstrations: int = 8
    prompts: int | None = None
    max_refills: int = 3

    def __post_init__(self):
        if self.demonstrations < 1 or self.max_refills < 0 or (self.prompts is not None and self.prompts < 1):
            raise ValueError(
                f"demonstrations and prompts must be >= 1 and max_refills >= 0, got demonstrations="
                f"{self.demonstrations} prompts={self.prompts} max_refills={self.max_refills}"
            )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Shapes of the compiled programs, in tokens and counts; they bound memory and change no number.

    Args:
      tokens, rows: row length and rows of a learner batch.
      prompt_tokens, prompt_rows, slots: row length and rows of a sampler call, and completions per row.
      evaluate_rows, evaluate_slots: the same in evaluation; whole solutions take one slot a row.
    """

    tokens: int = 512
    rows: int = 8
    prompt_tokens: int = 256
    prompt_rows: int = 8
    slots: int = 32
    evaluate_rows: int = 16
    evaluate_slots: int = 8

    def __post_init__(self):
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"rows.{name} must be >= 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A compiled sampler with everything that stays the same between its calls.

    `sample(params, prompts, key, temperature) -> (token, logp, length)`.
    """

    sample: Callable
    tokenizer: Tokenizer
    template: Template
    rows: Rows
    max_new_tokens: int
    token_bytes: TokenBytes | None = None  # for graders that work on the device


@dataclass(frozen=True, kw_only=True)
class Collection:
    """One optimizer step's material. `kept` says per rollout whether it carries weight."""

    demonstrations: tuple[Demonstration, ...]
    trees: tuple[Tree, ...]
    rollouts: Rollouts
    grades: Grades | None
    trunk_weights: TokenWeights
    rollout_weights: TokenWeights
    kept: np.ndarray
    position: int
    metrics: Metrics
    whole_groups: bool = False


def complete(
    actor: Actor,
    params: Params,
    key: jax.Array,
    temperature: float,
    trees: Sequence[Tree],
    points: Sequence[Sequence[BranchPoint]],
    *,
    refill: int = 0,
    offsets: Sequence[int] | None = None,
    first_demonstration: int = 0,
    first_group: int = 0,
) -> Rollouts:
    """Samples every branch point of every tree. Rollouts come ordered by tree, branch point and sample."""
    if not any(points):
        return no_rollouts(actor.max_new_tokens)
    shape = actor.rows
    prompts, used = pack_prompts(
        trees, points, row_tokens=shape.prompt_tokens, row_slots=shape.slots, rows=shape.prompt_rows,
        refill=refill, offsets=offsets,
    )  # fmt: skip
    calls = (actor.sample(params, batch, key, np.float32(temperature)) for batch in prompts)
    out: dict[str, list] = {name: [] for name in ("slot", "token", "logp", "length")}
    for (token, logp, length), where in zip(_fetched(calls), used, strict=True):
        for row, column, slot in where:
            values = (slot, token[row, column], logp[row, column], length[row, column])
            for name, value in zip(out, values, strict=True):
                out[name].append(value)
    order = sorted(range(len(out["slot"])), key=lambda i: _slot_order(out["slot"][i], points))
    return _rollouts(actor, [{name: out[name][i] for name in out} for i in order], first_demonstration, first_group)


def _fetched(calls: Iterable[Any]) -> Iterator[Any]:
    """What calls return, on the host. The next one is on its way meanwhile, but no more: each may be the last."""
    before = None
    for now in calls:
        if before is not None:
            yield fetch(before)
        before = now
    yield fetch(before)


def _slot_order(slot, points):
    return slot.tree, points[slot.tree].index(slot.point), slot.sample


def _rollouts(actor: Actor, rows: Sequence[Mapping[str, Any]], first_demonstration: int, first_group: int) -> Rollouts:
    cap, end = actor.max_new_tokens, actor.tokenizer.end
    stack = lambda name, dtype: np.array([row[name] for row in rows], dtype).reshape(len(rows), -1)
    token, logp = stack("token", np.int32), stack("logp", np.float64 if _is64(rows) else np.float32)
    length = stack("length", np.int64)[:, 0] if rows else np.zeros(0, int)
    token, logp = token.reshape(len(rows), cap), logp.reshape(len(rows), cap)
    ended = token[np.arange(len(rows)), np.maximum(length, 1) - 1] == end
    given = actor.tokenizer.decode(prefill(actor.template, actor.tokenizer))
    groups: dict[tuple, int] = {}
    for row in rows:
        groups.setdefault((row["slot"].tree, row["slot"].point), first_group + len(groups))
    return Rollouts(
        token=token,
        mask=np.arange(cap) < length[:, None],
        behavior_logp=logp,
        demonstration=np.array([row["slot"].tree + first_demonstration for row in rows], int),
        form=tuple(row["slot"].point.form for row in rows),
        branch=np.array([row["slot"].point.after for row in rows], int),
        sample=np.array([row["slot"].sample for row in rows], int),
        group=np.array([groups[row["slot"].tree, row["slot"].point] for row in rows], int),
        truncated=~ended,
        text=tuple(given + actor.tokenizer.decode(token[i, : length[i] - ended[i]].tolist()) for i in range(len(rows))),
        token_bytes=actor.token_bytes,
    )


def _is64(rows) -> bool:
    return bool(rows) and rows[0]["logp"].dtype == np.float64


def no_rollouts(max_new_tokens: int) -> Rollouts:
    """What an objective without branch points collects."""
    empty, none = np.zeros((0, max_new_tokens)), np.zeros(0, int)
    return Rollouts(
        token=empty.astype(np.int32), mask=empty.astype(bool), behavior_logp=empty.astype(np.float32),
        demonstration=none, form=(), branch=none, sample=none, group=none, truncated=none.astype(bool), text=(),
    )  # fmt: skip


def join(parts: Sequence[Rollouts]) -> Rollouts:
    """Rollouts of several rounds, in order."""
    # Of the tokenizer, hence the same in every round that sampled.
    values = {"token_bytes": next((part.token_bytes for part in parts if part.token_bytes is not None), None)}
    for name in vars(parts[0]).keys() - values.keys():
        column = [value for part in parts if (value := getattr(part, name)) is not None]
        values[name] = sum(column, ()) if name in ("form", "text") else np.concatenate(column) if column else None
    return Rollouts(**values)


def select(rollouts: Rollouts, which: np.ndarray) -> Rollouts:
    """The rollouts at the given indices."""
    values = {"token_bytes": rollouts.token_bytes}
    for name in vars(rollouts).keys() - values.keys():
        value = getattr(rollouts, name)
        if value is not None:
            values[name] = tuple(value[i] for i in which) if name in ("form", "text") else value[which]
    return Rollouts(**values)


def reference_logp(
    trees: Sequence[Tree], rollouts: Rollouts, rows: Rows, score: Callable[[Batch], jax.Array]
) -> np.ndarray:
    """[P, C] log-probs of the rollouts' tokens under a frozen reference, nats; 0 past their ends.

    Args:
      trees: the one at `rollouts.demonstration` holds a rollout's branch point.
      score: batch -> log-probs [R, T] of the tokens with weight.
    """
    leaves = [attach(tree, rollouts, np.flatnonzero(rollouts.demonstration == m)) for m, tree in enumerate(trees)]
    one, target = rollouts.mask.astype(np.float32), np.zeros(target_mask(trees).shape)
    none = TokenWeights(nll=target, pg=target, advantage=target)
    packed, _ = pack(
        leaves, rollouts.behavior_logp, rollouts.mask, none, TokenWeights(nll=0 * one, pg=one, advantage=one),
        row_tokens=rows.tokens, rows=rows.rows,
    )  # fmt: skip
    out = np.zeros(rollouts.mask.shape)
    for batch, logp in [(batch, fetch(score(batch))) for batch in packed]:
        for p in np.unique(batch.rollout[batch.rollout >= 0]):
            out[p, rollouts.mask[p]] = logp[batch.rollout == p]  # row-major: a rollout's tokens in order
    return out


def collect(
    objective: Objective,
    source: Source,
    position: int,
    step: int,
    stats: Mapping[str, float],
    settings: Collect,
    actor: Actor,
    params: Params,
    key: jax.Array,
    temperature: float,
    reference: Callable[[Batch], jax.Array] | None = None,
) -> Collection:
    """Gathers one optimizer step: draws demonstrations, samples, grades and weighs, and refills dropped groups.

    Refill happens between calls of the compiled sampler, so it never changes a shape. The key is the step's. A
    `reference` scores rollouts before they are weighed, for objectives with the KL in the reward.
    """
    demonstrations: list[Demonstration] = []
    trees: list[Tree] = []
    rounds: list[Rollouts] = []
    grades: list[Grades] = []
    for refill in range(settings.max_refills + 1):
        drawn, position = source.take(position, settings.demonstrations)
        points = [objective.branch_points(d, stats, step) for d in drawn]
        new = [
            build(d, p, objective.trunk, actor.template, actor.tokenizer) for d, p in zip(drawn, points, strict=True)
        ]
        first = sum(len(np.unique(r.group)) for r in rounds)
        if any(points):
            rollouts = complete(
                actor, params, key, temperature, new, points,
                refill=refill, first_demonstration=len(demonstrations), first_group=first,
            )  # fmt: skip
            demonstrations += drawn
            grades.append(_grade(objective, rollouts, demonstrations))
            if reference is not None:
                rollouts = replace(rollouts, ref_logp=reference_logp([*trees, *new], rollouts, actor.rows, reference))
        else:
            rollouts = no_rollouts(actor.max_new_tokens)
            demonstrations += drawn
        trees += new
        rounds.append(rollouts)
        together = join(rounds)
        reward = np.concatenate([g.reward for g in grades]) if grades else np.zeros(0)
        target = target_mask(trees)
        weights = objective.weigh(together, reward, target, step)
        kept = _kept_groups(together, weights[1])
        if settings.prompts is None or len(kept) >= settings.prompts or (objective.trunk and not len(together)):
            break  # demonstrations that are trained on themselves need no rollouts
    metrics = _filter_metrics(together, kept, settings, len(rounds)) | {
        "collect/prefilled_tokens": sum(count_tokens(tree, tree.branch.values()) for tree in trees),
        "collect/sampled_tokens": int(together.mask.sum()),
    }
    weights, carried = _trim(objective, together, reward, target, step, weights, kept, settings.prompts)
    grade = _join_grades(grades)
    return Collection(
        demonstrations=tuple(demonstrations), trees=tuple(trees), rollouts=together, grades=grade,
        trunk_weights=weights[0], rollout_weights=weights[1], kept=carried, position=position,
        metrics=metrics | (grade.metrics if grade else {}),
        whole_groups=getattr(objective, "whole_groups", False),
    )  # fmt: skip


def _kept_groups(rollouts: Rollouts, weights: TokenWeights) -> np.ndarray:
    """Ids of the groups that carry weight, in the order they were drawn."""
    weighed = ((weights.pg != 0) | (weights.nll != 0)).any(axis=1)
    return np.unique(rollouts.group[weighed])


def _trim(objective, rollouts, reward, target, step, weights, kept, wanted):
    """Weights of a step that uses at most `wanted` groups; surplus groups get none and are not in any mean."""
    if wanted is None or len(kept) <= wanted:
        return weights, np.isin(rollouts.group, kept)
    used = np.flatnonzero(np.isin(rollouts.group, kept[:wanted]))
    trunk, part = objective.weigh(select(rollouts, used), reward[used], target, step)
    full = {}
    for name, value in vars(part).items():
        full[name] = np.zeros(rollouts.mask.shape, value.dtype)
        full[name][used] = value
    # The advantage of a surplus group is still what its rewards say; only its weight is gone.
    full["advantage"] = np.where(
        np.isin(np.arange(len(rollouts)), used)[:, None], full["advantage"], weights[1].advantage
    )
    return (trunk, TokenWeights(**full)), np.isin(rollouts.group, kept[:wanted])


def _filter_metrics(rollouts: Rollouts, kept, settings: Collect, rounds: int) -> Metrics:
    groups = len(np.unique(rollouts.group))
    if not groups:
        return {}
    short = settings.prompts is not None and len(kept) < settings.prompts
    length = rollouts.mask.sum(axis=1)
    return {
        "collect/groups": groups,
        "collect/kept_share": len(kept) / groups,
        "collect/rounds": rounds,
        "collect/short": int(short),
        "completion/tokens_mean": float(length.mean()),
        "completion/truncated_share": float(rollouts.truncated.mean()),
        "completion/entropy": float(-rollouts.behavior_logp[rollouts.mask].mean(dtype=np.float64)),
    }


def _grade(objective: Objective, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Grades:
    """What the objective's grader says. Each of several processes grades groups of its own and tells the others."""
    if jax.process_count() == 1:
        return objective.reward(rollouts, demonstrations)
    shares = np.array_split(np.unique(rollouts.group), jax.process_count())

    def grade() -> dict[str, Any]:
        own = shares[jax.process_index()]
        if not own.size:
            return {"reward": (), "action": (), "expert": (), "settings": {}, "means": {}}
        said = objective.reward(select(rollouts, np.flatnonzero(np.isin(rollouts.group, own))), demonstrations)
        return {name: getattr(said, name) for name in ("action", "expert", "settings", "means")} | {
            "reward": said.reward.tolist()
        }

    # Groups lie in order and so do processes: what they say is in the order of the rollouts.
    return _join_grades([
        Grades(
            reward=np.array(said["reward"], np.float64), action=said["action"], expert=said["expert"],
            settings=said["settings"], means={name: Mean(*value) for name, value in said["means"].items()},
        ) for said in from_each(grade)
    ])  # fmt: skip


def _join_grades(grades: Sequence[Grades]) -> Grades | None:
    if not grades:
        return None
    parts: dict[str, list[Mean]] = {}
    for g in grades:
        for name, mean in g.means.items():
            parts.setdefault(name, []).append(mean)
    return Grades(
        reward=np.concatenate([g.reward for g in grades]),
        action=sum((tuple(g.action) for g in grades), ()),
        expert=sum((tuple(g.expert) for g in grades), ()),
        settings=grades[0].settings,
        means={name: Mean(*map(sum, zip(*found, strict=True))) for name, found in parts.items()},
    )


def batches(collection: Collection, rows: Rows) -> tuple[list[Batch], Metrics]:
    """Packs a collection for the learner; groups without weight take no room."""
    kept = np.flatnonzero(collection.kept)
    owner = collection.rollouts.demonstration[kept]
    trees = [attach(t, collection.rollouts, kept[owner == m]) for m, t in enumerate(collection.trees)]
    return pack(
        trees, collection.rollouts.behavior_logp, collection.rollouts.mask,
        collection.trunk_weights, collection.rollout_weights, row_tokens=rows.tokens, rows=rows.rows,
        groups=collection.rollouts.group if collection.whole_groups else None,
    )  # fmt: skip


def rollout_lines(collection: Collection, stage: str, step: int) -> list[dict[str, Any]]:
    """One record per rollout for `rollouts/*.jsonl`: enough to recompute its reward and advantage."""
    r, g = collection.rollouts, collection.grades
    lines = []
    for p in range(len(r)):
        demonstration = collection.demonstrations[r.demonstration[p]]
        lines.append({
            "stage": stage, "step": step, "problem": demonstration.problem_id, "branch": int(r.branch[p]),
            "group": int(r.group[p]), "sample": int(r.sample[p]), "expert_action": g.expert[p],
            "completion": r.text[p], "truncated": bool(r.truncated[p]), "action": g.action[p],
            "reward": float(g.reward[p]), "advantage": float(collection.rollout_weights.advantage[p][r.mask[p]][0]),
            "kept": bool(collection.kept[p]), "tokens": int(r.mask[p].sum()),
            "direct_or_chained": "chained" if r.form[p] == "step" else "direct", "reward_settings": dict(g.settings),
        })  # fmt: skip
    return lines


def with_reference(batch: Batch, score: Callable, params: Params) -> Batch:
    """The batch with `ref_logp` under the frozen reference, computed once."""
    return replace(batch, ref_logp=score(params, batch))
