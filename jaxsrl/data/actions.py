"""A solution's text, cut into actions.

Nothing is lost by a cut: the actions joined by the separator are the solution again, up to white space at the cuts
and at both ends, and line ends written as "\\n" (with `annotations="keep"`, `preamble="join"`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxsrl.data.prose import displays, paragraphs, sentences

Style = Literal["lines", "numbered", "headed", "paragraphs", "sentences", "displays", "given"]
Heading = Callable[[str], tuple[int, str | None] | None]  # a line -> the action's number and title, if it opens one

ANNOTATION = re.compile(r"<<([^<>\n]*)>>")  # GSM8K's calculator calls: 48/2 = <<48/2=24>>24
NUMBERED = re.compile(r"(\d{1,4})\.[ \t]+(?:\*\*(.+?)\*\*)?")
HEADED = re.compile(r"(#{1,6}[ \t]+)?(\*\*)?Step[ \t]+(\d{1,4})[ \t]*(?:[:.]|\*\*|-|$)(.*)")


def read_numbered(line: str) -> tuple[int, str | None] | None:
    """`3. **Title:** body`; the bold title is optional. An indented number belongs to a list inside an action."""
    found = NUMBERED.match(line)
    return found and (int(found[1]), _title(found[2]))


def read_headed(line: str) -> tuple[int, str | None] | None:
    """`### Step 3: Title`, `**Step 3: Title** body` or `Step 3: body`."""
    found = HEADED.match(line)
    if not found:
        return None
    hashes, bold, number, rest = found.groups()
    return int(number), _title(rest.split("**")[0] if bold else rest.replace("**", "") if hashes else None)


def _title(text: str | None) -> str | None:
    return (text or "").strip().rstrip(":.").rstrip() or None


HEADINGS: dict[str, Heading] = {"numbered": read_numbered, "headed": read_headed}
PIECES = {"paragraphs": paragraphs, "sentences": sentences, "displays": displays, "given": lambda text: [text]}
SEPARATORS = {
    "lines": "\n", "numbered": "\n\n", "headed": "\n\n", "paragraphs": "\n\n", "sentences": " ", "displays": "\n",
    "given": "\n",
}  # fmt: skip
THOUGHTS = (("<think>", "</think>"), ("<|begin_of_thought|>", "<|end_of_thought|>"))
SOLUTION_MARKS = re.compile(r"\A<\|begin_of_solution\|>|<\|end_of_solution\|>\Z")  # around what follows a thought


@dataclass(frozen=True, kw_only=True)
class Splitter:
    """How solutions are cut.

    Args:
      style: `lines`: every line that is not blank is an action (GSM8K). `numbered`: lines that begin `1. `, `2. `, …
        open an action (NuminaMath, DeepSeek-R1). `headed`: lines `### Step 1: …`, `**Step 1: …**` do. `paragraphs`:
        blank lines cut. `sentences`: their ends do, never inside a formula. `displays`: the ends of displayed
        mathematics do (MATH), and of sentences where that cuts nothing. `given`: the data have a list of actions.
      annotations: what becomes of `<<48/2=24>>` in `lines`: stay, go, or go into the action's thought.
      preamble: text before action 1 opens that action (the expert wrote it after seeing the problem, so the model
        has to be able to write it too; in the problem it would be a hint), or is dropped.
      trace: what becomes of a `<think>` block that a solution begins with (R1): the thought of its first action,
        nothing, or text to be cut like the rest.
      labelled: of a chain with labels (PRM800K, Math-Shepherd): the actions before the first that is not good, the
        whole chain if all are good, or all of it.
    """

    style: Style = "lines"
    annotations: Literal["keep", "drop", "thought"] = "keep"
    preamble: Literal["join", "drop"] = "join"
    trace: Literal["thought", "drop", "keep"] = "thought"
    labelled: Literal["good_prefix", "all_good", "keep"] = "good_prefix"

    def __post_init__(self):
        if self.style not in SEPARATORS:
            raise ValueError(f"style must be one of {', '.join(SEPARATORS)}, got {self.style!r}")
        if self.annotations not in ("keep", "drop", "thought"):
            raise ValueError(f"annotations must be keep, drop or thought, got {self.annotations!r}")
        if self.annotations != "keep" and self.style != "lines":
            raise ValueError(f"annotations={self.annotations!r} needs style='lines', got style={self.style!r}")
        if self.preamble not in ("join", "drop"):
            raise ValueError(f"preamble must be join or drop, got {self.preamble!r}")
        if self.trace not in ("thought", "drop", "keep"):
            raise ValueError(f"trace must be thought, drop or keep, got {self.trace!r}")
        if self.labelled not in ("good_prefix", "all_good", "keep"):
            raise ValueError(f"labelled must be good_prefix, all_good or keep, got {self.labelled!r}")

    @property
    def separator(self) -> str:
        """What stands between two actions; belongs to the end of the earlier one when tokenised."""
        return SEPARATORS[self.style]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A solution in actions. Where it has no action to speak of, `actions` is short; that is no error here."""

    actions: tuple[str, ...]
    titles: tuple[str | None, ...]
    separator: str
    thoughts: tuple[str, ...] | None = None

    @property
    def text(self) -> str:
        return self.separator.join(self.actions)


