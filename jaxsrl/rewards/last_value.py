"""Outcome reward that needs no host: the value that a solution's last line ends with, by code points.

    17+25-8=34
    34+40-3=71        with mark="=" the value is `71`

Tasks whose demonstrations end so are `operators.py` (`=`), `facts.py` (` is `) and `arithmetic.py` (``: the whole
line). The value of the expert's last action is the key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsrl.ops.text import compress, decode, join, occurrences, strip, whitespace
from jaxsrl.rewards.format import CLOSE, OPEN, without_thoughts
from jaxsrl.rewards.similarity import DEFAULT_WHERE, Where
from jaxsrl.types import Completions, Demonstration, Mean, Rewards, Rollouts, Rooms, Scores, TokenBytes, means

MATCHED, TOTAL = 1, 2  # of a right completion: 2 matched / total is 1


@dataclass(frozen=True, kw_only=True)
class LastValue:
    """`correct` if the last line outside of thoughts ends with the expert's value, else `wrong` or `malformed`.

    White space around the value does not count. Host and device say the same of every completion.

    Args:
      mark: the value is what follows the last of it on the last line that is not empty. A line without one is all
        value, and so is every line where the mark is empty.
      malformed: reward of a completion that ran into the token cap or says nothing outside of its thoughts.
      where: see `ActionSimilarity`.
      max_bytes: room for a completion on the device; None takes what `rooms_for` finds in the data.
    """

    mark: str = "="
    correct: float = 1.0
    wrong: float = 0.0
    malformed: float = 0.0
    where: Where | None = None
    max_bytes: int | None = None

    def __post_init__(self):
        if "\n" in self.mark or "\0" in self.mark or not self.mark.isascii():
            raise ValueError(f"mark must be ASCII without a line break or a zero, got {self.mark!r}")
        for name in ("correct", "wrong", "malformed"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if self.where not in (None, *get_args(Where)):
            raise ValueError(f"where must be None or one of {', '.join(get_args(Where))}, got {self.where!r}")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise ValueError(f"max_bytes must be >= 1, or None, got {self.max_bytes}")

    def __call__(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
        """From texts, on the host.

        Raises: ValueError for a rollout that does not write a whole solution.
        """
        found, expert = self._values(rollouts, demonstrations)
        right = np.array([f is not None and f == e != "" for f, e in zip(found, expert, strict=True)], bool)
        return self._described(found, expert, right, "host")

    def on_device(self) -> bool:
        """Whether `where`, or what None stands for on the default backend, is the device."""
        return (self.where or DEFAULT_WHERE[jax.default_backend()]) == "device"

    def rooms(self, chosen: Rooms) -> Rooms:
        """`chosen` from the data, with the bytes that these settings say."""
        return Rooms(bytes=self.max_bytes or chosen.bytes, code_points=chosen.code_points)

    def score(
        self, completions: Completions, expert: Int[Array, "Q B"], expert_length: Int[Array, "Q"],
        group: Int[Array, "P"], token_bytes: TokenBytes, rooms: Rooms,
    ) -> Scores:  # fmt: skip
        """The rewards where the tokens are. Compiles into a larger program, and under `vmap`.

        Args:
          expert: code points of the expert's last action.
        Raises: ValueError if the room holds less than what the template gave.
        """
        if rooms.bytes <= len(token_bytes.given):
            raise ValueError(
                f"rooms.bytes must hold the {len(token_bytes.given)} bytes that the template gave, got {rooms.bytes}"
            )
        read = partial(_completion_value, mark=self.mark, room=expert.shape[1], size=rooms.bytes)
        value, size, formed, fits = jax.vmap(read, (0, 0, None))(completions.token, completions.length, token_bytes)
        key, key_size = jax.vmap(partial(_value, mark=self.mark, room=expert.shape[1]))(expert, expert_length)
        fits &= ~formed | (expert_length <= expert.shape[1])[group]
        formed &= fits
        same = (size == key_size[group]) & (size > 0) & (value == key[group]).all(axis=1)
        right = formed & same
        return Scores(
            reward=self._reward(right, formed).astype(jnp.result_type(float)), matched=jnp.where(right, MATCHED, 0),
            total=jnp.full(right.shape, TOTAL), formed=formed, fits=fits,
        )  # fmt: skip

    def means(self, scores: Scores, expert_length: Int[Array, "P"], counted: Bool[Array, "P"]) -> dict[str, Mean]:
        """Metrics of the counted rollouts as (sum, over) arrays; see `ActionSimilarity.means`."""
        over = counted.sum().astype(scores.reward.dtype)
        mean = lambda value: Mean(jnp.where(counted, value.astype(scores.reward.dtype), 0).sum(), over)
        return {
            "reward/mean": mean(scores.reward),
            "reward/correct_share": mean(scores.matched == MATCHED),
            "reward/malformed_share": mean(~scores.formed),
            "reward/unfit_share": mean(~scores.fits),
        }

    def rewards(
        self, scores: Scores, rollouts: Rollouts, demonstrations: Sequence[Demonstration], *, unfit_on_host: bool = True
    ) -> Rewards:
        """What the log shows of these rollouts' scores, on the host; see `ActionSimilarity.rewards`.

        Raises: ValueError as `__call__`, and if a text is not what was scored.
        """
        found, expert = self._values(rollouts, demonstrations)
        fits, right = np.asarray(scores.fits), np.asarray(scores.matched) == MATCHED
        host = np.array([f is not None and f == e != "" for f, e in zip(found, expert, strict=True)], bool)
        for row in np.flatnonzero(fits & (right != host)):
            raise ValueError(f"rollout {row}: `text` is not what was scored, only one of them is right")
        if not unfit_on_host:
            found = tuple(f if fit else None for f, fit in zip(found, fits, strict=True))
        right = np.where(fits, right, host & unfit_on_host)
        return self._described(found, expert, right, "device", means({"reward/unfit_share": ~fits}))

    def _values(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]):
        """The value that each rollout ends with, None if malformed; and the expert's."""
        for row in (row for row, form in enumerate(rollouts.form) if form != "solve"):
            asked = demonstrations[rollouts.demonstration[row]]
            raise ValueError(
                f"rollout {row} ({asked.source or asked.problem_id}): a last value needs form 'solve', got "
                f"{rollouts.form[row]!r}"
            )
        text = [None if cut else without_thoughts(t) for t, cut in zip(rollouts.text, rollouts.truncated, strict=True)]
        found = tuple(None if t is None or not t.strip() else value_of(t, self.mark) for t in text)
        return found, tuple(value_of(demonstrations[i].actions[-1], self.mark) for i in rollouts.demonstration)

    def _reward(self, right, formed):
        """Of NumPy or JAX arrays."""
        numpy = jnp if isinstance(right, jax.Array) else np
        return numpy.where(right, self.correct, numpy.where(formed, self.wrong, self.malformed))

    def _described(self, found, expert, right: Bool[np.ndarray, "P"], where: Where, more=None) -> Rewards:
        formed = np.array([f is not None for f in found], bool)
        reward: Float[np.ndarray, "P"] = self._reward(right, formed).astype(np.float64)
        shares = {"reward/mean": reward, "reward/correct_share": right, "reward/malformed_share": ~formed}
        settings = {name: getattr(self, name) for name in ("mark", "correct", "wrong", "malformed")}
        return Rewards(
            reward=reward, action=found, expert=expert, settings=settings | {"where": where},
            means=means(shares) | (more or {}),
        )  # fmt: skip


