"""Where the final answer of a text stands."""

import re
from typing import Literal

from jaxsrl.ops.text.marks import after_mark

Extract = Literal["boxed", "hash", "last_number", "last_line", "last_action", "stated"]

BOXED = re.compile(r"\\(?:boxed|f?box|fboxed)(?![a-zA-Z])\s*")
COMMAND = re.compile(r"\\[dtc]?(?:frac|binom|sqrt|text(?:bf|rm)?|mathrm|mathbf)(?![a-zA-Z])|\\[a-zA-Z]+")
ARGUMENTS = {"frac": 2, "binom": 2, "sqrt": 1, "text": 1, "textbf": 1, "textrm": 1, "mathrm": 1, "mathbf": 1}
TAG = re.compile(r"<answer>|</answer>")
# a minus behind an operand subtracts; it is no sign
NUMBER = re.compile(r"(?:(?<![\w)\]}])[-\u2212])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
STATED = re.compile(r"(?:the|final) answer is", re.IGNORECASE)
PAIRS = re.compile(r"\\.|[{}()]", re.DOTALL)


def extract_answer(text: str, extract: Extract) -> str | None:
    r"""The final answer in a text without thoughts, or None.

    `boxed`: the content of the last `\boxed{…}` or `\fbox{…}` whose braces balance, or of `<answer>…</answer>` where
    that begins later; `\boxed 7`, `\boxed(7)` and `\boxed\frac{1}{2}` count too. `hash`: what follows the last `####`
    on its line (GSM8K). `last_number`: the last number, thousands commas included. `last_line`: the last line that is
    not blank. `last_action`: of that line, what follows its last `=`, or all of it without one. `stated`: as published
    models are graded (arXiv:2510.25992): the last box; without one what follows "the answer is" or "final answer is";
    without that the last number.
    """
    match extract:
        case "boxed":
            found = last_boxed(text)
        case "hash":
            found = after_mark(text, "####")
        case "last_number":
            numbers = NUMBER.findall(text)
            found = numbers[-1] if numbers else None
        case "last_line":
            found = _last_line(text)
        case "last_action":
            found = _last_line(text).rpartition("=")[2]
        case "stated":
            found = last_boxed(text) or _stated(text) or extract_answer(text, "last_number")
        case unknown:
            raise ValueError(f"unknown extract {unknown!r}")
    return found.strip() or None if found else None


def last_boxed(text: str) -> str | None:
    """Content of the last box or answer tag that is closed; escaped braces do not count. Linear in the text."""
    marks = [mark.end() for mark in BOXED.finditer(text)]
    bracketed = {at for at in marks if text[at : at + 1] in ("{", "(")}
    found = [(at, unbraced) for at in marks if at not in bracketed and (unbraced := _unbraced(text, at))]
    found += [(at, text[at + 1 : end]) for at, end in _pairs(text).items() if at in bracketed]
    opened = None
    for tag in TAG.finditer(text):
        if tag[0] == "<answer>":
            opened = tag.end()
        elif opened is not None:
            found.append((opened, text[opened : tag.start()]))
            opened = None
    return max(found)[1] if found else None


def _pairs(text: str) -> dict[int, int]:
    """Where each brace and each parenthesis that is closed begins and ends; braces group before parentheses do."""
    open_braces: list[int] = []
    open_rounds: list[tuple[int, int]] = []  # with the number of braces open then
    out: dict[int, int] = {}
    for match in PAIRS.finditer(text):
        match match[0]:
            case "{":
                open_braces.append(match.start())
            case "}" if open_braces:
                out[open_braces.pop()] = match.start()
                while open_rounds and open_rounds[-1][1] > len(open_braces):
                    open_rounds.pop()
            case "(":
                open_rounds.append((match.start(), len(open_braces)))
            case ")" if open_rounds and open_rounds[-1][1] == len(open_braces):
                out[open_rounds.pop()[0]] = match.start()
    return out


def _unbraced(text: str, at: int) -> str | None:
    """TeX takes one character, or a command; here with its arguments."""
    if text[at : at + 1].isdigit():
        return text[at]
    command = COMMAND.match(text, at)
    if command is None:
        return None
    name, end = re.sub(r"^\\[dtc]?(?=frac|binom)|^\\", "", command[0]), command.end()
    for _ in range(ARGUMENTS.get(name, 0)):
        argument = re.compile(r"\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|[a-zA-Z\d])").match(text, end)
        if argument is None:
            return None
        end = argument.end()
    return text[at:end]


def _stated(text: str) -> str | None:
    """The rest of the line after the last "the answer is", without what only ends the sentence or makes it bold."""
    marks = list(STATED.finditer(text))
    if not marks:
        return None
    line = text[marks[-1].end() :].lstrip(" \t:*\n").partition("\n")[0]
    return line.rstrip(" \t*").removesuffix(".").rstrip(" \t*") or None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
