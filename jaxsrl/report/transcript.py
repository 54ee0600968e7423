"""A completion as a reader should see it: thoughts greyed, what the action shares with the expert's marked."""

import re
from collections.abc import Mapping
from typing import Any

from jaxsrl.ops import similarity
from jaxsrl.report.html import Html, join, tag

THOUGHT = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
MOST_PAIRS = 4_000_000  # characters times characters up to which blocks are searched; difflib takes about a second
TEXT, THOUGHT_TEXT = (900, 300), (450, 150)  # characters shown of a longer text: of its beginning, of its end


def completion(text: str, action: str | None, expert: str | None, settings: Mapping[str, Any]) -> Html:
    """The whole completion; the action is marked in place, or after it where it does not stand in it word for word."""
    if action is None or expert is None:
        return _prose(text)
    start = text.rfind("</think>")
    at = text.rfind(action) if action else -1
    before, after = text[:at], text[at + len(action) :]
    alone = start < at and not after.strip() and before.rstrip().endswith("</think>")
    marked = tag("span", matched(action, expert, settings), class_="action" if alone else None)
    if at <= start:
        return join(_prose(text), tag("span", " action found: ", class_="aside"), marked)
    return join(_prose(before.rstrip() if alone else before), marked, _prose(after))


def _prose(text: str) -> Html:
    """Text outside the action, with its thoughts greyed."""
    parts, last = [], 0
    for found in THOUGHT.finditer(text):
        parts.append(clip(text[last : found.start()]))
        parts.append(tag("span", clip(found.group(), THOUGHT_TEXT), class_="thought"))
        last = found.end()
    return join(*parts, clip(text[last:]))


def clip(text: str, most: tuple[int, int] = TEXT) -> Html:
    """The text, or its beginning and end with the number of characters between them."""
    head, tail = most
    if len(text) <= head + tail + 60:
        return join(text)
    left_out = tag("span", f" … {len(text) - head - tail} characters … ", class_="aside")
    return join(text[:head], left_out, text[-tail:])


def matched(action: str, expert: str, settings: Mapping[str, Any]) -> Html:
    """The action with its matching blocks marked, as `difflib` finds them in the setting of the reward.

    Blocks are those of characters, or of words where `unit` says so. A reward without `autojunk` in its settings
    compares no texts, so nothing is marked but where the action stands.
    """
    if not isinstance(settings.get("autojunk"), bool):
        return tag("b", clip(action))
    if len(action) * len(expert) > MOST_PAIRS:
        return join(clip(action), tag("span", " (too long to mark)", class_="aside"))
    parts, last = [], 0
    for start, stop in blocks(action, expert, words=settings.get("unit") == "word", autojunk=settings["autojunk"]):
        parts += [_unmatched(action[last:start]), tag("mark", action[start:stop])]
        last = stop
    return join(*parts, _unmatched(action[last:]))


def blocks(action: str, expert: str, *, words: bool, autojunk: bool) -> list[tuple[int, int]]:
    """Character ranges of the action that were matched; a block of words spans the white space between them."""
    units = [m.span() for m in re.finditer(r"\S+", action)] if words else [(i, i + 1) for i in range(len(action))]
    a, b = (action.split(), expert.split()) if words else (action, expert)
    found = similarity.blocks(a, b, autojunk=autojunk)
    return [(units[i][0], units[i + size - 1][1]) for i, _, size in found]


def _unmatched(text: str) -> Html:
    return tag("span", text, class_="other") if text.strip() else join(text)
