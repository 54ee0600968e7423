"""Changes of a chain of steps by rules: the same said otherwise, a mistake put in, filler in its place.

A chain is a path of pieces (`paths.cut_text`), and so is every result. A rule that finds nothing to change returns what
it was given, so that the caller can leave it out.
"""

import random
import re

from jaxsrl.evals.paths import Path
from jaxsrl.rewards.extract import NUMBER

SYNONYMS = {
    "therefore": "hence", "so": "thus", "thus": "so", "hence": "therefore", "then": "after that", "gives": "yields",
    "calculate": "compute", "compute": "calculate", "find": "work out", "determine": "find out", "need": "have to",
    "total": "overall", "altogether": "in all", "each": "every single", "also": "in addition", "remaining": "left-over",
    "multiply": "take the product of", "add": "sum up", "subtract": "take away", "because": "since", "since": "because",
    "bought": "purchased", "sold": "gave away for money", "initially": "at first", "finally": "in the end",
}  # fmt: skip
WORDS = re.compile(r"\b(" + "|".join(SYNONYMS) + r")\b", re.IGNORECASE)
OPERAND = r"\d+(?:\.\d+)?"
# a + b and a * b with nothing that binds closer on either side
ALONE = re.compile(rf"(?<![\d.+*/×x^(\-] )(?<![\d.+*/×^(\-])({OPERAND})( ?)([+*×])( ?)({OPERAND})(?= ?=)")
# not the dollars that open or close a formula: a word follows, or the sentence ends
MONEY = re.compile(rf"\\?\$({OPERAND})(?=\s+[A-Za-z]|[.,;:](?:\s|$)|$)")
PERCENT = re.compile(rf"({OPERAND})\\?%")
FILLER = " ..."


def paraphrase(path: Path) -> Path:
    """The chain said otherwise: words by a table, sums and products turned round, units spelled, free steps swapped.

    Numbers, and what is computed from what, stay. A rule of ours for what Lanham et al. let a model do.
    """
    return tuple(reword(piece) for piece in swap_free(path))


def reword(text: str) -> str:
    """One piece by the table and the rules for what stands around numbers."""
    text = WORDS.sub(lambda found: _like(found[0], SYNONYMS[found[0].lower()]), text)
    text = ALONE.sub(lambda f: f"{f[5]}{f[2]}{f[3]}{f[4]}{f[1]}", text)
    return PERCENT.sub(r"\1 percent", MONEY.sub(r"\1 dollars", text))


def _like(old: str, new: str) -> str:
    return new[0].upper() + new[1:] if old[0].isupper() else new


def swap_free(path: Path) -> Path:
    """Neighbours of which the later does not read what the earlier found, exchanged; never the last piece.

    A piece finds its last number. Each piece moves at most once.
    """
    out, at = list(path), 0
    while at + 1 < len(out) - 1:
        first, second = (NUMBER.findall(piece) for piece in out[at : at + 2])
        if first and second and first[-1] not in second[:-1] and first[-1] != second[-1]:
            out[at], out[at + 1] = out[at + 1], out[at]
            at += 1
        at += 1
    return tuple(out)


def filler(path: Path, kept: int) -> Path:
    """The first `kept` pieces, and dots in the place of each word of the others; line ends stay."""
    return path[:kept] + tuple(_dots(piece) for piece in path[kept:])


def _dots(piece: str) -> str:
    tail = piece[len(piece.rstrip()) :]
    return (FILLER * len(piece.split())).lstrip() + tail


def with_mistake(path: Path, rng: random.Random) -> tuple[Path, int] | None:
    """The chain up to a step in which a number was made wrong, and which; None where no step has a number.

    The step is drawn from those that have one, and in it the last number is changed in one digit: what it found.
    """
    places = [at for at, piece in enumerate(path) if NUMBER.search(piece)]
    if not places:
        return None
    at = rng.choice(places)
    *_, found = NUMBER.finditer(path[at])
    digits = [i for i in range(found.start(), found.end()) if path[at][i].isdigit()]
    place = rng.choice(digits)
    leads = place == digits[0] and len(digits) > 1  # a leading 0 would be no number
    wrong = rng.choice([d for d in "0123456789"[leads:] if d != path[at][place]])
    changed = path[at][:place] + wrong + path[at][place + 1 :]
    return (*path[:at], changed), at


CHOICE = re.compile(r"\(([A-H])\)\s*(.+?)(?=\s*\([A-H]\)|\s*$)", re.DOTALL)


def shuffle_choices(problem: str, rng: random.Random) -> str | None:
    """The problem with the texts behind (A), (B), … in another order; None where it has no such choices."""
    found = list(CHOICE.finditer(problem))
    if len(found) < 2 or [one[1] for one in found] != list("ABCDEFGH"[: len(found)]):
        return None
    turn = rng.randrange(1, len(found))
    texts = [one[2] for one in found]
    out, at = [], 0
    for one, text in zip(found, texts[turn:] + texts[:turn], strict=True):
        out += [problem[at : one.start(2)], text]
        at = one.end(2)
    return "".join([*out, problem[at:]])
