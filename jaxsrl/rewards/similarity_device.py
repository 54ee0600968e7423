"""The step reward as one program on the device: token ids -> bytes -> code points -> action -> exact ratio."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsrl.ops.similarity import Backend, matched_length
from jaxsrl.ops.text import compress, decode, join
from jaxsrl.rewards.format import OPEN, Think
from jaxsrl.rewards.format_device import find_action
from jaxsrl.rewards.similarity import code_points
from jaxsrl.types import Rollouts, TokenBytes

MAX_BYTES = 32768  # of a completion, its thought included
MAX_ACTION = 4096  # code points, on either side


class Scores(NamedTuple):
    """What the program says of P completions. Where `fits` is false the reward is NaN and `matched` 0."""

    reward: Float[Array, "P"]  # 2 matched / total in float32; `malformed` where not formed
    matched: Int[Array, "P"]  # M; 0 where not formed
    total: Int[Array, "P"]  # code points of both actions
    formed: Bool[Array, "P"]
    fits: Bool[Array, "P"]  # at most `room` bytes, `action_room` code points of action, and no id outside the table


@partial(jax.jit, static_argnames=("think", "prefilled", "autojunk", "malformed", "room", "action_room", "backend"))
def step_rewards(
    token: Int[Array, "P C"],
    length: Int[Array, "P"],
    expert: Int[Array, "Q B"],
    expert_len: Int[Array, "Q"],
    b_index: Int[Array, "P"],
    token_bytes: TokenBytes,
    *,
    room: int,
    action_room: int,
    autojunk: bool,
    think: Think = "required",
    prefilled: bool = False,
    malformed: float = -1.0,
    backend: Backend | None = None,
) -> Scores:
    """Rewards of P completions against Q expert actions, the one at b_index[p] for completion p.

    Equal to decoding, `format.parse` and difflib on the host: M and the lengths to the last integer.

    Args:
      length: tokens sampled, the end token included; a completion whose last token is another one is malformed.
      expert: code points, stripped at both ends.
      room, action_room: bytes of a completion (with what the template gave), code points of an action. Both are
        shapes: a completion that needs more is not cut but said not to fit.
      backend: of `ops.similarity`, one that runs under `jit`.
    Raises: ValueError if actions have more room than MAX_ACTION, or a completion less than what the template gave.
    """
    if max(action_room, expert.shape[1]) > MAX_ACTION:
        raise ValueError(
            f"actions of up to {MAX_ACTION} code points are compared, got action_room={action_room} and experts padded "
            f"to {expert.shape[1]}; score longer ones with StepSimilarity(where='host')"
        )
    if room <= len(OPEN) + len(token_bytes.given):
        raise ValueError(f"room must hold the {len(token_bytes.given)} bytes that the template gave, got {room}")
    read = partial(read_action, think=think, prefilled=prefilled, room=room, action_room=action_room)
    action, count, formed, fits = jax.vmap(read, in_axes=(0, 0, None))(token, length, token_bytes)
    compared = jnp.where(fits, count, 0)
    matched = matched_length(
        action, compared, expert, expert_len, b_index=b_index, autojunk=autojunk, backend=backend
    )  # fmt: skip
    total = count + expert_len[b_index]
    ratio = 2.0 * matched.astype(jnp.float32) / jnp.maximum(total, 1).astype(jnp.float32)
    reward = jnp.where(fits, jnp.where(formed, ratio, malformed), jnp.nan)
    return Scores(reward, matched, total, formed, fits)


def read_action(token, length, token_bytes: TokenBytes, *, think, prefilled, room, action_room):
    """Code points of one completion's action, their number, whether it is well formed, and whether it fits."""
    given = (OPEN.encode() if prefilled else b"") + token_bytes.given
    ended = (length > 0) & (token[jnp.maximum(length - 1, 0)] == token_bytes.end)
    spelled = (token_bytes.spelled, token_bytes.start)
    byte, size, known = join(token, length - ended, *spelled, room=room - len(given))
    byte = jnp.concatenate([jnp.array(list(given), jnp.uint8), byte])
    size = size + len(given)
    code, begins = decode(byte, size)
    found = find_action(byte, size, code, begins, think=think)
    place = jnp.arange(room)
    action, count = compress(code, begins & (place >= found.begin) & (place < found.end), room=action_room)
    formed = found.formed & ended
    fits = ~ended | (known & (size <= room) & (count <= action_room))
    return action, jnp.where(formed, count, 0), formed, fits


