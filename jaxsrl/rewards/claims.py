r"""Arithmetic that a text claims, found and worked out exactly: `16 - 3 = 13` holds, `16 - 3 = 12` does not.

    So she sells 16 - 3 - 4 = 9 eggs for 9 * $2 = $18.      two claims, both hold
    x + 3 * 4 = 20                                          none: x is not known
    total = 3 + 4 = 8                                       one, which does not hold

A claim is `left = right` where both sides are made of numbers, + - * / ^, brackets, percents and fractions, and one of
them at least computes something. A word of two letters or more behind a number is its unit and is skipped, `/week` too.
Whatever else stands on a side makes that equation no claim, so that nothing is judged that was not read whole.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

MAX_TOKENS = 64  # of a side
MAX_DEPTH = 16  # of brackets
MAX_DIGITS = 24  # of a number
MAX_BITS = 512  # of a value
MAX_POWER = 16

TOKEN = re.compile(
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"|(?P<fraction>\\[dtc]?frac\s*\{\s*\d+\s*\}\s*\{\s*\d+\s*\})"
    r"|(?P<about>\\approx(?![a-zA-Z])|≈)|(?P<equal>(?<![<>!=:])=(?![=>])|(?<![a-zA-Z])equals(?![a-zA-Z]))"
    r"|(?P<rate>/\s*[a-zA-Z]{2,}(?![a-zA-Z0-9_]))|(?P<sign>\\(?:times|cdot|div)(?![a-zA-Z])|[-+*/^×÷·⋅−–]|(?<![a-zA-Z])(?:[xX](?=\s*[\d$])|"
    r"(?:plus|minus|times|divided\s+by)(?![a-zA-Z])))"
    r"|(?P<percent>\\?%)|(?P<bracket>[()])|(?P<money>\\?[$€£])"
    r"|(?P<word>[a-zA-Z][a-zA-Z0-9_]*)|(?P<line>\n\s*(?:[-*•]\s)?)|(?P<space>[^\S\n]+|\\[,;! ])|(?P<other>.)"
)
SIGNS = {
    "\\times": "*", "\\cdot": "*", "\\div": "/", "×": "*", "÷": "/", "·": "*", "⋅": "*", "−": "-", "–": "-",
    "x": "*", "X": "*", "plus": "+", "minus": "-", "times": "*",
}  # fmt: skip
OPERANDS = ("number", "fraction")


class Claim(NamedTuple):
    """Something a text says that a program can check."""

    text: str
    holds: bool


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


class _Side(NamedTuple):
    value: Fraction
    computes: bool  # more than one number
    places: int | None  # decimals of a lone number, None of anything else
    percent: bool  # ends with a percent sign
    start: int
    end: int


class _Unread(ValueError):
    """Not an expression of these rules."""


def arithmetic_claims(text: str) -> list[Claim]:
    """The equations of numbers in a text, each with whether it holds. The time is linear in the text.

    A lone number with d decimals stands for every value that rounds to it; without decimals only behind a sign for
    `about`. `50%` is 0.5, and 50 where the other side is not a percentage. Of `a = b = c` both equations count.
    """
    tokens = _tokens(text)
    out = []
    for at, token in enumerate(tokens):
        if token.kind in ("equal", "about"):
            left, right = _left(tokens, at), _right(tokens, at)
            if left and right and (left.computes or right.computes):
                holds = _same(left, right, about=token.kind == "about")
                out.append(Claim(text[left.start : right.end].strip(), holds))
    return out


def count_claims(text: str) -> int:
    """How much arithmetic a text carries out, right or wrong."""
    return len(arithmetic_claims(text))


def _tokens(text: str) -> list[_Token]:
    """Without spaces and money signs; a unit behind a number is left out too."""
    out: list[_Token] = [_Token("line", "", 0, 0)]
    text = re.sub(r"\A\s*[-*•]\s", lambda bullet: " " * len(bullet[0]), text)
    for match in TOKEN.finditer(text):
        kind, written = str(match.lastgroup), match[0]
        before = out[-1].kind
        if kind in ("space", "money", "rate"):
            continue
        if kind == "sign":
            written = "/" if written[0] == "d" else SIGNS.get(written, written)
            if match[0] in "xX" and before not in (*OPERANDS, "percent", "bracket"):
                kind = "word"
        elif kind == "word":
            if written == "of" and (before == "percent" or _is_fraction(out)):
                kind, written = "sign", "*"
        elif kind == "line":
            kind = "other"
        elif kind == "number" and len(written) > MAX_DIGITS:
            kind = "other"
        out.append(_Token(kind, written, match.start(), match.end()))
    out.append(_Token("line", "", len(text), len(text)))
    return [token for at, token in enumerate(out) if not 1 < at < len(out) - 1 or not _is_unit(*out[at - 2 : at + 2])]


def _is_unit(first: _Token, number: _Token, word: _Token, after: _Token) -> bool:
    """`3 apples + 4`: a word between a number and what goes on with it. `2 kg = 2 * 1000 g` changes the unit."""
    goes_on = after.kind in ("sign", "equal", "about") or after.text == ")"
    converts = after.kind == "equal" and first.kind not in ("sign", "bracket")
    numbered = number.kind in (*OPERANDS, "percent") and not converts
    return word.kind == "word" and len(word.text) > 1 and word.text.isalpha() and numbered and goes_on


def _is_fraction(tokens: Sequence[_Token]) -> bool:
    last = tokens[-3:]
    return tokens[-1].kind == "fraction" or [t.text if t.kind == "sign" else t.kind for t in last] == [
        "number", "/", "number",
    ]  # fmt: skip


EXPRESSION = (*OPERANDS, "sign", "percent", "bracket")


def _left(tokens: Sequence[_Token], at: int) -> _Side | None:
    """The expression that ends before token `at`; None where what is before it may belong to it."""
    first = at
    while first > 0 and tokens[first - 1].kind in EXPRESSION and at - first < MAX_TOKENS:
        first -= 1
    for start in range(first, at):
        before = tokens[start - 1]
        if before.kind in ("sign", "percent", *OPERANDS) or (before.text == ")" and _opened(tokens, first, start)):
            continue
        if start > 1 and _joined(tokens[start - 2 : start + 2]):
            continue
        if tokens[start].kind == "sign" and before.kind == "word":
            continue  # x - 3 * 4: the sign is of two operands
        try:
            reader = _Reader(tokens, start)
            side = reader.side()
        except _Unread:
            continue
        if reader.at == at:
            # a bare letter before it is a factor
            return None if before.kind == "word" and len(before.text) == 1 else side
    return None


def _joined(tokens: Sequence[_Token]) -> bool:
    """`1 and 1/4`, `6:00` and `10 + (` go on with what is before them."""
    first, second, third, fourth = tokens
    mixed = first.kind == "number" and second.text == "and" and (third.kind == "fraction" or fourth.text == "/")
    between = second.kind == "other" and bool(second.text.strip())
    glued = first.kind == "number" and between and first.end + 1 == second.end == third.start
    return mixed or glued or (first.kind == "sign" and second.text == "(")


def _opened(tokens: Sequence[_Token], first: int, start: int) -> bool:
    return any(token.text == "(" for token in tokens[first:start])


def _right(tokens: Sequence[_Token], at: int) -> _Side | None:
    """The expression that begins behind token `at`; None where it goes on with what is not read."""
    try:
        reader = _Reader(tokens, at + 1)
        side = reader.side()
    except _Unread:
        return None
    after = tokens[reader.at]
    factor = after.kind == "word" and len(after.text) == 1
    mixed = after.text == "and" and [token.text for token in tokens[reader.at + 2 : reader.at + 3]] == ["/"]
    ends_here = after.kind not in (*OPERANDS, "sign") and after.text != "(" and not factor and not mixed
    return side if ends_here else None


def _same(left: _Side, right: _Side, *, about: bool) -> bool:
    if _rounded(left, right, 1, about=about):
        return True
    if left.percent == right.percent:
        return False
    # 10 / 20 * 100 = 50%: the percent sign as a unit
    plain, per = (left, right) if right.percent else (right, left)
    return _rounded(plain, per, 100, about=about)


def _rounded(a: _Side, b: _Side, scale: int, *, about: bool) -> bool:
    off = abs(a.value - b.value * scale)
    for side, factor in ((a, 1), (b, scale)):
        if side.places is not None and (side.places or about):
            unit = Fraction(factor, 100 if side.percent else 1) / 10**side.places
            if 2 * off <= unit:
                return True
    return off == 0


class _Reader:
    """Reads one expression by descent, token by token; every number is bounded."""

    def __init__(self, tokens: Sequence[_Token], at: int):
        self.tokens, self.at, self.begin = tokens, at, at
        self.numbers, self.depth = 0, 0

    def side(self) -> _Side:
        value = self.sum()
        read = self.tokens[self.begin : self.at]
        lone = self.numbers == 1
        places = None
        if lone and (number := next((t for t in read if t.kind == "number"), None)) is not None:
            places = len(number.text.partition(".")[2])
        percent = read[-1].kind == "percent"
        return _Side(value, not lone, places, percent, read[0].start, read[-1].end)

    def peek(self) -> str:
        token = self.tokens[self.at]
        return token.text if token.kind in ("sign", "bracket") else token.kind

    def sum(self) -> Fraction:
        value = self.product()
        while (sign := self.peek()) in ("+", "-"):
            self.at += 1
            other = self.product()
            value = self.kept(value + other if sign == "+" else value - other)
        return value

    def product(self) -> Fraction:
        value = self.signed()
        while (sign := self.peek()) in ("*", "/", "("):
            if sign != "(":
                self.at += 1
            other = self.signed()
            if sign == "/" and not other:
                raise _Unread("division by zero")
            value = self.kept(value / other if sign == "/" else value * other)
        return value

    def signed(self) -> Fraction:
        sign = self.peek()
        if sign in ("+", "-"):
            self.at += 1
        return -self.power() if sign == "-" else self.power()

    def power(self) -> Fraction:
        value = self.operand()
        if self.peek() == "^":
            self.at += 1
            exponent = self.signed()
            if exponent.denominator != 1 or abs(exponent) > MAX_POWER or (not value and exponent < 0):
                raise _Unread("a power that is not worked out")
            value = self.kept(value ** int(exponent))
        return value

    def operand(self) -> Fraction:
        token = self.tokens[self.at]
        self.at += 1
        if token.text == "(" and self.depth < MAX_DEPTH:
            self.depth += 1
            value = self.sum()
            self.depth -= 1
            if self.tokens[self.at].text != ")":
                raise _Unread("a bracket that is not closed")
            self.at += 1
        elif token.kind == "number":
            self.numbers += 1
            value = Fraction(token.text.replace(",", ""))
        elif token.kind == "fraction":
            self.numbers += 2  # it computes
            above, below = map(int, re.findall(r"\d+", token.text))
            if not below or max(above, below) >= 10**MAX_DIGITS:
                raise _Unread("no fraction")
            value = Fraction(above, below)
        else:
            raise _Unread("no operand")
        if self.peek() == "percent":
            self.at += 1
            value /= 100
        return value

    def kept(self, value: Fraction) -> Fraction:
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            raise _Unread("a large number")
        return value
