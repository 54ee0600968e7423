"""What stands behind a number, or a currency's sign before it: `12 cm^2`, `30^\\circ`, `50%`, `5 million dollars`."""

import re

from jaxsrl.rewards.spelling import CLOSE, OPEN

ALIASES = {
    "centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "millimetre": "mm", "meter": "m", "metre": "m",
    "kilometer": "km", "kilometre": "km", "inches": "in", "inch": "in", "feet": "ft", "foot": "ft", "yard": "yd",
    "mile": "mi", "second": "s", "sec": "s", "minute": "min", "hour": "h", "hr": "h", "kilogram": "kg", "gram": "g",
    "pound": "lb", "lbs": "lb", "ounce": "oz", "liter": "l", "litre": "l", "milliliter": "ml", "degree": "degree",
    "deg": "degree", "usd": "dollar", "percent": "%", "percentage": "%", "pct": "%", "radian": "rad", "sq": "square",
    "cu": "cubic", "mph": "mi/h", "kmh": "km/h", "kph": "km/h", "cent": "cent", "¢": "cent", "eur": "euro",
    "celsius": "c", "fahrenheit": "f", "year": "yr", "years": "yr",
}  # fmt: skip
SHORT = {
    "cm", "mm", "km", "dm", "nm", "in", "ft", "yd", "mi", "kg", "mg", "lb", "lbs", "oz", "ml", "hr", "min", "sec",
    "mph", "kph", "pm", "am", "rad", "usd", "cents", "cc", "hz", "khz", "mhz", "kw", "kwh", "kj", "mol", "pa", "kpa",
    "ev", "sq", "cu", "per",
}  # fmt: skip
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
FUNCTIONS = {"sin", "cos", "tan", "log", "ln", "sqrt", "pi", "exp", "and", "or", "max", "min", "gcd", "lcm", "mod"}

MARKED = rf"{OPEN}[^{OPEN}{CLOSE}]*{CLOSE}"
RAISED = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
VARIABLES = "[abckmnpqrstuvxyz]{1,3}|.{1,2}"
# A word in text mode, or bare: one of SHORT, or behind a blank one that is no product of variables.
BARE = r"(?<![a-zA-Z\\])[a-zA-Z]{2,}\.?(?![a-zA-Z(])"
PIECE = rf"(?:{MARKED}{RAISED}|{BARE}{RAISED}|\\?%|/|\\cdot(?![a-zA-Z]))"
MONEY = re.compile(rf"([-+]?)\s*(?:\\\$|{OPEN}(dollar|euro|pound)s?{CLOSE}|US\s*\\\$|USD )\s*(?=[-+\d.\\{{(])")


def unit_of(text: str) -> tuple[str, str, int]:
    """(the text without its unit, the unit in one spelling, the factor of a word such as `million`).

    The unit is empty where there is none; 1 is the factor of no word.
    """
    rest, money = text, ""
    if (match := MONEY.match(rest)) is not None:
        rest, money = match[1] + rest[match.end() :], match[2] or "dollar"
    found = _behind(rest)
    if found is None:
        return rest, money, 1
    rest, pieces = found
    scale = 1
    while pieces and pieces[0] in SCALES:
        scale *= SCALES[pieces.pop(0)]
    unit = " ".join(pieces)
    if money and unit not in ("", money):
        unit = f"{money} {unit}"
    return rest, unit or money, scale


def _behind(text: str) -> tuple[str, list[str]] | None:
    """The text before its unit, and the unit's words."""
    at, pieces = len(text), []
    one = re.compile(rf"(?:{PIECE})\s*$")
    for _ in range(12):  # words of a unit
        start = max(0, at - 80)
        match = _last_piece(one, text, start, at)
        if match is None:
            break
        at, pieces = match.start(), [match[0].strip(), *pieces]
    while pieces and pieces[0] in ("/", "\\cdot"):
        at, pieces = at + text[at:].index(pieces[0]) + len(pieces[0]), pieces[1:]
    before = text[:at].rstrip()
    if not pieces or not before or not re.search(r"[\d)}\]!]$|\\pi$|[a-z]$", before):
        return None
    if re.search(r"[a-z]$", before) and not all(p.startswith(OPEN) or p in ("%", "\\%") for p in pieces):
        return None
    return before, _words(" ".join(pieces))


def _last_piece(one: re.Pattern, text: str, start: int, at: int) -> re.Match | None:
    match = one.search(text, start, at)
    if match is None or OPEN in match[0]:
        return match
    word = re.match(r"[a-zA-Z]*", match[0])[0].lower()
    if not word or word in SHORT:
        return match
    if re.fullmatch(VARIABLES, word) or word in FUNCTIONS or not text[: match.start()].endswith((" ", CLOSE)):
        return None
    return match


def _words(text: str) -> list[str]:
    text = text.replace(OPEN, " ").replace(CLOSE, " ").replace("\\%", "%").replace("\\cdot", " ").lower()
    text = re.sub(r"\s*\^\s*\{?\s*(-?\d)\s*\}?", r"^\1", text)
    out = []
    for word in re.findall(r"%|/|[^\s/%]+", text):
        word = word.rstrip(".")
        base, caret, raised = word.partition("^")
        single = base.removesuffix("s") if len(base) > 3 and not base.endswith("ss") else base
        base = ALIASES.get(base, ALIASES.get(single, single))
        out += [{"per": "/"}.get(base, base) + caret + raised] if base not in ("of", "a", "an", "the") else []
    if len(out) == 2 and out[0] in ("square", "cubic"):
        out = [out[1] + {"square": "^2", "cubic": "^3"}[out[0]]]
    if out[:1] == ["unit"] or out[:1] == ["unit^2"] or out[:1] == ["unit^3"]:
        return []
    return out
