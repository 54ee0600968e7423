r"""LaTeX of one number or formula -> its exact form.

What is read: numbers (decimals, repeating ones, `3e5`, mixed numbers), fractions, powers, roots, binomials, factorials
and absolute values of numbers, pi, i, letters with subscripts, products without a sign. Functions and powers with
letters in the exponent become opaque atoms. Nothing is evaluated but by `exact`, which bounds every number.
"""

import math
import re
from fractions import Fraction

from jaxsrl.rewards import exact
from jaxsrl.rewards.exact import Form, TooLarge

MAX_CHARACTERS = 400
MAX_DEPTH = 30
MAX_EXPONENT = 400  # of ten, in 3e5
MAX_FACTORIAL = 200

TOKEN = re.compile(
    r"(?P<repeating>\d*\.\d*\\overline\s*\{\d+\})|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+(?![\d.a-zA-Z]))?)|"
    r"\\(?P<command>[a-zA-Z]+)|(?P<letter>[a-zA-Z])|(?P<sign>\\[{}%|]|[^\s\\])|(?P<space>\s+)"
)
WORD = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]{4,}")
FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "ln", "log", "lg",
    "exp", "arg", "det", "gcd", "lcm", "max", "min",
}  # fmt: skip
GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi",
    "Sigma", "Phi", "Psi", "Omega", "pi", "infty", "emptyset", "ell", "hbar", "aleph",
}  # fmt: skip
CALLED = set("fghFGP")  # before a bracket these are functions, other letters are factors


class Unread(ValueError):
    """A text that is no closed form as this file reads them."""


def closed_form(text: str) -> Form:
    """The form of a text as `spelling.spelled` leaves it.

    Raises: Unread where it is none, or one that is not worth the time.
    """
    if len(text) > MAX_CHARACTERS:
        raise Unread("a long text")
    if WORD.search(text):
        raise Unread("a word")
    reader = _Reader(_tokens(text))
    try:
        form = reader.sum()
        if reader.peek() == ("command", "over"):
            reader.take()
            form = exact.over(form, reader.sum())
    except (TooLarge, ZeroDivisionError) as error:
        raise Unread(str(error)) from None
    if reader.at < len(reader.tokens):
        raise Unread(f"no closed form goes on with {reader.tokens[reader.at][1]!r}")
    return form


def _tokens(text: str) -> list[tuple[str, str]]:
    out, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise Unread(f"no closed form has {text[at]!r}")
        at = match.end()
        out.append((match.lastgroup, match[0].removeprefix("\\") if match.lastgroup == "command" else match[0]))
    return out


def decimal(text: str) -> Fraction:
    """The value of `12.5`, `.5`, `5.` or `3e5`."""
    mantissa, _, exponent = text.lower().partition("e")
    if len(exponent) > 5 or abs(int(exponent or 0)) > MAX_EXPONENT:
        raise Unread("a number of too many digits")
    return Fraction(mantissa.rstrip(".") or "0") * Fraction(10) ** int(exponent or 0)


def repeating(text: str) -> Fraction:
    r"""The value of `0.1\overline{6}`."""
    head, _, tail = text.partition("\\overline")
    period = tail.strip().strip("{}")
    whole, _, fixed = head.partition(".")
    start = Fraction(int((whole + fixed) or 0))
    return (start + Fraction(int(period), 10 ** len(period) - 1)) / 10 ** len(fixed)