class Graded(NamedTuple):
    """`step_rewards` on the host, the ratio in float64. Rows that are not `scored` are too long for the device."""

    ratio: Float[np.ndarray, "P"]  # difflib's to the last bit, hence 1 iff the actions are equal; 0 where not formed
    formed: Bool[np.ndarray, "P"]
    scored: Bool[np.ndarray, "P"]


def grade(
    rollouts: Rollouts,
    expert: Sequence[str],
    *,
    autojunk: bool,
    think: Think,
    prefilled: bool,
    backend: Backend | None,
) -> Graded:
    """Chooses the shapes of `step_rewards`, powers of two so that a run compiles few programs, and runs it.

    Actions are first given twice the room of the longest expert's; if one is longer, all are scored again with the
    room that it needs.
    Raises: ValueError if the rollouts do not say what their tokens spell.
    """
    if rollouts.token_bytes is None:
        raise ValueError("where='device' needs Rollouts.token_bytes: give it to the Actor, or set where='host'")
    size = partial(_power_of_two, least=64, most=MAX_ACTION)
    b, b_len, b_index = _experts(expert, size)
    length = rollouts.mask.sum(axis=1).astype(np.int32)
    longest = int(_byte_counts(rollouts.token, length, rollouts.token_bytes).max(initial=0)) + len(OPEN)
    room = _power_of_two(longest, least=64, most=MAX_BYTES)
    rows = _power_of_two(len(rollouts), least=64)
    fill = lambda x: np.pad(x, [(0, rows - len(x))] + [(0, 0)] * (x.ndim - 1))
    run = partial(
        step_rewards, fill(rollouts.token), fill(length), b, np.minimum(b_len, MAX_ACTION), fill(b_index),
        rollouts.token_bytes, room=room, autojunk=autojunk, think=think, prefilled=prefilled, backend=backend,
    )  # fmt: skip
    action_room = min(size(2 * int(b_len.max())), room)
    scores = jax.device_get(run(action_room=action_room))
    needed = int((scores.total - np.minimum(b_len, MAX_ACTION)[fill(b_index)])[~scores.fits].max(initial=0))
    if needed > action_room and action_room < min(room, MAX_ACTION):
        scores = jax.device_get(run(action_room=min(size(needed), room)))
    scores = Scores(*(x[: len(rollouts)] for x in scores))
    ratio = 2.0 * scores.matched.astype(np.int64) / np.maximum(scores.total, 1)
    too_long = b_len[b_index] > MAX_ACTION
    return Graded(ratio, scores.formed, scores.fits & ~(too_long & scores.formed))


def _experts(texts: Sequence[str], size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct texts as padded code points, as many of each as fit; how many each has; and which one is whose."""
    row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    length = np.zeros(_power_of_two(len(row), least=16), np.int32)
    length[: len(row)] = [len(text) for text in row]
    code = np.zeros((len(length), size(int(length.max()))), np.int32)
    for text, i in row.items():
        code[i, : length[i]] = code_points(text)[: code.shape[1]]
    return code, length, np.array([row[text] for text in texts], np.int32)


def _byte_counts(token, length, token_bytes: TokenBytes) -> Int[np.ndarray, "P"]:
    sizes = np.diff(np.asarray(token_bytes.start))
    counted = np.arange(token.shape[1])[None] < length[:, None]
    return np.where(counted, sizes[np.clip(token, 0, len(sizes) - 1)], 0).sum(axis=1) + len(token_bytes.given)


def _power_of_two(size: int, *, least: int, most: int | None = None) -> int:
    """The smallest one that is not below `size`, kept within least..most."""
    power = max(least, 1 << max(size - 1, 0).bit_length())
    return power if most is None else min(power, most)
