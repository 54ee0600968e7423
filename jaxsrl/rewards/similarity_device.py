"""The step reward as one program on the device: token ids -> bytes -> code points -> action -> exact ratio."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int

from jaxsrl.ops.similarity import Backend, matched_length
from jaxsrl.ops.text import compress, decode, join
from jaxsrl.rewards.format import OPEN, Think
from jaxsrl.rewards.format_device import find_action
from jaxsrl.rewards.rooms import MAX_ACTION
from jaxsrl.types import Completions, Mean, Rooms, Scores, TokenBytes

# Bytes of completions that are read at a time. On a CPU 1,024 completions of 2,048 bytes so take 20 ms instead of 34.
BLOCK = {"cpu": 1 << 18, "default": 1 << 25}
AUTOJUNK_FROM = 200  # elements of the expert's action from which difflib's autojunk applies


@partial(jax.jit, static_argnames=("rooms", "autojunk", "exact", "think", "prefilled", "backend"))
def step_rewards(
    completions: Completions,
    expert: Int[Array, "Q B"],
    expert_length: Int[Array, "Q"],
    group: Int[Array, "P"],
    token_bytes: TokenBytes,
    *,
    rooms: Rooms,
    autojunk: bool,
    exact: bool = False,
    think: Think = "required",
    prefilled: bool = False,
    malformed: float = -1.0,
    backend: Backend | None = None,
) -> Scores:
    """Rewards of P completions against Q expert actions, that of group[p] for completion p.

    Equal to decoding, `format.parse` and difflib on the host: M and the lengths to the last integer. `vmap` adds its
    axis to the completions.

    Args:
      completions: the last token counted is the end token, or else the completion is malformed.
      expert: code points, stripped at both ends.
      rooms: what is made room for, no more than B code points of the expert. A completion that needs more is not cut
        but said not to fit, and neither is one with an id outside the table. Without an end token it always fits,
        for it is malformed whatever it says.
      exact: 2M / total is 1 for equal actions and 0 for others; nothing is searched.
      backend: of `ops.similarity`, one that runs under `jit`.
    Returns: reward in float32, or float64 where x64 is on. `matched` is 0 where not formed, which is not said of what
      does not fit.
    Raises: ValueError if actions have more room than MAX_ACTION or the expert's none, or a completion less than what
      the template gave.
    """
    _check(expert, rooms, token_bytes)
    read = partial(read_action, think=think, prefilled=prefilled, rooms=rooms)
    action, count, formed, fits = _read_all(read, rooms, completions.token, completions.length, token_bytes)
    own = expert_length[group]
    fits &= ~formed | (own <= expert.shape[1])
    formed &= fits
    compared = jnp.where(formed, count, 0)
    total = compared + own
    if exact:
        matched = jnp.where(_equal(action, compared, expert[group], own), compared, 0)
    else:
        length = jnp.minimum(expert_length, expert.shape[1])
        matched = matched_length(
            action, compared, expert, length, b_index=group, autojunk=autojunk, backend=backend
        )  # fmt: skip
    dtype = jnp.result_type(float)
    ratio = 2.0 * matched.astype(dtype) / jnp.maximum(total, 1).astype(dtype)
    return Scores(
        reward=jnp.where(formed, ratio, jnp.asarray(malformed, dtype)),
        matched=matched,
        total=total,
        formed=formed,
        fits=fits,
    )


def _check(expert, rooms: Rooms, token_bytes: TokenBytes) -> None:
    widest = max(rooms.code_points, expert.shape[1])
    if not 0 < min(rooms.code_points, expert.shape[1]) <= widest <= MAX_ACTION:
        raise ValueError(
            f"actions of 1 to {MAX_ACTION} code points are compared, got rooms.code_points={rooms.code_points} and "
            f"experts padded to {expert.shape[1]}; score longer ones with ActionSimilarity(where='host')"
        )
    if rooms.bytes <= len(OPEN) + len(token_bytes.given):
        raise ValueError(
            f"rooms.bytes must hold the {len(token_bytes.given)} bytes that the template gave, got {rooms.bytes}"
        )


def _equal(a, a_length, b, b_length) -> Bool[Array, "P"]:
    """Whether the rows are the same elements; what stands behind their lengths is not looked at."""
    width = min(a.shape[1], b.shape[1])
    counted = jnp.arange(width)[None] < a_length[:, None]
    same = (a[:, :width] == b[:, :width]) | ~counted
    return (a_length == b_length) & (a_length <= width) & same.all(axis=1)


def _read_all(read, rooms: Rooms, *arrays):
    """`read` of every row, in blocks that a cache or a memory holds."""
    blocks = {name: partial(_in_blocks, read, most=size // rooms.bytes) for name, size in BLOCK.items()}
    return lax.platform_dependent(*arrays, **blocks)


def _in_blocks(read, token, length, token_bytes: TokenBytes, *, most: int):
    """At most so many rows at a time, if their number can be divided so. Block j is every n-th row from row j on.

    So a block has rows of every device that the completions are sharded over.
    """
    rows, some = token.shape[0], jax.vmap(read, in_axes=(0, 0, None))
    count = next((n for n in range(-(-rows // max(most, 1)), rows + 1) if rows % n == 0), 1) if rows else 1
    if count == 1 or rows // count < most // 4:
        return some(token, length, token_bytes)
    split = lambda x: x.reshape(rows // count, count, *x.shape[1:]).swapaxes(0, 1)
    found = lax.map(lambda part: some(*part, token_bytes), (split(token), split(length)))
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(rows, *x.shape[2:]), found)


def read_action(token, length, token_bytes: TokenBytes, *, think: Think, prefilled: bool, rooms: Rooms):
    """Code points of one completion's action, their number, whether it is well formed, and whether it fits."""
    given = (OPEN.encode() if prefilled else b"") + token_bytes.given
    last = token[jnp.maximum(length - 1, 0)]
    ended = (length > 0) & (sum(last == end for end in token_bytes.ends) > 0)
    spelled = (token_bytes.spelled, token_bytes.start)
    byte, size, known = join(token, length - ended, *spelled, room=rooms.bytes - len(given))
    byte = jnp.concatenate([jnp.array(list(given), jnp.uint8), byte])
    size = size + len(given)
    code, begins = decode(byte, size)
    found = find_action(byte, size, code, begins, think=think)
    place = jnp.arange(rooms.bytes)
    inside = begins & (place >= found.begin) & (place < found.end)
    action, count = compress(code, inside, room=rooms.code_points)
    formed = found.formed & ended
    fits = ~ended | (known & (size <= rooms.bytes) & (count <= rooms.code_points))
    return action, jnp.where(formed, count, 0), formed, fits


def step_means(scores: Scores, expert_length: Int[Array, "P"], counted: Bool[Array, "P"]) -> dict[str, Mean]:
    """The metrics of `ActionSimilarity` over the counted completions, and `reward/unfit_share`; as (sum, over) arrays.

    A mean of nothing is over 0; the host leaves such a one out.
    """
    reward, long = scores.reward, expert_length >= AUTOJUNK_FROM
    exact = scores.formed & (2 * scores.matched == scores.total)  # with autojunk, too: all of a diagonal matches

    def mean(value: Array, over: Array) -> Mean:
        return Mean(jnp.where(over, value.astype(reward.dtype), 0).sum(), over.sum().astype(reward.dtype))

    return {
        "reward/mean": mean(reward, counted),
        "reward/similarity": mean(reward, counted & scores.formed),
        "reward/malformed_share": mean(~scores.formed, counted),
        "reward/exact_share": mean(exact, counted),
        "reward/mean_expert_under_200": mean(reward, counted & ~long),
        "reward/mean_expert_from_200": mean(reward, counted & long),
        "reward/unfit_share": mean(~scores.fits, counted),
    }