def value_of(text: str, mark: str) -> str:
    """What follows the last `mark` on the last line with anything on it, without white space around it."""
    line = next((line for line in reversed(text.split("\n")) if line.strip()), "").strip()
    return line.rpartition(mark)[2].strip() if mark else line


def _completion_value(token, length, token_bytes: TokenBytes, *, mark: str, room: int, size: int):
    """Of one completion: code points of its value [room] and their number, is it well formed, does it fit."""
    given = token_bytes.given
    last = token[jnp.maximum(length - 1, 0)]
    ended = (length > 0) & (sum(last == end for end in token_bytes.ends) > 0)
    byte, taken, known = join(token, length - ended, token_bytes.spelled, token_bytes.start, room=size - len(given))
    byte = jnp.concatenate([jnp.array(list(given), jnp.uint8), byte])
    taken = taken + len(given)
    code, begins = decode(byte, taken)
    spoken, count = compress(code, begins & ~_thought(byte), room=size)
    value, points = _value(spoken, count, mark=mark, room=room)
    solid = ~whitespace(spoken) & (jnp.arange(size) < count)
    return value, points, ended & solid.any(), ~ended | (known & (taken <= size))


def _thought(byte) -> Bool[Array, "N"]:
    """Which bytes `without_thoughts` takes out; its marks are among them."""
    place = jnp.arange(byte.shape[0])
    opening, closing = (occurrences(byte, tag.encode()) for tag in (OPEN, CLOSE))
    opened, closed = (jax.lax.cummax(jnp.where(found, place, -1)) for found in (opening, closing))
    before = jnp.concatenate([jnp.full(1, -1), closed[:-1]])
    bare = closing & (opened <= before)  # the template opened this block: all that precedes is thought, too
    in_mark = (closed >= 0) & (place - closed < len(CLOSE))
    return (opened > closed) | in_mark | (place < jnp.max(jnp.where(bare, place, -1)))


def _value(code, count, *, mark: str, room: int):
    """`value_of` one text of `count` code points: the value's first `room` code points, zeros behind, and its size."""
    place = jnp.arange(code.shape[0], dtype=jnp.int32)
    inside = place < count
    solid = inside & ~whitespace(code)
    _, end = strip(solid, jnp.int32(0), count)
    after = lambda found, width: jnp.max(jnp.where(found, place + width, 0), initial=0)
    begin, _ = strip(solid, after((code == ord("\n")) & (place < end), 1), end)
    if mark:
        found = inside & (place + len(mark) <= end) & (place >= begin)
        padded = jnp.pad(code, (0, len(mark)))
        for k, wanted in enumerate(mark):
            found &= padded[k : k + code.shape[0]] == ord(wanted)
        begin = jnp.maximum(begin, after(found, len(mark)))
    begin, end = strip(solid, begin, end)
    size = end - begin
    at = begin + jnp.arange(room, dtype=jnp.int32)
    kept = jnp.arange(room) < size
    return jnp.where(kept, code[jnp.clip(at, 0, code.shape[0] - 1)], 0), size
