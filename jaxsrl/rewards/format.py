"""Is a completion well formed, and what in it is thought and what is action?"""

import re
from typing import Literal, NamedTuple

OPEN, CLOSE = "<think>", "</think>"
Think = Literal["required", "optional"]


class Parsed(NamedTuple):
    thought: str | None  # as written between the tags; None where there are none
    action: str  # never empty; without white space around it and without its <solution> wrapper


def parse(text: str, *, think: Think = "required", prefilled: bool = False) -> Parsed | None:
    """`<think>thought</think>action`, or None where the completion is malformed.

    Well formed: exactly one think block, at the start (white space may come before it), and something behind it.
    A `<solution>…</solution>` around all that follows is taken off; half a wrapper stays part of the action. An empty
    thought is allowed: what is rewarded is the action, and a rule on the thought's length would pay for filler.

    Args:
      text: the completion up to its end token. One that was cut off by the token cap is malformed whatever it
        holds; the caller knows that, the text does not.
      think: with "optional", a text without any think tag is all action.
      prefilled: the text begins inside the thought; `<think>` was written before it and is not part of it.
    Source: arXiv:2510.25992, made strict where it leaves the rule open.
    """
    if prefilled:
        text = OPEN + text
    if think == "optional" and OPEN not in text and CLOSE not in text:
        thought, rest = None, text
    else:
        head, closed, rest = text.partition(CLOSE)
        head = head.lstrip()
        thought = head.removeprefix(OPEN)
        if not closed or thought == head or OPEN in thought or OPEN in rest or CLOSE in rest:
            return None
    action = _unwrap(rest.strip())
    return Parsed(thought, action) if action else None


def _unwrap(action: str) -> str:
    inside = action.removeprefix("<solution>").removesuffix("</solution>")
    return inside.strip() if len(inside) == len(action) - len("<solution></solution>") else action


def without_thoughts(text: str) -> str:
    """The text outside its think blocks, however many there are.

    A block that is never closed runs to the end. A closing tag without an opening one ends a block that the chat
    template opened: what precedes it is thought too.
    """
    kept: list[str] = []
    thinking = False
    for piece in re.split(f"({OPEN}|{CLOSE})", text):
        if piece == OPEN:
            thinking = True
        elif piece == CLOSE:
            if not thinking:
                kept.clear()
            thinking = False
        elif not thinking:
            kept.append(piece)
    return "".join(kept)
