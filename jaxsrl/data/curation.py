"""Which demonstrations a stage trains on: by how often a policy solves them, by length, by quality, or at random."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from jaxsrl.old_names import takes_old_names
from jaxsrl.types import Demonstration

Choice = Literal["random", "quality"]
Bucket = Literal["easy", "medium", "hard"]


@takes_old_names
@dataclass(frozen=True, kw_only=True)
class Curation:
    """Filters first, then `count` of what is left.

    Args:
      profile: name of an earlier stage whose rollouts say how often its policy was rewarded; one with a learning rate
        of 0 profiles the policy it starts from. Needed by `pass_rate` and `bucket`.
      success_threshold: a reward from here on is right.
      pass_rate: keeps fewest <= share of right rollouts <= most. Of 8 rollouts, 43 % of problems that are solved one
        time in ten look unsolved.
      bucket: see `bucket`.
      actions: fewest and most actions of a demonstration.
      characters: fewest and most characters of its actions together.
      count: how many to train on (LIMA: 1 000); None keeps all.
      by: `random` by seed and problem, or highest `quality` first, ties by seed and problem.
    """

    profile: str | None = None
    success_threshold: float = 1.0
    pass_rate: tuple[float, float] | None = None
    bucket: Bucket | None = None
    actions: tuple[int, int] | None = None
    characters: tuple[int, int] | None = None
    count: int | None = None
    by: Choice = "random"
    seed: int = 0

    def __post_init__(self):
        if self.by not in get_args(Choice):
            raise ValueError(f"by must be one of {', '.join(get_args(Choice))}, got {self.by!r}")
        if self.bucket is not None and self.bucket not in get_args(Bucket):
            raise ValueError(f"bucket must be one of {', '.join(get_args(Bucket))}, got {self.bucket!r}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count must be >= 1, got {self.count}")
        if (self.pass_rate or self.bucket) and self.profile is None:
            raise ValueError("pass_rate and bucket need profile, the stage whose rollouts tell them")
        for name in ("pass_rate", "actions", "characters"):
            band = getattr(self, name)
            if band is not None and not 0 <= band[0] <= band[1]:
                raise ValueError(f"{name} must be (fewest, most), got {band}")


def profiled(demonstrations: Sequence[Demonstration], lines: Iterable[Mapping[str, Any]]) -> tuple[Demonstration, ...]:
    """The demonstrations with every reward that rollout lines hold for them, by branch point.

    Raises: ValueError if two demonstrations share a problem id, by which lines name them, or no line is about any.
    """
    rewards: dict[str, dict[int, list[float]]] = {}
    for line in lines:
        rewards.setdefault(line["problem"], {}).setdefault(int(line["branch"]), []).append(float(line["reward"]))
    if not rewards.keys() & {d.problem_id for d in demonstrations}:
        raise ValueError("no rollout of the profile is about these demonstrations; profile the same data")
    seen: set[str] = set()
    out = []
    for demonstration in demonstrations:
        if demonstration.problem_id in seen:
            raise ValueError(
                f"two demonstrations of problem {demonstration.problem_id}: a profile cannot tell them apart"
            )
        seen.add(demonstration.problem_id)
        found = rewards.get(demonstration.problem_id, {})
        out.append(replace(demonstration, profile=tuple((k, tuple(found[k])) for k in sorted(found))))
    return tuple(out)


def pass_rate(demonstration: Demonstration, success_threshold: float = 1.0) -> float | None:
    """Share of right rollouts over all of a demonstration's branch points; None without any."""
    rewards = [r for _, some in demonstration.profile or () for r in some]
    return float(np.mean(np.array(rewards) >= success_threshold)) if rewards else None


def bucket(rate: float) -> Bucket:
    """`hard`: never right (Hard@8 with 8 rollouts); `easy`: right in 3 of 4 or more; `medium`: between.

    Source: arXiv:2605.28388 for hard; where easy begins is our choice.
    """
    return "hard" if rate == 0 else "easy" if rate >= 0.75 else "medium"


def curate(demonstrations: Sequence[Demonstration], settings: Curation) -> tuple[Demonstration, ...]:
    """The chosen demonstrations, in their order.

    Raises: ValueError if none or fewer than `count` are left, saying how many were left where; if `by="quality"` meets
      a demonstration without one.
    """
    left = list(demonstrations)
    counts = [("given", len(left))]

    def keep(name: str, test) -> None:
        left[:] = [d for d in left if test(d)]
        counts.append((name, len(left)))

    between = lambda value, band: value is not None and band[0] <= value <= band[1]
    rate = lambda d: pass_rate(d, settings.success_threshold)
    if settings.actions:
        keep("actions", lambda d: between(len(d.actions), settings.actions))
    if settings.characters:
        keep("characters", lambda d: between(sum(map(len, d.actions)), settings.characters))
    if settings.pass_rate:
        keep("pass_rate", lambda d: between(rate(d), settings.pass_rate))
    if settings.bucket:
        keep("bucket", lambda d: rate(d) is not None and bucket(rate(d)) == settings.bucket)
    if len(left) < (settings.count or 1):
        told = ", ".join(f"{name} {number}" for name, number in counts)
        raise ValueError(f"curation wants {settings.count or 'any'} demonstrations, left are: {told}; widen a band")
    if settings.count is None:
        return tuple(left)
    chosen = {id(d) for d in sorted(left, key=lambda d: _rank(d, settings))[: settings.count]}
    return tuple(d for d in left if id(d) in chosen)


def _rank(demonstration: Demonstration, settings: Curation) -> tuple[float, bytes]:
    draw = hashlib.sha256(f"{settings.seed}:{demonstration.problem_id}:{demonstration.source}".encode()).digest()
    if settings.by == "random":
        return 0.0, draw
    if demonstration.quality is None:
        where = demonstration.source or demonstration.problem_id
        raise ValueError(f"{where}: no quality to choose by; see Fields.quality")
    return -demonstration.quality, draw
