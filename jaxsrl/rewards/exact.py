"""Exact arithmetic on closed forms: quotients of sums, whose terms are rational multiples of roots, pi, i and letters.

A term is a coefficient and the powers of its atoms. An atom is a prime, under an exponent between 0 and 1, or a name.
Different terms are linearly independent over the rational numbers, so that two forms are equal if and only if their
terms are, and nothing is rounded. Only an opaque atom, such as `sin(1)`, may hide that two forms are equal. Every
operation is bounded: a form that grows beyond the bounds below raises TooLarge.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

Term = tuple[tuple[str | int, Fraction], ...]  # (atom, exponent), ordered; primes are int
Sum = Mapping[Term, Fraction]

MAX_BITS = 1 << 11  # of a numerator or denominator
MAX_TERMS = 32
MAX_POWER = 16  # of a sum of several terms
MAX_FACTORED = 10**8  # trial division of a larger number would take more than a millisecond
OPAQUE = "?"  # first character of an atom about which nothing is known


class TooLarge(ValueError):
    """A form that is not worked out, as it would take too long."""


@dataclass(frozen=True)
class Form:
    """above / below; neither is simplified, as equality multiplies crosswise."""

    above: Sum
    below: Sum

    @property
    def opaque(self) -> bool:
        """Whether there is an atom about which nothing is known."""
        return any(
            isinstance(atom, str) and atom[0] == OPAQUE
            for part in (self.above, self.below) for term in part for atom, _ in term
        )  # fmt: skip

    @property
    def rational(self) -> Fraction | None:
        """The number that it is; None for any other."""
        above, below = _constant(self.above), _constant(self.below)
        return None if above is None or not below else above / below


def number(value: Fraction | int) -> Form:
    value = Fraction(value)
    _check(value)
    return Form(_sum({(): value}), {(): Fraction(1)})


def atom(name: str) -> Form:
    """A letter, or whatever the name stands for."""
    return Form({((name, Fraction(1)),): Fraction(1)}, {(): Fraction(1)})


def opaque(name: str) -> Form:
    return atom(OPAQUE + name)


def add(a: Form, b: Form) -> Form:
    if a.below == b.below:
        return Form(_add(a.above, b.above), a.below)
    return Form(_add(_times(a.above, b.below), _times(b.above, a.below)), _times(a.below, b.below))


def times(a: Form, b: Form) -> Form:
    return Form(_times(a.above, b.above), _times(a.below, b.below))


def negative(a: Form) -> Form:
    return Form({term: -c for term, c in a.above.items()}, a.below)


def over(a: Form, b: Form) -> Form:
    """Raises: ZeroDivisionError."""
    if not b.above:
        raise ZeroDivisionError("a form divided by zero")
    return times(a, Form(b.below, b.above))


def equal(a: Form, b: Form) -> bool:
    """Whether they are one number or function; sure to be so where true, and where false if neither is opaque."""
    return _times(a.above, b.below) == _times(b.above, a.below)


def proportional(a: Form, b: Form) -> bool:
    """Whether one is a rational multiple of the other, and neither is zero."""
    left, right = _times(a.above, b.below), _times(b.above, a.below)
    if not left or left.keys() != right.keys():
        return False
    return len({left[term] / right[term] for term in left}) == 1


def power(base: Form, exponent: Fraction) -> Form:
    """base ** exponent, the principal root of a number.

    Raises: TooLarge, also for a root that is not a term's: `opaque` is the caller's to use.
    """
    if exponent < 0:
        return over(number(1), power(base, -exponent))
    if exponent.denominator == 1:
        return Form(_to(base.above, exponent.numerator), _to(base.below, exponent.numerator))
    # sqrt(a/b) = sqrt(a b)/b has one root only, and is right for b < 0 too where both are numbers
    if (value := base.rational) is not None:
        return Form(_root(value, exponent), {(): Fraction(1)})
    if len(base.above) != 1 or base.below != {(): 1}:
        raise TooLarge("the root of a sum")
    ((term, coefficient),) = base.above.items()
    if coefficient < 0 or any(e != 1 for _, e in term) or any(a == "i" for a, _ in term):
        raise TooLarge("a root that depends on signs")  # sqrt(x^2) is |x|
    rest = {tuple((a, e * exponent) for a, e in term): Fraction(1)}
    return Form(_times(_root(coefficient, exponent), rest), {(): Fraction(1)})


def _constant(terms: Sum) -> Fraction | None:
    if not terms:
        return Fraction(0)
    return terms[()] if terms.keys() == {()} else None


def _check(value: Fraction) -> None:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise TooLarge("a number of too many digits")


def _sum(terms: Sum) -> Sum:
    return {term: c for term, c in terms.items() if c}


def _add(a: Sum, b: Sum) -> Sum:
    out = dict(a)
    for term, c in b.items():
        out[term] = out.get(term, Fraction(0)) + c
        _check(out[term])
    if len(out) > MAX_TERMS:
        raise TooLarge("a sum of too many terms")
    return _sum(out)


def _times(a: Sum, b: Sum) -> Sum:
    if len(a) * len(b) > MAX_TERMS**2:
        raise TooLarge("a product of too many terms")
    out: dict[Term, Fraction] = {}
    for left, c in a.items():
        for right, d in b.items():
            term, factor = _joined(left, right)
            out[term] = out.get(term, Fraction(0)) + c * d * factor
            _check(out[term])
    if len(out) > MAX_TERMS:
        raise TooLarge("a sum of too many terms")
    return _sum(out)


def _joined(left: Term, right: Term) -> tuple[Term, Fraction]:
    """The product of two terms without coefficients: a term and a coefficient."""
    if not left or not right:
        return left or right, Fraction(1)
    powers: dict[str | int, Fraction] = dict(left)
    for name, e in right:
        powers[name] = powers.get(name, Fraction(0)) + e
    return _term(powers)


def _term(powers: dict[str | int, Fraction]) -> tuple[Term, Fraction]:
    factor = Fraction(1)
    out: list[tuple[str | int, Fraction]] = []
    for name, e in powers.items():
        if isinstance(name, int):
            whole = e.numerator // e.denominator
            factor, e = factor * Fraction(name) ** whole, e - whole
        elif name == "i" and e.denominator == 1:
            factor, e = factor * (-1 if e % 4 in (2, 3) else 1), e % 2
        if e:
            out.append((name, e))
    return tuple(sorted(out, key=lambda pair: (isinstance(pair[0], str), str(pair[0])))), factor


def _to(terms: Sum, n: int) -> Sum:
    if not terms:
        return {} if n else {(): Fraction(1)}
    if len(terms) > 1 and n > MAX_POWER:
        raise TooLarge("a high power of a sum")
    bits = max(max(c.numerator.bit_length(), c.denominator.bit_length()) for c in terms.values())
    if bits > 1 and bits * n > MAX_BITS:
        raise TooLarge("a number of too many digits")
    if len(terms) == 1:
        ((term, c),) = terms.items()
        if n > MAX_BITS:
            raise TooLarge("a high power")
        raised, factor = _term({name: e * n for name, e in term})
        _check(c**n * factor)
        return {raised: c**n * factor}
    out: Sum = {(): Fraction(1)}
    for _ in range(n):
        out = _times(out, terms)
    return out


def _root(value: Fraction, exponent: Fraction) -> Sum:
    """value ** exponent of a number, as a sum of one term."""
    powers: dict[str | int, Fraction] = {}
    if value < 0:
        if exponent.denominator != 2:
            raise TooLarge("an odd root of a negative number, which has two readings")
        powers["i"] = Fraction(exponent.numerator)
    if not value:
        return {}
    if exponent.numerator > MAX_POWER or exponent.denominator > MAX_POWER:
        raise TooLarge("a high root")
    for part, sign in ((abs(value.numerator), 1), (value.denominator, -1)):
        for prime, count in _factors(part).items():
            powers[prime] = powers.get(prime, Fraction(0)) + sign * count * exponent
    term, factor = _term(powers)
    return {term: factor}


def _factors(n: int) -> dict[int, int]:
    if n > MAX_FACTORED:
        square = math.isqrt(n)  # large squares are common under a root: 10^10, say
        if square * square == n and square <= MAX_FACTORED:
            return {prime: 2 * count for prime, count in _factors(square).items()}
        raise TooLarge("a large number under a root")
    out: dict[int, int] = {}
    prime = 2
    while prime * prime <= n:
        while n % prime == 0:
            out[prime], n = out.get(prime, 0) + 1, n // prime
        prime += 1 if prime == 2 else 2
    if n > 1:
        out[n] = out.get(n, 0) + 1
    return out


def written(form: Form) -> str:
    """One text for one pair of sums; used in the names of opaque atoms."""
    shown = lambda terms: "+".join(f"{c}{term}" for term, c in sorted(terms.items(), key=str))
    return f"{shown(form.above)}/{shown(form.below)}"
