"""Outcome reward: is the final answer of a completion the key?"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

import numpy as np

from jaxsrl.rewards.format import without_thoughts
from jaxsrl.types import Demonstration, Rewards, Rollouts, means

Extract = Literal["boxed", "hash", "last_number", "last_line", "last_action"]
Verifier = Callable[[str, Demonstration], bool]

BOXED = re.compile(r"\\f?boxed\s*(?=[{\d])")
# a minus behind an operand subtracts; it is no sign
NUMBER = re.compile(r"(?:(?<![\w)\]}])-)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")


@dataclass(frozen=True, kw_only=True)
class FinalAnswer:
    """`correct` if the completion's final answer equals the demonstration's key, else `wrong` or `malformed`.

    Think blocks are taken out first: an answer that is only thought of does not count.

    Args:
      extract: where the answer stands; see `extract_answer`. Not used with `verify`.
      malformed: reward of a completion that ran into the token cap or shows no answer.
      numeric_tolerance: relative error allowed between two numbers; 0 compares them exactly, however wide.
      verify: decides instead of the key, from the text without thoughts; it comes from a task. It may be slow or
        raise: nothing here catches that, a reward that fails stops the run.
    """

    extract: Extract = "boxed"
    correct: float = 1.0
    wrong: float = 0.0
    malformed: float = 0.0
    numeric_tolerance: float = 0.0
    verify: Verifier | None = None

    def __post_init__(self):
        if self.extract not in get_args(Extract):
            raise ValueError(f"extract must be one of {', '.join(get_args(Extract))}, got {self.extract!r}")
        for name in ("correct", "wrong", "malformed"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if not 0 <= self.numeric_tolerance < 1:
            raise ValueError(f"numeric_tolerance must be in [0, 1), got {self.numeric_tolerance}")

    def __call__(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
        """Raises: ValueError if a demonstration has no answer and there is no `verify`."""
        found = tuple(self._found(rollouts, row) for row in range(len(rollouts)))
        asked = [demonstrations[i] for i in rollouts.demonstration]
        right = np.array([f is not None and self._right(f, d) for f, d in zip(found, asked, strict=True)], bool)
        formed = np.array([f is not None for f in found], bool)
        reward = np.where(right, self.correct, np.where(formed, self.wrong, self.malformed)).astype(np.float64)
        shares = {"reward/mean": reward, "reward/correct_share": right, "reward/malformed_share": ~formed}
        return Rewards(
            reward=reward,
            action=found,
            expert=tuple(d.answer for d in asked),
            settings=self._settings(),
            means=means(shares),
        )

    def _found(self, rollouts: Rollouts, row: int) -> str | None:
        if rollouts.truncated[row]:
            return None
        text = without_thoughts(rollouts.text[row]).strip()
        return (text if self.verify else extract_answer(text, self.extract)) or None

    def _right(self, found: str, demonstration: Demonstration) -> bool:
        if self.verify:
            return bool(self.verify(found, demonstration))
        if demonstration.answer is None:
            raise ValueError(f"{demonstration.source or demonstration.problem_id}: no answer to compare with")
        return same_answer(found, demonstration.answer, numeric_tolerance=self.numeric_tolerance)

    def _settings(self) -> dict:
        shown = {name: getattr(self, name) for name in ("correct", "wrong", "malformed")}
        if self.verify:
            return shown | {"verify": getattr(self.verify, "__qualname__", type(self.verify).__qualname__)}
        return shown | {"extract": self.extract, "numeric_tolerance": self.numeric_tolerance}


def extract_answer(text: str, extract: Extract) -> str | None:
    r"""The final answer in a text without thoughts, or None.

    `boxed`: the content of the last `\boxed{…}` whose braces balance; `\boxed 7` counts too. `hash`: what follows
    the last `####` on its line (GSM8K). `last_number`: the last number, thousands commas included. `last_line`: the
    last line that is not blank. `last_action`: of that line, what follows its last `=`, or all of it without one.
    """
    match extract:
        case "boxed":
            found = last_boxed(text)
        case "hash":
            _, mark, rest = text.rpartition("####")
            found = (rest.splitlines() or [""])[0] if mark else None
        case "last_number":
            numbers = NUMBER.findall(text)
            found = numbers[-1] if numbers else None
        case "last_line":
            found = _last_line(text)
        case "last_action":
            found = _last_line(text).rpartition("=")[2]
        case unknown:
            raise ValueError(f"unknown extract {unknown!r}")
    return found.strip() or None if found else None


def last_boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{…}` or `\fboxed{…}` whose braces balance; escaped braces do not count."""
    marks = {mark.end() for mark in BOXED.finditer(text)}
    closed = [(start, text[start]) for start in marks if text[start] != "{"]  # TeX: unbraced, one character is meant
    unclosed: list[int] = []
    for brace in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if brace[0] == "{":
            unclosed.append(brace.start())
        elif brace[0] == "}" and unclosed:
            start = unclosed.pop()
            if start in marks:
                closed.append((start, text[start + 1 : brace.start()]))
    return max(closed)[1] if closed else None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def same_answer(found: str, key: str, *, numeric_tolerance: float = 0.0) -> bool:
    r"""Equal once written alike, see `normalise`.

    Two plain decimal numbers are compared by value: exactly, or within `numeric_tolerance` times the key. Nothing is
    evaluated: `1/2` and `0.5` differ, and so do two forms of one formula.
    """
    found, key = normalise(found), normalise(key)
    if found == key:
        return True
    if not (DECIMAL.fullmatch(found) and DECIMAL.fullmatch(key)):
        return False
    x, y = Decimal(found), Decimal(key)
    return x == y or abs(x - y) <= Decimal(numeric_tolerance) * abs(y)


def normalise(answer: str) -> str:
    r"""Without case, `$`, a final full stop, white space but between two words, and a number's thousands commas.

    `\dfrac` and `\tfrac` are written `\frac`; `\left`, `\right` and thin spaces go.
    """
    answer = re.sub(r"\\?\$|\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\\[!,;]", "", answer)
    answer = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", answer).casefold().strip()
    answer = re.sub(r"\s+", " ", answer.removesuffix(".").strip())
    answer = re.sub(r"(?<!\w) | (?!\w)", "", answer)
    return answer.replace(",", "") if GROUPED.fullmatch(answer) else answer
