"""Outcome reward: is the final answer of a completion the key?"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import get_args

import numpy as np

from jaxsrl.rewards.extract import Extract, extract_answer
from jaxsrl.rewards.format import without_thoughts
from jaxsrl.rewards.forms import ACCEPT, Accept, compare, for_algebra
from jaxsrl.rewards.symbolic import Symbolic
from jaxsrl.types import Demonstration, Rewards, Rollouts, means

Verifier = Callable[[str, Demonstration], bool]

GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")


@dataclass(frozen=True, kw_only=True)
class FinalAnswer:
    """`correct` if the completion's final answer equals the demonstration's key, else `wrong` or `malformed`.

    Think blocks are taken out first: an answer that is only thought of does not count. Where the key is itself a text
    with a mark, as a whole solution is, it is read by the same rule as the completion.

    Args:
      extract: where the answer stands; see `extract_answer`. Not used with `verify`.
      malformed: reward of a completion that ran into the token cap or shows no answer.
      accept: what may differ between the answer and the key, see README.md. Empty is strict: both are one text, but for
        what `normalise` takes away, or two plain decimal numbers of one value.
      symbolic: lets math-verify decide where `accept` has `value` and one of the two is not understood otherwise. None
        counts such a completion as wrong. A pair that runs out of time or memory is wrong, and counted; the bits of a
        run with such pairs are not promised.
      numeric_tolerance: relative error allowed between two numbers; 0 compares them exactly, however wide.
      verify: decides instead of the key, from the text without thoughts; it comes from a task. It may be slow or
        raise: nothing here catches that, a reward that fails stops the run.
    """

    extract: Extract = "boxed"
    correct: float = 1.0
    wrong: float = 0.0
    malformed: float = 0.0
    accept: tuple[Accept, ...] = ACCEPT
    symbolic: Symbolic | None = field(default=None, metadata={"begins_with": Symbolic})
    numeric_tolerance: float = 0.0
    verify: Verifier | None = None

    def __post_init__(self):
        if self.extract not in get_args(Extract):
            raise ValueError(f"extract must be one of {', '.join(get_args(Extract))}, got {self.extract!r}")
        for name in ("correct", "wrong", "malformed"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if not set(self.accept) <= set(ACCEPT) or len(set(self.accept)) < len(self.accept):
            raise ValueError(f"accept must name some of {', '.join(ACCEPT)}, each once, or none, got {self.accept!r}")
        if self.symbolic is not None:
            self.symbolic.check_installed()
            if "value" not in self.accept:
                raise ValueError(f"symbolic compares values: add value to accept={self.accept!r} or set symbolic=None")
        if not 0 <= self.numeric_tolerance < 1:
            raise ValueError(f"numeric_tolerance must be in [0, 1), got {self.numeric_tolerance}")

    def __call__(self, rollouts: Rollouts, demonstrations: Sequence[Demonstration]) -> Rewards:
        """Raises: ValueError if a demonstration has no answer and there is no `verify`."""
        found = tuple(self._found(rollouts, row) for row in range(len(rollouts)))
        asked = [demonstrations[i] for i in rollouts.demonstration]
        verdicts = self._verdicts(found, asked)
        right, late = np.array([v is True for v in verdicts], bool), np.array([v is None for v in verdicts], bool)
        formed = np.array([f is not None for f in found], bool)
        reward = np.where(right, self.correct, np.where(formed, self.wrong, self.malformed)).astype(np.float64)
        shares = {"reward/mean": reward, "reward/correct_share": right, "reward/malformed_share": ~formed}
        if self.symbolic is not None:
            shares["reward/timeout_share"] = late
        return Rewards(
            reward=reward,
            action=found,
            expert=tuple(d.answer for d in asked),
            settings=self._settings(),
            means=means(shares),
        )

    def judge(self, completion: str, key: str) -> bool:
        """Whether a completion, which came to its end, has the final answer `key`; the settings but `verify` count.

        Raises: ValueError with `verify`, which has no key.
        """
        if self.verify is not None:
            raise ValueError("a reward with `verify` asks a task, not a key")
        found = self.answer_in(completion)
        return found is not None and self.same([(found, key)])[0]

    def answer_in(self, completion: str) -> str | None:
        """The final answer that a completion gives, None where it gives none."""
        return extract_answer(without_thoughts(completion).strip(), self.extract) or None

    def same(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether (found, key) are one final answer, for each pair; False where time or memory ran out."""
        return [verdict is True for verdict in self._compared(pairs)]

    def _found(self, rollouts: Rollouts, row: int) -> str | None:
        if rollouts.truncated[row]:
            return None
        text = without_thoughts(rollouts.text[row]).strip()
        return (text if self.verify else extract_answer(text, self.extract)) or None

    def _verdicts(self, found: Sequence[str | None], asked: Sequence[Demonstration]) -> list[bool | None]:
        """None where time or memory ran out."""
        if self.verify:
            return [f is not None and bool(self.verify(f, d)) for f, d in zip(found, asked, strict=True)]
        rows = [row for row, text in enumerate(found) if text is not None]
        for row in rows:
            if asked[row].answer is None:
                raise ValueError(f"{asked[row].source or asked[row].problem_id}: no answer to compare with")
        compared = self._compared([(found[row], asked[row].answer) for row in rows])
        verdicts: list[bool | None] = [False] * len(found)
        for row, verdict in zip(rows, compared, strict=True):
            verdicts[row] = verdict
        return verdicts

    def _compared(self, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
        pairs = [(found, self._key(key)) for found, key in pairs]
        verdicts: list[bool | None] = [self._cheap(*pair) for pair in pairs]
        if self.symbolic is None:
            return [verdict is True for verdict in verdicts]
        texts = {row: for_algebra(*pairs[row], self.accept) for row, verdict in enumerate(verdicts) if verdict is None}
        unique = sorted({text for text in texts.values() if text is not None})  # a group often has one answer twice
        told = dict(zip(unique, self.symbolic.compare(unique), strict=True))
        for row, text in texts.items():
            verdicts[row] = False if text is None else told[text]
        return verdicts

    def _cheap(self, found: str, key: str) -> bool | None:
        if same_answer(found, key, numeric_tolerance=self.numeric_tolerance):
            return True
        return compare(found, key, self.accept, tolerance=self.numeric_tolerance) if self.accept else False

    def _key(self, key: str) -> str:
        """The key, read as a completion is where it has the mark of one."""
        if self.extract in ("boxed", "hash", "last_action"):
            return extract_answer(key, self.extract) or key
        return key

    def _settings(self) -> dict:
        shown = {name: getattr(self, name) for name in ("correct", "wrong", "malformed")}
        if self.verify:
            return shown | {"verify": getattr(self.verify, "__qualname__", type(self.verify).__qualname__)}
        algebra = None if self.symbolic is None else asdict(self.symbolic)
        shown |= {"extract": self.extract, "accept": list(self.accept), "symbolic": algebra}
        return shown | {"numeric_tolerance": self.numeric_tolerance}


def same_answer(found: str, key: str, *, numeric_tolerance: float = 0.0) -> bool:
    r"""The strict rule: equal once written alike, see `normalise`.

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