def split(text: str, splitter: Splitter) -> Cut:
    """The actions of a solution.

    Numbers must run 1, 2, 3, …: any other number stays inside the action it stands in. A second `1.` ends the
    cutting, since what follows is another case or another solution; it stays whole in the last action, as does text
    after the last action. A text without a number 1 is one action.
    """
    lines = _lines(text.strip())
    if splitter.style == "lines":
        return _split_lines(lines, splitter)
    if splitter.style in PIECES:
        pieces = PIECES[splitter.style]("\n".join(lines))
        return Cut(actions=tuple(filter(None, pieces)), titles=(None,) * len(pieces), separator=splitter.separator)
    opened = _openings(lines, HEADINGS[splitter.style])
    bounds = [line for line, _ in opened[1:]] + [len(lines)]
    first = opened[0][0] if opened and splitter.preamble == "drop" else 0
    actions = [_body(lines[a:b]) for a, b in zip([first, *bounds], bounds, strict=False)]
    titles = [title for _, title in opened] or [None]
    kept = [(action, title) for action, title in zip(actions, titles, strict=True) if action]
    return Cut(
        actions=tuple(action for action, _ in kept),
        titles=tuple(title for _, title in kept),
        separator=splitter.separator,
    )


def parted(text: str) -> tuple[str | None, str]:
    """(thought, the rest) of a text that begins with a block of thought; (None, text) of another.

    Raises: ValueError if the block is never closed, or nothing follows it.
    """
    text = text.strip()
    for begin, end in THOUGHTS:
        if not text.startswith(begin):
            continue
        thought, closed, rest = text.removeprefix(begin).partition(end)
        rest = SOLUTION_MARKS.sub("", rest.strip()).strip()
        if not closed or not rest:
            raise ValueError(f"begins with {begin} and " + ("nothing follows it" if closed else f"has no {end}"))
        return thought.strip(), rest
    return None, text


def first_action(text: str, splitter: Splitter, number: int | None = None) -> str:
    """The first action of a completion, "" if there is none.

    Args:
      number: the number the action should carry (expert actions given + 1). A completion that forgets its own number
        but goes on to the next action is then still cut there. None: the first number in the text counts.
    """
    lines = _lines(text.strip())
    if splitter.style == "lines" or splitter.style in PIECES:
        return next(iter(split(text, splitter).actions), "")
    for at, line in enumerate(lines):
        found = HEADINGS[splitter.style](line)
        if not found:
            continue
        if number is None:
            number = found[0]
        elif found[0] == number + 1 and _body(lines[:at]):
            return _body(lines[:at])
    return _body(lines)


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _openings(lines: list[str], heading: Heading) -> list[tuple[int, str | None]]:
    """(line, title) of each action's first line."""
    opened = []
    for at, line in enumerate(lines):
        number, title = heading(line) or (0, None)
        if number == len(opened) + 1:
            opened.append((at, title))
        elif number == 1:
            break
    return opened


def _body(lines: list[str]) -> str:
    return "\n".join(lines).strip()


def _split_lines(lines: list[str], splitter: Splitter) -> Cut:
    actions, thoughts = [], []
    for line in lines:
        bare = line if splitter.annotations == "keep" else ANNOTATION.sub("", line)
        if bare.strip():
            actions.append(bare.strip())
            thoughts.append("; ".join(ANNOTATION.findall(line)))
    return Cut(
        actions=tuple(actions),
        titles=(None,) * len(actions),
        separator=splitter.separator,
        thoughts=tuple(thoughts) if splitter.annotations == "thought" else None,
    )
