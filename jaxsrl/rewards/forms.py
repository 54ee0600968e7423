"""Are two final answers one, however they are written? What may differ is named by `Accept`."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal, get_args

from jaxsrl.rewards import exact
from jaxsrl.rewards.answer_tree import (
    MAX_CHARACTERS,
    MAX_TYPED,
    Answer,
    Chosen,
    Matrix,
    Relation,
    Several,
    Value,
    Words,
    read_answer,
)
from jaxsrl.rewards.exact import TooLarge
from jaxsrl.rewards.spelling import CLOSE, OPEN, spelled
from jaxsrl.rewards.units import unit_of

Accept = Literal["value", "unit", "percent", "name", "order", "choice", "interval"]
CLOCK = r"\d{1,2}:\d\d"
ACCEPT: tuple[Accept, ...] = get_args(Accept)


def compare(found: str, key: str, accept: Sequence[Accept], *, tolerance: float = 0.0) -> bool | None:
    """Whether two final answers are one; None where that is not known, as one of them is not understood.

    Args:
      accept: what may differ, see README.md.
      tolerance: relative error allowed between two numbers, of the key's.
    """
    return _Comparison(frozenset(accept), Fraction(tolerance)).same(read_answer(found), read_answer(key))


def for_algebra(found: str, key: str, accept: Sequence[Accept]) -> tuple[str, str] | None:
    """The two as LaTeX without units, for a computer algebra system; None where their units or words differ."""
    if max(len(found), len(key)) > MAX_TYPED:
        return None
    spelled_both = [spelled(text) for text in (found, key)]
    if any(len(text) > MAX_CHARACTERS or not text for text in spelled_both):
        return None
    (found, a, x), (key, b, y) = map(unit_of, spelled_both)
    if x != y or Fraction(1) not in _Comparison(frozenset(accept), Fraction(0)).scales(a, b):
        return None
    return _marked_as_text(found), _marked_as_text(key)


def _marked_as_text(text: str) -> str:
    return text.replace("\\$", "").replace(OPEN, "\\text{").replace(CLOSE, "}")


class _Comparison:
    def __init__(self, accept: frozenset[str], tolerance: Fraction):
        self.accept, self.tolerance = accept, tolerance

    def same(self, a: Answer, b: Answer) -> bool | None:
        if a == b:
            return True
        if isinstance(a, Chosen) or isinstance(b, Chosen):
            return self.chosen(a, b)
        if a.name and b.name and a.name != b.name:
            return False if isinstance(a, Value) and isinstance(b, Value) else None
        if bool(a.name) != bool(b.name) and "name" not in self.accept:
            return False
        if isinstance(a, Words) or isinstance(b, Words):
            return self.words(a, b)
        if isinstance(a, Value) and isinstance(b, Value):
            return self.values(a, b)
        if isinstance(a, Matrix) or isinstance(b, Matrix):
            return self.matrices(a, b)
        if isinstance(a, Relation) or isinstance(b, Relation):
            return self.relations(a, b)
        return self.several(a, b)

    def chosen(self, a: Answer, b: Answer) -> bool | None:
        if "choice" not in self.accept:
            return False
        if isinstance(a, Chosen) and isinstance(b, Chosen):
            return _both(a.letter == b.letter, lambda: self.same(a.content, b.content))
        one, other = (a, b) if isinstance(a, Chosen) else (b, a)
        if isinstance(other, Value) and exact.equal(other.form, exact.atom(one.letter)):
            return True
        return self.same(one.content, other) if one is a else self.same(other, one.content)

    def words(self, a: Answer, b: Answer) -> bool | None:
        if isinstance(a, Words) and isinstance(b, Words):
            if a.text == b.text or "unit" in self.accept and _one_time(a.text, b.text):
                return True
            if "value" in self.accept and _one_ratio(a.text, b.text):
                return True
            return False if a.plain and b.plain else None
        one, other = (a, b) if isinstance(a, Words) else (b, a)
        if "value" in self.accept and isinstance(other, Value) and len(ratio := _ratio(one.text)) == 2 and ratio[1]:
            return other.form.rational == Fraction(*ratio) and not other.unit
        return False if one.plain and isinstance(other, Value | Matrix) else None

    def values(self, a: Value, b: Value) -> bool | None:
        scales = self.scales(a.unit, b.unit)
        if not scales:
            return False
        return _any(self.forms(a.form, b.form, scale) for scale in scales)

    def scales(self, a: str, b: str) -> tuple[Fraction, ...]:
        """By what the second number may be multiplied so that both are of one unit; none if they are not."""
        if a == b:
            return (Fraction(1),)
        if "%" in (a, b) and {a, b} <= {"%", ""}:
            if "percent" not in self.accept:
                return ()
            return (Fraction(1), Fraction(1, 100) if b == "%" else Fraction(100))
        if a and b or "unit" not in self.accept:
            return ()
        return (Fraction(1),)

    def forms(self, a: exact.Form, b: exact.Form, scale: Fraction) -> bool | None:
        x, y = a.rational, b.rational
        if x is not None and y is not None:
            close = abs(x - y * scale) <= self.tolerance * abs(y * scale)
            return close if "value" in self.accept else x == y * scale and a == b
        try:
            if exact.equal(a, exact.times(b, exact.number(scale))):
                return True
        except TooLarge:
            return None
        return None if a.opaque or b.opaque else False

    def several(self, a: Answer, b: Answer) -> bool | None:
        one = a if isinstance(a, Several) else Several((a,))
        other = b if isinstance(b, Several) else Several((b,))
        if one.joined != other.joined:
            return None
        ordered = [x for x in (one, other) if x.brackets not in ("", "{}")]
        if not ordered and "order" in self.accept or one.joined == "cup":
            if one.joined == "," and len(one.parts) != len(other.parts):
                return False if _understood(one) and _understood(other) else None
            return self.matched(list(one.parts), list(other.parts))
        if len(ordered) == 1 or one.brackets != other.brackets:
            return False if _understood(one) and _understood(other) else None
        return self.each(one.parts, other.parts)

    def each(self, a: Sequence[Answer], b: Sequence[Answer]) -> bool | None:
        if len(a) != len(b):
            return False
        result: bool | None = True
        for x, y in zip(a, b, strict=True):
            same = self.same(x, y)
            if same is False:
                return False
            result = result and same
        return result

    def matched(self, a: list[Answer], b: list[Answer]) -> bool | None:
        """Each of a with another of b."""
        if len(a) != len(b):
            return None
        known = True
        for x in a:
            verdicts = [self.same(x, y) for y in b]
            if True in verdicts:
                b = [y for i, y in enumerate(b) if i != verdicts.index(True)]
            else:
                known = known and None not in verdicts
                if known:
                    return False
                return None
        return True

    def matrices(self, a: Answer, b: Answer) -> bool | None:
        if not (isinstance(a, Matrix) and isinstance(b, Matrix)):
            return None
        if a.kind != b.kind or [len(r) for r in a.rows] != [len(r) for r in b.rows]:
            return False
        return self.each([x for row in a.rows for x in row], [x for row in b.rows for x in row])

    def relations(self, a: Answer, b: Answer) -> bool | None:
        if isinstance(a, Relation) and isinstance(b, Relation):
            if a.signs == b.signs and self.each(a.sides, b.sides):
                return True
            if a.signs == b.signs in (("=",), ("ne",)):
                turned = self.each(a.sides, b.sides[::-1])
                return True if turned else _one_equation(a, b)
        if "interval" in self.accept:
            x, y = _interval(a), _interval(b)
            if x is not None and y is not None:
                if x.name and y.name and x.name != y.name:
                    return False
                return _both(x.brackets == y.brackets, lambda: self.each(x.parts, y.parts))
        return None


def _both(first: bool, second: Callable[[], bool | None]) -> bool | None:
    return second() if first else False


def _any(verdicts) -> bool | None:
    seen = list(verdicts)
    return True if True in seen else None if None in seen else False


def _ratio(text: str) -> tuple[int, ...]:
    """The numbers of `3:2`; empty where it is none."""
    return tuple(map(int, text.split(":"))) if re.fullmatch(r"\d{1,9}(?::\d{1,9})+", text) else ()


def _one_ratio(a: str, b: str) -> bool:
    x, y = _ratio(a), _ratio(b)
    if not x or len(x) != len(y) or re.fullmatch(CLOCK, a) and re.fullmatch(CLOCK, b):
        return False
    return all(p * y[0] == q * x[0] for p, q in zip(x, y, strict=True)) and 0 not in (*x, *y)


def _one_time(a: str, b: str) -> bool:
    """Whether two times of day differ in that one says am or pm."""
    short, long = sorted((a, b), key=len)
    return re.fullmatch(CLOCK, short) is not None and re.fullmatch(rf"{short} ?[ap]\.?m\.?", long) is not None


def _understood(answer: Answer) -> bool:
    if isinstance(answer, Several):
        return all(map(_understood, answer.parts))
    return isinstance(answer, Value) and not answer.form.opaque or isinstance(answer, Words) and answer.plain


def _one_equation(a: Relation, b: Relation) -> bool | None:
    """Whether two equations differ by a rational factor."""
    sides = (*a.sides, *b.sides)
    if not all(isinstance(side, Value) and not side.unit for side in sides):
        return None
    left, right = (exact.add(x.form, exact.negative(y.form)) for x, y in (a.sides, b.sides))
    if left.below.keys() != {()} or right.below.keys() != {()}:
        return None
    return True if exact.proportional(left, right) else None


INFINITE = Value(exact.atom("infty"))
MINUS_INFINITE = Value(exact.negative(exact.atom("infty")))


def _interval(answer: Answer) -> Several | None:
    """An interval, or an inequality of a name as one."""
    if isinstance(answer, Several):
        return answer if len(answer.parts) == 2 and answer.brackets in ("()", "[]", "(]", "[)") else None
    if not isinstance(answer, Relation) or not set(answer.signs) <= {"<", "le"}:
        return None
    is_name = [len(name) == 1 and name.isalpha() for name in answer.names]
    bracket = {"<": "()", "le": "[]"}
    if is_name == [True, False]:
        closing = bracket[answer.signs[0]][1]
        return Several((MINUS_INFINITE, answer.sides[1]), "(" + closing, answer.names[0])
    if is_name == [False, True]:
        return Several((answer.sides[0], INFINITE), bracket[answer.signs[0]][0] + ")", answer.names[1])
    if is_name == [False, True, False]:
        brackets = bracket[answer.signs[0]][0] + bracket[answer.signs[1]][1]
        return Several((answer.sides[0], answer.sides[2]), brackets, answer.names[1])
    return None
