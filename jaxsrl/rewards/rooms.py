"""How much room the reward on the device makes for a text."""

from collections.abc import Callable, Sequence

from jaxsrl.rewards.format import CLOSE, OPEN
from jaxsrl.types import Demonstration, Rooms

MAX_BYTES = 32768  # of a completion, its thought included
MAX_ACTION = 4096  # code points, on either side
SAMPLE = 1024  # actions that are tokenised for the mean
MARGIN = 2  # a model may write twice as much as the expert


def rooms_for(
    demonstrations: Sequence[Demonstration],
    *,
    encode: Callable[[str], Sequence[int]],
    max_new_tokens: int,
    given: bytes = b"",
) -> Rooms:
    """Room for nearly every completion of a model that writes as these demonstrations do.

    - `code_points`: twice those of the longest expert action.
    - `bytes`: twice `max_new_tokens` times the mean bytes of a token, and what the template gave. The mean is that of
      up to 1,024 actions, taken at even distances. At least what a think block and the longest expert action need.
    Both are the next power of two from 64 on, so that few programs are compiled, and at most MAX_ACTION and MAX_BYTES.

    Args:
      encode: of the tokenizer.
      max_new_tokens: cap of a completion.
      given: what the template writes of a completion, as in `TokenBytes`.
    Raises: ValueError if there is no action to go by.
    """
    actions = [action.strip() for demonstration in demonstrations for action in demonstration.actions]
    if not any(actions):
        raise ValueError(f"no action to go by in {len(demonstrations)} demonstrations")
    around = len(OPEN) + len(CLOSE) + len(given)
    longest = max(len(_utf8(action)) for action in actions)
    sample = [action for action in actions if action][:: -(-len(actions) // SAMPLE)]
    mean = sum(len(_utf8(action)) for action in sample) / sum(len(encode(action)) for action in sample)
    room = _room(max(int(MARGIN * mean * max_new_tokens), longest) + around, most=MAX_BYTES)
    points = _room(MARGIN * max(map(len, actions)), most=MAX_ACTION)
    return Rooms(bytes=room, code_points=min(points, room))


def _utf8(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _room(size: int, *, most: int) -> int:
    return min(max(64, 1 << max(size - 1, 0).bit_length()), most)
