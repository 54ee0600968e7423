r"""A final answer in one spelling -> its structure: values with name and unit, lists, tuples, intervals, matrices.

Whatever is not understood is kept as text, marked as such: a comparison then says that it does not know.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from jaxsrl.rewards import exact
from jaxsrl.rewards.closed_form import Unread, closed_form
from jaxsrl.rewards.exact import Form
from jaxsrl.rewards.spelling import CLOSE, OPEN, WORD, spelled
from jaxsrl.rewards.units import unit_of

MAX_TYPED = 4000  # characters; a longer text is compared as it stands
MAX_CHARACTERS = 1000  # in one spelling
MAX_DEPTH = 8
MAX_PARTS = 64


@dataclass(frozen=True)
class Value:
    """A number or formula. `name` is what stands before `=`; `unit` what stands behind or before it."""

    form: Form
    name: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Words:
    """Words, or LaTeX that is not understood (`plain` is false)."""

    text: str
    plain: bool
    name: str = ""


@dataclass(frozen=True)
class Several:
    """Parts in brackets, whose order counts, or in none or in braces, whose order does not. A union has no brackets."""

    parts: tuple["Answer", ...]
    brackets: str = ""  # as "(]"
    name: str = ""
    joined: str = ","  # or "cup"


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple["Answer", ...], ...]
    kind: str = ""  # v, V: a determinant, a norm
    name: str = ""


@dataclass(frozen=True)
class Relation:
    """Sides with signs between them; `>` and `ge` are turned round."""

    sides: tuple["Answer", ...]
    signs: tuple[str, ...]
    names: tuple[str, ...] = ()  # the sides as they are spelled
    name: str = ""


@dataclass(frozen=True)
class Chosen:
    """`(C) 12`: a letter of several choices and what it stands for."""

    letter: str
    content: "Answer"
    name: str = ""


Answer = Value | Words | Several | Matrix | Relation | Chosen

CHOICE = re.compile(r"\(\s*([A-J])\s*\)[ :.]*(?=[^ ])(?![-+*/^=_(,!)])(.+)|([A-J])[).:] (.+)")
PLAIN = re.compile(r"[A-Za-z][A-Za-z .,'/-]*|\d+(?: *: *\d+)+(?: *[ap]\.? ?m\.?)?", re.IGNORECASE)
LETTERS = re.compile(r"[abckmnpqrstuvxyz]{1,3}|[A-Z]|[ijelod]")  # products of variables; longer ones are words
AND = re.compile(rf"(?:,\s*)?(?:{OPEN}\s*(?:and|or)\s*{CLOSE}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|\\vee(?![a-zA-Z]))")
MATRIX = re.compile(r"\\begin\{([pbvVB]?)(?:matrix|smallmatrix)\}(.*)\\end\{\1(?:matrix|smallmatrix)\}", re.DOTALL)
ARRAY = re.compile(r"([(\[]?)\s*\\begin\{array\}\s*(?:\{[lcr| ]*\})?(.*)\\end\{array\}\s*([)\]]?)", re.DOTALL)
SIGNS = re.compile(r"\\(?:le|ge|ne|in|approx|equiv)(?![a-zA-Z])|<=|>=|!=|[=<>]")
SIGN = {"<=": "le", ">=": "ge", "!=": "ne", "approx": "="}
TURNED = {">": "<", "ge": "le"}
OPENING, CLOSING = {"(", "[", "\\{", "{", "\\langle"}, {")", "]", "\\}", "}", "\\rangle"}
BRACKET = re.compile(r"\\langle(?![a-zA-Z])|\\rangle(?![a-zA-Z])|\\[{}]|[()\[\]{}]")
# Possessive, so that no part of a text is tried twice.
# A name: letters, indices, powers, functions of those, lengths and angles; no coefficient, else it is an equation.
NAMED = re.compile(rf"(?>\\[a-zA-Z]++|{WORD}|[a-zA-Z]|[(){{}}\[\]|,'+*/ -]|[_^]\s*(?:\d+|\{{[^{{}}]*\}})|\d+(?=\)))++")


@lru_cache(maxsize=4096)
def read_answer(text: str) -> Answer:
    """The structure of a final answer as somebody typed it."""
    text = spelled(text) if len(text) <= MAX_TYPED else text
    return _read(text, 0) if len(text) <= MAX_CHARACTERS else Words(_squeezed(text), False)


def _read(text: str, depth: int) -> Answer:
    text = text.strip(" ;")
    if depth > MAX_DEPTH:
        return Words(_squeezed(text), False)
    if (match := re.fullmatch(r"\(? *([A-Z]) *\)?", _unmarked(text))) is not None:
        text = match[1]
    if (match := CHOICE.fullmatch(_unmarked(text))) is not None:
        return Chosen(match[1] or match[3], _read(match[2] or match[4], depth + 1))
    for reader in (_matrix, _several, _union, _relation, _bracketed, _either):
        if (found := reader(text, depth)) is not None:
            return found
    return _value(text)


def _value(text: str) -> Answer:
    unmarked = _unmarked(text).strip()
    if PLAIN.fullmatch(unmarked) and not all(map(LETTERS.fullmatch, re.findall("[A-Za-z]+|[0-9]+", unmarked))):
        return Words(_squeezed(unmarked), True)
    rest, unit, scale = unit_of(text)
    try:
        form = closed_form(rest if rest != text else unmarked if OPEN in text and LETTERS.fullmatch(unmarked) else text)
    except Unread:
        return Words(_squeezed(text), False)
    return Value(form if scale == 1 else exact.times(form, exact.number(scale)), unit=unit)


def _unmarked(text: str) -> str:
    return text.replace(OPEN, " ").replace(CLOSE, " ").strip()


def _squeezed(text: str) -> str:
    """Without case, marks, and white space but between two words."""
    text = re.sub(r"\s+", " ", _unmarked(text).casefold())
    text = re.sub(r"\{(\w)\}", r"\1", text)
    return re.sub(r"(?<!\w) | (?!\w)", "", text).rstrip(".")


def _parts(text: str, separator: re.Pattern) -> list[str]:
    """The text cut at each separator that stands in no bracket."""
    depth, cuts = 0, [0]
    both = re.compile(rf"(?P<bracket>{BRACKET.pattern})|(?P<cut>{separator.pattern})")
    for match in both.finditer(text):
        if match["bracket"]:
            depth += 1 if match["bracket"] in OPENING else -1
        elif depth == 0 and match["cut"]:
            cuts += [match.start(), match.end()]
    return [text[a:b] for a, b in zip(cuts[::2], [*cuts[1::2], len(text)], strict=True)]


COMMA = re.compile(rf"[,;]|{AND.pattern}")
CUP = re.compile(r"\\cup(?![a-zA-Z])")


def _several(text: str, depth: int) -> Answer | None:
    parts = [part.strip() for part in _parts(text, COMMA)]
    kept = [part for part in parts if part]
    if len(kept) < 2 or len(kept) > MAX_PARTS:
        return None
    return Several(tuple(_read(part, depth + 1) for part in kept))


def _union(text: str, depth: int) -> Answer | None:
    parts = _parts(text, CUP)
    if len(parts) < 2 or len(parts) > MAX_PARTS:
        return None
    return Several(tuple(_read(part, depth + 1) for part in parts), joined="cup")


def _bracketed(text: str, depth: int) -> Answer | None:
    """`(a, b)`, `[a, b)`, `\\{a, b\\}`: brackets round everything, with at least two parts unless they are braces."""
    first = BRACKET.match(text)
    last = next((b for b in (")", "]", "\\}", "\\rangle") if text.endswith(b)), None)
    if first is None or last is None or first[0] == "{" or first[0] not in OPENING | {"]"}:
        return None
    inside, level = text[first.end() : len(text) - len(last)], 0
    for bracket in BRACKET.finditer(inside):
        level += 1 if bracket[0] in OPENING else -1
        if level < 0:
            return None
    if level:
        return None
    parts = [part.strip() for part in _parts(inside, re.compile(r"[,;]"))]
    braces = first[0] == "\\{"
    if braces and last != "\\}" or len(parts) > MAX_PARTS or not braces and len(parts) < 2:
        return None
    if first[0] in ("(", "\\langle") and len(parts) < 2 or not all(parts) and not (braces and parts == [""]):
        return None
    read = tuple(_read(part, depth + 1) for part in parts if part)
    if braces:
        return Several(read, brackets="{}")
    return Several(read, brackets={"\\langle": "("}.get(first[0], first[0]) + {"\\rangle": ")"}.get(last, last))


def _either(text: str, depth: int) -> Answer | None:
    r"""`a \pm b` is two answers."""
    signs = re.findall(r"\\(?:pm|mp)(?![a-zA-Z])", text)
    if len(signs) != 1:
        return None
    both = [text.replace(signs[0], f" {sign} ") for sign in "+-"]
    read = tuple(_read(one, depth + 1) for one in both)
    return Several(read) if all(isinstance(one, Value) for one in read) else None


def _matrix(text: str, depth: int) -> Answer | None:
    match, kind = MATRIX.fullmatch(text), ""
    if match is not None:
        kind, body = match[1] if match[1] in "vV" else "", match[2]
    elif (match := ARRAY.fullmatch(text)) is not None:
        body = match[2]
    elif (match := re.fullmatch(r"[(\[]\s*(\\begin\{matrix\}.*\\end\{matrix\})\s*[)\]]", text, re.DOTALL)) is not None:
        return _matrix(match[1], depth)
    else:
        return None
    if "\\begin" in body:
        return None
    rows = [row.split("&") for row in re.split(r"\\\\(?:\s*\[[^\]]*\])?", body) if row.strip()]
    if sum(map(len, rows)) > MAX_PARTS:
        return None
    return Matrix(tuple(tuple(_read(cell, depth + 1) for cell in row) for row in rows), kind)


def _relation(text: str, depth: int) -> Answer | None:
    r"""`x = 5` is 5, named x. Other relations stay what they are."""
    sides = [side.strip() for side in _parts(text, SIGNS)]
    if len(sides) < 2 or not all(sides):
        return None
    found, level = [], 0
    for match in re.finditer(rf"(?P<bracket>{BRACKET.pattern})|(?P<sign>{SIGNS.pattern})", text):
        if match["bracket"]:
            level += 1 if match["bracket"] in OPENING else -1
        elif not level:
            sign = match["sign"].removeprefix("\\")
            found.append(SIGN.get(sign, sign))
    read = tuple(_read(side, depth + 1) for side in sides)
    if set(found) <= {"="} or found == ["in"]:
        if (last := _last(sides, read)) is not None:
            return last
    if set(found) <= set(TURNED):
        sides, read, found = sides[::-1], read[::-1], [TURNED[sign] for sign in reversed(found)]
    return Relation(read, tuple(found), tuple(map(_squeezed, sides)))


def _last(sides: list[str], read: tuple[Answer, ...]) -> Answer | None:
    """What a chain of equations ends with, if all but its first side are one value, or that is no name."""
    first, *middle = read
    same = lambda a: isinstance(a, Value) and isinstance(read[-1], Value) and exact.equal(a.form, read[-1].form)
    named = NAMED.fullmatch(sides[0]) is not None and not same(first)
    if isinstance(read[-1], Chosen) or read[-1].name or not all(same(one) for one in middle[:-1]):
        return None
    if named:
        return replace(read[-1], name=_squeezed(sides[0]))
    return read[-1] if same(first) else None