class _Reader:
    """Recursive descent over tokens; `at` is the next one."""

    def __init__(self, tokens: list[tuple[str, str]]):
        self.tokens, self.at, self.depth = tokens, 0, 0

    def peek(self) -> tuple[str, str]:
        """The next token that is no space; ("end", "") behind the last."""
        while self.at < len(self.tokens) and self.tokens[self.at][0] == "space":
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, sign: str) -> None:
        if (token := self.take()) != ("sign", sign):
            raise Unread(f"{sign!r} is missing before {token[1]!r}")

    def sum(self) -> Form:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unread("a deep text")
        total = self.product(self.minus())
        while self.peek()[1] in ("+", "-"):
            negative = self.take()[1] == "-"
            total = exact.add(total, self.product(negative != self.minus()))
        self.depth -= 1
        return total

    def minus(self) -> bool:
        """Takes the sign that may stand before a term."""
        return self.peek()[1] in ("+", "-") and self.take()[1] == "-"

    def product(self, negative: bool) -> Form:
        value = self.power()
        divided = False
        while True:
            kind, text = self.peek()
            if text == "/":
                self.take()
                value, divided = exact.over(value, self.power()), True
            elif text == "*" or kind == "command" and text in ("cdot", "times"):
                self.take()
                sign = self.minus()
                value, divided = exact.times(value, self.power()), False
                value = exact.negative(value) if sign else value
            elif kind in ("letter", "command") or text in ("(", "{"):
                if kind == "command" and text in ("over", "pm", "mp", "right", "rangle", "rfloor", "rceil", "end"):
                    break
                if divided:
                    raise Unread("1/2x has two readings")
                value = exact.times(value, self.power())
            else:
                break
        return exact.negative(value) if negative else value

    def power(self) -> Form:
        start = self.at
        base, named = self.atom(), ""
        while True:
            text = self.peek()[1]
            if text == "!":
                self.take()
                base = _factorial(base)
            elif text == "^":
                self.take()
                exponent = self.argument(digits=True)
                base = _power(base, exponent)
            elif text == "'":
                raise Unread("a derivative")
            elif text == "_":
                named = "".join(token[1] for token in self.tokens[start : self.at] if token[0] != "space")
                base = self.indexed(named)
            else:
                return base

    def indexed(self, name: str) -> Form:
        """A letter with an index, or digits with a base: `a_1`, `4210_{5}`."""
        if not re.fullmatch(r"[a-zA-Z]+|\d+", name):
            raise Unread(f"an index of {name!r}")
        self.take()
        kind, text = self.take()
        if text == "{":
            index = ""
            while (token := self.take())[1] != "}":
                if token[0] not in ("number", "letter", "command") and token[1] not in ("+", "-", ","):
                    raise Unread("an index of other signs")
                index += token[1]
        elif kind in ("number", "letter", "command"):
            index = text
        else:
            raise Unread("an index of other signs")
        return exact.atom(f"{name}_{index}")

    def atom(self) -> Form:
        kind, text = self.take()
        if kind == "number":
            return self.number(text)
        if kind == "repeating":
            return exact.number(repeating(text))
        if kind == "letter":
            if text in CALLED and self.peek()[1] == "(":
                raise Unread("a function's value")
            return exact.atom(text)
        if text in ("(", "{", "["):
            return self.group({"(": ")", "{": "}", "[": "]"}[text])
        if text == "|":
            value = self.sum()
            self.expect("|")
            return _absolute(value)
        if kind == "command":
            return self.command(text)
        raise Unread(f"a closed form does not begin with {text!r}")

    def number(self, text: str) -> Form:
        value = decimal(text)
        if text.isdigit():
            value += self.mixed()
        if self.peek()[0] in ("number", "repeating"):
            raise Unread("two numbers side by side")
        return exact.number(value)

    def mixed(self) -> Fraction:
        """The fraction of a mixed number, as in `2\\frac{1}{2}` and `2 1/2`; 0 if what follows is none."""
        rest = self.tokens[self.at : self.at + 10]
        spaced = bool(rest) and rest[0][0] == "space"
        words = "".join("\\" + t if k == "command" else t for k, t in rest if k != "space")
        found = re.match(r"\\frac(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d)(?!\d))(?![\d^!])", words)
        if found is None and spaced:
            found = re.match(r"(\d+)()/(\d+)()(?![\d^!.])", words)
        if found is None:
            return Fraction(0)
        above, below = int(found[1] or found[2]), int(found[3] or found[4])
        if not 0 < above < below:
            raise Unread("a number before an improper fraction")
        length, seen = found.end(), 0
        while seen < length:
            token = self.tokens[self.at]
            seen += 0 if token[0] == "space" else len(token[1]) + (token[0] == "command")
            self.at += 1
        return Fraction(above, below)

    def group(self, closing: str) -> Form:
        value = self.sum()
        if closing == "}" and self.peek() == ("command", "over"):
            self.take()
            value = exact.over(value, self.sum())
        self.expect(closing)
        return value

    def argument(self, *, digits: bool = False) -> Form:
        """What a command or `^` takes: a group, a command with its own, one letter, or one digit.

        Args:
          digits: takes all digits that follow: `2^10` is meant as 2^{10}.
        """
        kind, text = self.peek()
        if kind == "number" and text.isdigit() and not digits and len(text) > 1:
            self.tokens[self.at : self.at + 1] = [("number", text[0]), ("number", text[1:])]
        if digits and text == "-":
            self.take()
            return exact.negative(self.argument(digits=True))
        if digits and text == "(":
            self.take()
            return self.group(")")
        kind, text = self.take()
        if kind == "number":
            return exact.number(decimal(text))
        if text == "{":
            return self.group("}")
        if kind == "letter":
            return exact.atom(text)
        if kind == "command" and text in GREEK | {"frac", "sqrt"}:
            return self.command(text)
        raise Unread(f"no argument begins with {text!r}")

    def command(self, name: str) -> Form:
        if name in GREEK:
            return exact.atom(name)
        if name == "frac":
            above = self.argument()
            value = exact.over(above, self.argument())
            if self.peek()[0] == "number":
                raise Unread("digits behind a fraction")
            return value
        if name == "sqrt":
            return self.root()
        if name == "binom":
            return _binomial(self.argument(), self.argument())
        if name in FUNCTIONS:
            return self.function(name)
        raise Unread(f"the command {name}")

    def root(self) -> Form:
        degree = 2
        if self.peek()[1] == "[":
            self.take()
            kind, text = self.take()
            if kind != "number" or not re.fullmatch("[2-9]|1[0-6]", text):
                raise Unread("a root of another degree")
            degree = int(text)
            self.expect("]")
        if self.peek()[0] == "number" and len(self.peek()[1]) > 1:
            raise Unread("a root of several digits without braces")
        if self.peek()[1] == "(":
            self.take()
            return _power(self.group(")"), exact.number(Fraction(1, degree)))
        return _power(self.argument(), exact.number(Fraction(1, degree)))

    def function(self, name: str) -> Form:
        """An opaque atom, named by the function and its argument."""
        if self.peek()[1] == "_":
            self.take()
            name += "_" + exact.written(self.argument(digits=True))
        if self.peek()[1] in ("^", "_"):
            raise Unread("a power of a function")
        if self.peek()[1] == "(":
            self.take()
            argument = self.group(")")
        else:
            argument = self.power()
            if self.peek()[0] in ("letter", "command", "number") or self.peek()[1] == "/":
                raise Unread("a function's argument of several factors without brackets")
        return exact.opaque(f"{name}({exact.written(argument)})")


def _power(base: Form, exponent: Form) -> Form:
    if (value := exponent.rational) is not None:
        try:
            return exact.power(base, value)
        except TooLarge:
            pass
    return exact.opaque(f"({exact.written(base)})^({exact.written(exponent)})")


def _whole(form: Form, most: int) -> int:
    value = form.rational
    if value is None or value.denominator != 1 or not 0 <= value <= most:
        raise Unread("not a small whole number")
    return int(value)


def _factorial(form: Form) -> Form:
    if form.rational is None:
        return exact.opaque(f"({exact.written(form)})!")
    return exact.number(math.factorial(_whole(form, MAX_FACTORIAL)))


def _binomial(n: Form, k: Form) -> Form:
    if n.rational is None or k.rational is None:
        return exact.opaque(f"binom({exact.written(n)},{exact.written(k)})")
    return exact.number(math.comb(_whole(n, MAX_FACTORIAL), _whole(k, MAX_FACTORIAL)))


def _absolute(form: Form) -> Form:
    value = form.rational
    return exact.opaque(f"|{exact.written(form)}|") if value is None else exact.number(abs(value))
