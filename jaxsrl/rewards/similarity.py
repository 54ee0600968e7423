"""Step-wise reward: how close the model's action is to the expert's."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsrl.old_names import moved
from jaxsrl.ops.similarity import LONGEST, ON_HOST, Backend, blocks, lcs_length, matched_length
from jaxsrl.ops.text import code_points
from jaxsrl.rewards.format import Think, parse
from jaxsrl.rewards.similarity_device import AUTOJUNK_FROM, step_means, step_rewards
from jaxsrl.types import Completions, Demonstration, Mean, Rewards, Rollouts, Rooms, Scores, TokenBytes, means

Unit = Literal["char", "word"]  # Unicode code points, or runs between white space
Metric = Literal["ratio", "indel", "exact"]
Where = Literal["host", "device"]
# Where the tokens are made. On a CPU that is the host, which has nothing to compile.
DEFAULT_WHERE: dict[str, Where] = {"cpu": "host", "gpu": "device", "tpu": "device"}


@dataclass(frozen=True, kw_only=True)
class ActionSimilarity:
    """2M / (|model| + |expert|) of the next action, in 0..1; `malformed` where there is no action to compare.

    Both actions are stripped of white space at their ends. The thought is never looked at. Two texts of the same
    characters get 1.0; an empty action is malformed. The number is difflib's to the last bit.

    Args:
      unit: what is compared. Thresholds of `autojunk` count these.
      autojunk: difflib's default and therefore the paper's. An expert action of 200 units or more loses most of its
        characters in the search: ratios fall by about 0.13 there (synthetic math steps). False has no such
        cliff; the metrics show it.
      metric: `ratio` is difflib's; `indel` counts the longest common subsequence instead of matching blocks, another
        reward that ranks nearly alike and is cheap; `exact` gives 1.0 for equal texts, else 0.0.
      malformed: reward of a completion that is not well formed, ran into the token cap, or holds no action.
      think, prefilled: see `format.parse`. In training `prefilled` stays False: with `Template.prefill_think` a
        completion's text begins with the tag already.
      where: what scores in training. `host` calls this with texts; `device` runs `score` where the token ids are. The
        rewards are the same numbers. None takes DEFAULT_WHERE's for the platform, and the host for words.
      max_bytes, max_code_points: rooms of the device's program, for a completion and for an action, see `Rooms`; None
        takes `rooms_for` of the data. They change no reward where the host scores what does not fit.
      backend: of `ops.similarity`; None lets it choose.
    Source: arXiv:2510.25992 section 3; it leaves order, unit and autojunk open.
    """

    unit: Unit = "char"
    autojunk: bool = True
    metric: Metric = "ratio"
    malformed: float = -1.0
    think: Think = "required"
    prefilled: bool = False
    where: Where | None = None
    max_bytes: int | None = None
    max_code_points: int | None = None
    backend: Backend | None = None

    def __post_init__(self):
        for name, most in (("max_bytes", None), ("max_code_points", LONGEST)):
            room = getattr(self, name)
            if room is not None and not 1 <= room <= (most or room):
                raise ValueError(f"{name} must be >= 1{f' and <= {most}' if most else ''}, or None, got {room}")
        for name, kind in (("unit", Unit), ("metric", Metric), ("think", Think)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if not np.isfinite(self.malformed):
            raise ValueError(f"malformed must be finite, got {self.malformed}")
        if self.where not in (None, *get_args(Where)):
            raise ValueError(f"where must be None or one of {', '.join(get_args(Where))}, got {self.where!r}")
        if self.where == "device" and self._needs_host():
            raise ValueError(
                f"where='device' compares characters by ratio with a backend that compiles, got "
                f"{self._host_settings()}; leave where=None"
            )

    def __call__(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
        """From texts, on the host.

        Raises: ValueError for a rollout that writes a whole solution, or with no expert action to compare with.
        """
        expert = tuple(_expert_action(rollouts, demonstrations, row) for row in range(len(rollouts)))
        action = tuple(self._action(rollouts, row) for row in range(len(rollouts)))
        return self._described(action, expert, self._rewards(action, expert), "host")

    def on_device(self) -> bool:
        """Whether `where`, or what None stands for on the default backend, is the device."""
        if self.where is None and self._needs_host():
            return False
        return (self.where or DEFAULT_WHERE[jax.default_backend()]) == "device"

    def rooms(self, chosen: Rooms) -> Rooms:
        """What the device makes room for: `chosen` from the data, or what these settings say."""
        return Rooms(bytes=self.max_bytes or chosen.bytes, code_points=self.max_code_points or chosen.code_points)

    def score(
        self, completions: Completions, expert: Int[Array, "Q B"], expert_length: Int[Array, "Q"],
        group: Int[Array, "P"], token_bytes: TokenBytes, rooms: Rooms,
    ) -> Scores:  # fmt: skip
        """The rewards where the tokens are: see `step_rewards`. Compiles into a larger program, and under `vmap`.

        Raises: ValueError for settings that need the host, and as `step_rewards`.
        """
        if self._needs_host():
            raise ValueError(f"{self._host_settings()} cannot be scored on the device; call the reward with texts")
        return step_rewards(
            completions, expert, expert_length, group, token_bytes, rooms=rooms, autojunk=self.autojunk,
            exact=self.metric == "exact", think=self.think, prefilled=self.prefilled, malformed=self.malformed,
            backend=self.backend,
        )  # fmt: skip

    def means(self, scores: Scores, expert_length: Int[Array, "P"], counted: Bool[Array, "P"]) -> dict[str, Mean]:
        """Metrics of the counted rollouts, see `step_means`.

        Where the host scores what does not fit, count what fits alone: the means of the host's `Rewards` add to these,
        and (n, n) of `reward/unfit_share` for its n rollouts.
        """
        return step_means(scores, expert_length, counted)

    def rewards(
        self, scores: Scores, rollouts: Rollouts, demonstrations: Sequence[Demonstration], *, unfit_on_host: bool = True
    ) -> Rewards:
        """What the log shows of these rollouts' scores, on the host: `__call__`'s to the last bit, in float64.

        Args:
          unfit_on_host: what does not fit gets the host's reward; else it stays `malformed`, as in the device loop.
        Raises: ValueError as `__call__`, and if a text is not what was scored.
        """
        expert = tuple(_expert_action(rollouts, demonstrations, row) for row in range(len(rollouts)))
        action = tuple(self._action(rollouts, row) for row in range(len(rollouts)))
        formed, fits = np.asarray(scores.formed), np.asarray(scores.fits)
        for row in np.flatnonzero(fits & (formed != _formed(action))):
            raise ValueError(f"rollout {row}: `text` is not what was scored, only one of them is well formed")
        reward = np.where(formed, host_ratio(scores.matched, scores.total), self.malformed)
        unfit = np.flatnonzero(~fits)
        if unfit_on_host:
            reward[unfit] = self._rewards(*([column[i] for i in unfit] for column in (action, expert)))
        else:
            action = tuple(a if fit else None for a, fit in zip(action, fits, strict=True))
        found = self._described(action, expert, reward, "device")
        return replace(found, means={**found.means, **means({"reward/unfit_share": ~fits})})

    def _needs_host(self) -> bool:
        return self.unit != "char" or self.metric == "indel" or self.backend in ON_HOST

    def _host_settings(self) -> str:
        return f"unit={self.unit!r} metric={self.metric!r} backend={self.backend!r}"

    def _described(self, action, expert, reward, where: Where) -> Rewards:
        exact = np.array([a == e for a, e in zip(action, expert, strict=True)], bool)
        length = np.array([_count(e, self.unit) for e in expert], np.int64)
        return Rewards(
            reward=reward,
            action=action,
            expert=expert,
            settings=asdict(self) | {"order": "model, expert", "where": where},
            means=_means(reward, _formed(action), exact, length),
        )

    def _rewards(self, action: Sequence[str | None], expert: Sequence[str]) -> Float[np.ndarray, "P"]:
        reward = np.full(len(action), self.malformed, np.float64)
        reward[_formed(action)] = self._compare([(a, e) for a, e in zip(action, expert, strict=True) if a is not None])
        return reward

    def _action(self, rollouts: Rollouts, row: int) -> str | None:
        if rollouts.truncated[row]:
            return None
        parsed = parse(rollouts.text[row], think=self.think, prefilled=self.prefilled)
        return parsed and parsed.action

    def _compare(self, pairs: list[tuple[str, str]]) -> Float[np.ndarray, "P"]:
        if self.metric == "exact":
            return np.array([a == b for a, b in pairs], np.float64)
        return score_pairs(
            pairs, unit=self.unit, autojunk=self.autojunk, indel=self.metric == "indel", backend=self.backend
        )  # fmt: skip


def score_pairs(
    pairs: Sequence[tuple[str, str]],
    *,
    unit: Unit = "char",
    autojunk: bool = True,
    indel: bool = False,
    backend: Backend | None = None,
) -> Float[np.ndarray, "P"]:
    """difflib's ratio of (model, expert) texts, float64: bit for bit `SequenceMatcher(None, *pair, autojunk).ratio()`.

    Texts are compared as they are, not stripped. Equal pairs are computed once, and what belongs to an expert once for
    all that are compared with it. Arrays are padded to a power of two, 32 elements and 64 pairs at least, so that a
    compiled backend meets few shapes in a whole run. Texts that no backend takes are compared one by one.

    Args:
      indel: 2 LCS / (|model| + |expert|) instead; `autojunk` and `backend` do not matter to it.
    Raises: ValueError if `indel` is asked for texts of more than 4,096 units.
    """
    distinct = list(dict.fromkeys(pairs))
    if not distinct:
        return np.zeros(0, np.float64)
    encode = _word_ids() if unit == "word" else code_points
    coded = {text: encode(text) for pair in distinct for text in pair}
    a, b = ([coded[pair[side]] for pair in distinct] for side in (0, 1))
    total = np.array([len(x) + len(y) for x, y in zip(a, b, strict=True)], np.int64)
    long = np.array([max(len(x), len(y)) > LONGEST for x, y in zip(a, b, strict=True)])
    matched = np.zeros(len(distinct), np.int64)
    short = np.flatnonzero(~long | indel)
    if short.size:
        matched[short] = _matched([a[i] for i in short], [b[i] for i in short], autojunk, indel, backend)
    for i in np.flatnonzero(long & (not indel)):
        matched[i] = sum(size for *_, size in blocks(a[i].tolist(), b[i].tolist(), autojunk=autojunk))
    ratio = host_ratio(matched, total)
    index = {pair: row for row, pair in enumerate(distinct)}
    return ratio[[index[pair] for pair in pairs]]


def host_ratio(matched: Int[np.ndarray, "P"], total: Int[np.ndarray, "P"]) -> Float[np.ndarray, "P"]:
    """2 matched / total in float64 as difflib writes it, to the last bit; 1 for two empty texts."""
    matched, total = np.asarray(matched, np.int64), np.asarray(total, np.int64)
    return np.where(total == 0, 1.0, 2.0 * matched / np.maximum(total, 1))


def _matched(a, b, autojunk: bool, indel: bool, backend: Backend | None) -> Int[np.ndarray, "P"]:
    """Matched units of each pair of encoded texts, in one call."""
    experts = {y.tobytes(): y for y in b}
    row = {key: i for i, key in enumerate(experts)}
    pairs, rows = _bucket(len(a), 64), _bucket(len(experts), 64)
    width = _bucket(max(len(x) for x in (*a, *b)), 32)
    index = np.zeros(pairs, np.int32)
    index[: len(b)] = [row[y.tobytes()] for y in b]
    arrays = (*_padded(a, pairs, width), *_padded(list(experts.values()), rows, width))
    if indel:
        return np.asarray(lcs_length(*arrays, b_index=index), np.int64)[: len(a)]
    found = matched_length(*arrays, b_index=index, autojunk=autojunk, backend=backend)
    return np.asarray(found, np.int64)[: len(a)]


def _word_ids():
    """An encoder with its own vocabulary; ids hold for one batch."""
    ids: dict[str, int] = {}
    return lambda text: np.array([ids.setdefault(word, len(ids)) for word in text.split()], np.int32)


def _count(text: str, unit: Unit) -> int:
    return len(text.split()) if unit == "word" else len(text)


def _bucket(size: int, least: int) -> int:
    return max(least, 1 << max(size - 1, 0).bit_length())


def _padded(rows: list[np.ndarray], count: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    token = np.zeros((count, width), np.int32)
    length = np.zeros(count, np.int32)
    for i, row in enumerate(rows):
        token[i, : len(row)] = row
        length[i] = len(row)
    return token, length


def _expert_action(rollouts: Rollouts, demonstrations: Sequence[Demonstration], row: int) -> str:
    demonstration = demonstrations[rollouts.demonstration[row]]
    given = int(rollouts.branch[row])
    where = demonstration.source or demonstration.problem_id
    if rollouts.form[row] != "action":
        raise ValueError(f"rollout {row} ({where}): action similarity needs form 'action', got {rollouts.form[row]!r}")
    if not 0 <= given < len(demonstration.actions):
        raise ValueError(f"rollout {row} ({where}): no action after {given} of {len(demonstration.actions)}")
    return demonstration.actions[given].strip()


def _formed(action: Sequence[str | None]) -> Bool[np.ndarray, "P"]:
    return np.array([a is not None for a in action], bool)


def _means(
    reward: np.ndarray, formed: np.ndarray, exact: np.ndarray, length: np.ndarray
) -> dict[str, Mean]:  # fmt: skip
    """Lengths are of the expert's action, in units."""
    long = length >= AUTOJUNK_FROM
    columns = {
        "reward/mean": reward,
        "reward/similarity": reward[formed],
        "reward/malformed_share": ~formed,
        "reward/exact_share": exact,
        "reward/mean_expert_under_200": reward[~long],
        "reward/mean_expert_from_200": reward[long],
    }
    return means(columns)


def __getattr__(name: str):
    return moved(name, __name__, {"StepSimilarity": ActionSimilarity})
