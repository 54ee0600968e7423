"""Pairs of synthetic steps of mathematics, related as completions are to an expert's step."""

import random
import re
import zlib
from collections.abc import Callable
from typing import Literal

Kind = Literal["near", "paraphrased", "half", "unrelated"]
KINDS: tuple[Kind, ...] = ("near", "paraphrased", "half", "unrelated")

SENTENCES = (
    "Dividing both sides by ${k}$ leaves ${x} = {m}$, which is positive as required.",
    "The discriminant is ${k}^2 - 4 \\cdot {m} = {n}$, so there are two real roots.",
    "Call the number of {things} ${x}$ and the number left over ${y}$; then ${x} + {k}{y} = {m}$.",
    "Hence $\\angle {P}{Q}{R} = {k}^\\circ$ and the two triangles are similar.",
    "By symmetry the expected number of {things} is $\\frac{{{k}}}{{{m}}}$ of the total.",
    "Modulo ${k}$ every square is $0$ or ${m}$, therefore ${x}^2 + {y}^2 \\neq {n}$.",
    "We integrate term by term and get $\\int_0^{{{k}}} {m}{x}^2 \\, d{x} = {n}$.",
    "There are ${k}$ choices for the first of the {things} and ${m}$ for the second, ${n}$ in all.",
    "Suppose ${x} \\geq {k}$; then $\\sqrt{{{x} + {m}}} > {n}$, a contradiction.",
    "Adding the equations gives ${k}({x} + {y}) = {m}$, and therefore ${x} + {y} = {n}$.",
    "The circle through ${P}$ and ${Q}$ has radius $\\frac{{{k}}}{{{m}}}$ and touches the line ${P}{R}$.",
    "It costs {k} dollars to buy {m} {things}, so {n} of them cost more than we have.",
)
THINGS = ("pencils", "tiles", "runners", "dice", "boxes", "lanterns", "stamps")
OTHER_WORDS = {
    "Hence": "So", "therefore": "thus", "Suppose": "Assume that", "gives": "yields", "leaves": "gives us",
    "get": "obtain", "Call": "Denote", "choices": "options", "all": "total", "equations": "two equations",
    "similar": "alike in shape", "positive": "greater than zero", "buy": "pay for", "\\frac": "\\dfrac", "=": "equals",
}  # fmt: skip


def pairs(kind: Kind, count: int, length: int, *, unit: Literal["chars", "tokens"], seed: int = 0):
    """`count` pairs (model's step, expert's step) of code points or token ids, each up to `length` elements long."""
    rng = random.Random(f"{kind} {unit} {length} {seed}")
    to_ids: Callable[[str], list[int]] = token_ids if unit == "tokens" else lambda text: [ord(c) for c in text]
    chars = length if unit == "chars" else 4 * length
    texts = (_pair(rng, kind, chars) for _ in range(count))
    return [(to_ids(model)[:length], to_ids(expert)[:length]) for model, expert in texts]


def token_ids(text: str) -> list[int]:
    """Words with their space, digits, signs, LaTeX commands: about the pieces of a byte-level BPE, ids below 2^17."""
    pieces = re.findall(r"\\\w+| ?[A-Za-z]+|\d| ?[^\sA-Za-z\d]|\s", text)
    return [zlib.crc32(piece.encode()) % 2**17 for piece in pieces]


def _pair(rng: random.Random, kind: Kind, chars: int) -> tuple[str, str]:
    own = names(rng)
    expert = step_text(rng, own, chars)
    if kind == "near":
        return _edited(rng, expert, 0.04), expert
    if kind == "paraphrased":
        words = [OTHER_WORDS.get(word, word) if rng.random() < 0.7 else word for word in expert.split(" ")]
        sentences = re.split(r"(?<=\.) ", _edited(rng, " ".join(words), 0.05))
        swapped = rng.randrange(len(sentences))
        return " ".join(sentences[swapped:] + sentences[:swapped]), expert
    if kind == "half":
        other, middle = step_text(rng, own, chars), len(expert) // 2
        return rng.choice([expert[:middle] + other[middle:], other[:middle] + expert[middle:]]), expert
    return step_text(rng, names(rng), chars), expert


def names(rng: random.Random) -> dict:
    """What stays the same within one problem."""
    (p, q, r), (x, y) = rng.sample("ABCDEFGH", 3), rng.sample("xyzabcntuv", 2)
    return {"P": p, "Q": q, "R": r, "x": x, "y": y, "things": rng.choice(THINGS)}


def step_text(rng: random.Random, own: dict, chars: int) -> str:
    """Sentences of up to `chars` characters, with the names of one problem."""
    target, text = chars * rng.uniform(0.75, 1.0), ""
    while len(text) < target:
        k, m, n = rng.randint(2, 12), rng.randint(3, 60), rng.randint(10, 999)
        text += rng.choice(SENTENCES).format(k=k, m=m, n=n, **own) + " "
    return text[: int(target)].strip()


def _edited(rng: random.Random, text: str, rate: float) -> str:
    """A share of the words left out, doubled or with another number."""
    out: list[str] = []
    for word in text.split(" "):
        change = rng.choice(["drop", "double", "number"]) if rng.random() < rate else ""
        if change == "number":
            word = re.sub(r"\d+", str(rng.randint(1, 99)), word)
        out += {"drop": [], "double": [word, word]}.get(change, [word])
    return " ".join(out)
