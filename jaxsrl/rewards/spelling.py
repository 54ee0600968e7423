r"""One spelling for the many ways in which a final answer is typed: Unicode signs, spaces, wrappers, digit groups.

What comes out is LaTeX without white-space commands, style, `\left` and `\right`, with ASCII signs, plain numbers and
`\frac`. A word in text mode stands between `OPEN` and `CLOSE`. Every pattern is linear in the text.
"""

import re
import unicodedata

OPEN, CLOSE = "\x02", "\x03"  # around words in text mode, which may be a unit
WORD = f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}"
MAX_DEPTH = 50  # of braces

SIGNS = {
    "\u2212": "-", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2015": "-",
    "\ufe63": "-", "\uff0d": "-", "\u00d7": r"\times ", "\u22c5": r"\cdot ", "\u00b7": r"\cdot ", "\u2219": r"\cdot ",
    "\u2217": "*", "\u00f7": "/", "\u2215": "/", "\u2044": "/", "\u221a": r"\sqrt ", "\u221e": r"\infty ",
    "\u2264": r"\le ", "\u2265": r"\ge ", "\u2a7d": r"\le ", "\u2a7e": r"\ge ", "\u2260": r"\ne ", "\u2208": r"\in ",
    "\u222a": r"\cup ", "\u2229": r"\cap ", "\u2205": r"\emptyset ", "\u00b1": r"\pm ", "\u2213": r"\mp ",
    "\u00b0": r"^\circ ", "\u2218": r"\circ ", "\u2220": r"\angle ", "\u2032": "'", "\u2033": "''", "\u2019": "'",
    "\u2018": "'", "\u2248": r"\approx ", "\u27e8": r"\langle ", "\u27e9": r"\rangle ", "\u2329": r"\langle ",
    "\u232a": r"\rangle ", "\u2236": ":", "\u211d": r"\mathbb{R}", "\u2026": r"\ldots ", "\u22ef": r"\ldots ",
    "\u200b": "", "\u200c": "", "\u200d": "", "\ufeff": "", "\u2060": "", "\u20ac": f"{OPEN}euro{CLOSE}",
    "\u00a3": f"{OPEN}pound{CLOSE}", OPEN: "", CLOSE: "",
}  # fmt: skip
GREEK = dict(zip("αβγδεζηθικλμνξπρστυφχψω", (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega"
).split(), strict=True))  # fmt: skip
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))

SPACES = re.compile(
    r"(?<!\\)(?:\\[,:;>! ~]|\\(?:q?quad|enspace|thinspace|medspace|thickspace|negthinspace)(?![a-zA-Z])|~)"
)
DROPPED = re.compile(
    r"\\(?:(?:left|right)(?![a-zA-Z])\.?|(?:displaystyle|textstyle|scriptstyle|limits|[bB]igg?[lrm]?|middle|hfill|bf|it|"
    r"sf|tt|nonumber)(?![a-zA-Z]))"
)
WITH_ARGUMENT = re.compile(r"\\(?:color|hspace\*?|vspace\*?|phantom|hphantom|vphantom|label|tag)\s*\{[^{}]*\}")
UNWRAPPED = re.compile(
    r"\\(?:boxed|fbox|fboxed|framebox|mathbf|mathit|mathsf|mathtt|mathcal|boldsymbol|bm|pmb|ensuremath|mathord|"
    r"underline|textcolor\s*\{[^{}]*\}|colorbox\s*\{[^{}]*\})\s*\{"
)
TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|normal|sc|up)?|mbox|hbox|mathrm|operatorname\*?|emph|unit|si)\s*\{")
RENAMED = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "sfrac": "frac", "nicefrac": "frac", "dbinom": "binom",
    "tbinom": "binom", "geq": "ge", "leq": "le", "geqslant": "ge", "leqslant": "le", "neq": "ne", "gt": ">", "lt": "<",
    "ast": "*", "div": "/", "lbrace": "{", "rbrace": "}", "lbrack": "[", "rbrack": "]", "colon": ":",
    "varnothing": "emptyset", "degree": "circ", "degrees": "circ", "vert": "|", "mid": "|", "lvert": "|", "rvert": "|",
    "infin": "infty", "dots": "ldots", "cdots": "ldots", "varphi": "phi", "varepsilon": "epsilon", "minus": "-",
    "prime": "'", "land": "wedge", "lor": "vee", "euro": f"{OPEN}euro{CLOSE}", "pounds": f"{OPEN}pound{CLOSE}",
    "percent": "%",
}  # fmt: skip
COMMAND = re.compile(r"\\([a-zA-Z]+)")
ALWAYS_GROUPED = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\!,|\\,|\{\\,\})(?=\d{3}(?!\d))")
GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!\d|,\d)")
SPACED = re.compile(r"(?<![\d.,/^_}])\d{1,3}(?: \d{3})+(?![\d/]|[ ,]\d)")
TH = "(?:st|nd|rd|th)"
ORDINAL = re.compile(rf"(?<=\d)(?:\^?\{{?{OPEN}{TH}{CLOSE}\}}?|(?:\^\{{)?{TH}(?![a-z])\}}?)")
SCIENTIFIC = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)")
BOLD = re.compile(r"\*\*")
RAISED_BY_STARS = re.compile(r"(?<=[\w)\]}])\*\*(?=[\w({\\-])")
TAGS = re.compile(r"</[a-zA-Z]+>|<\|[^<>|]*\|>")
DEGREES = re.compile(r"\^\s*\{\s*\\circ\s*\}|(?:\^\s*|(?<=\d)\s*)\\circ(?![a-zA-Z])")
BARE = re.compile(r"(?<![a-zA-Z\\])(sqrt(?=\s*[({])|pi|infinity|sin|cos|tan|log|ln)(?![a-zA-Z])")  # without a backslash
TO = re.compile(f"(?<=\\d)\\s*(?:{OPEN}to{CLOSE}|to)\\s*(?=\\d)")  # a ratio
PREAMBLE = re.compile(f"{OPEN}?(?:the )?(?:final )?answer(?: is)?\\s*:?\\s*{CLOSE}?\\s*:?\\s*(?=.)", re.IGNORECASE)


def spelled(text: str) -> str:
    """The text in one spelling, without white space around it and without the full stop of a sentence."""
    text = TAGS.sub(" ", _signs(text))
    text = re.sub(r"\\\\(?=[a-zA-Z]{2})", r"\\", text) if r"\begin" not in text else text  # escaped once too often
    text = ALWAYS_GROUPED.sub("", text)
    text = re.sub(r"(?<!\\)\\[()\[\]]|(?<!\\)\$", " ", text)
    text = WITH_ARGUMENT.sub(" ", DROPPED.sub(" ", BOLD.sub(" ", RAISED_BY_STARS.sub("^", text))))
    text = _without(_without(text, UNWRAPPED, _inside), TEXT, _words)
    text = COMMAND.sub(_renamed, text)
    text = SPACES.sub(" ", text)
    text = re.sub(r"\{\s*\\rm\s+([^{}]*)\}", r"\1", text)
    text = DEGREES.sub(f"{OPEN}degree{CLOSE}", text)
    text = ORDINAL.sub("", SCIENTIFIC.sub(r"\\times ", text))
    text = BARE.sub(lambda m: "\\" + m[1].replace("infinity", "infty") + " ", TO.sub(":", text))
    text = re.sub(r"\s+", " ", text).strip()
    text = text[match.end() :] if (match := PREAMBLE.match(text)) else text
    return _trimmed(SPACED.sub(lambda m: m[0].replace(" ", ""), _ungrouped(text)))


def _signs(text: str) -> str:
    text = re.sub(r"[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda m: "^{" + "".join(RAISED[c] for c in m[0]) + "}", text)
    text = re.sub(r"[₀-₉]+", lambda m: "_{" + "".join(LOWERED[c] for c in m[0]) + "}", text)
    text = re.sub(r"[¼-¾⅐-⅞]", lambda m: _vulgar(m[0]), text)
    text = re.sub(r"[α-ω]", lambda m: f"\\{GREEK[m[0]]} " if m[0] in GREEK else m[0], text)
    text = "".join(SIGNS.get(c, c) for c in text)
    return unicodedata.normalize("NFKC", text)


def _vulgar(sign: str) -> str:
    above, _, below = unicodedata.normalize("NFKC", sign).partition("\u2044")
    return f"\\frac{{{above}}}{{{below}}}" if below else sign


def _without(text: str, opening: re.Pattern, inside) -> str:
    """Each `opening…}` replaced by what `inside` makes of the braces' content, from the innermost out."""
    for _ in range(MAX_DEPTH):
        found = list(opening.finditer(text))
        if not found:
            return text
        match = found[-1]
        end = _closing(text, match.end())
        if end is None:
            return text
        text = text[: match.start()] + inside(text[match.end() : end]) + text[end + 1 :]
    return text


def _closing(text: str, start: int) -> int | None:
    depth = 1
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return brace.start()
    return None


def _inside(content: str) -> str:
    return f" {content} "


def _words(content: str) -> str:
    """Words stay marked; a number or formula in text mode is one as any other."""
    content = re.sub(r"\\[,:; ]|~", " ", content.replace(OPEN, "").replace(CLOSE, "")).strip()
    if not re.fullmatch(r"[A-Za-z][A-Za-z .'/-]*\.?", content):
        return f" {content} "
    return f"{OPEN}{content}{CLOSE}"


def _renamed(match: re.Match) -> str:
    name = RENAMED.get(match[1], match[1])
    if name in "{}":
        return "\\" + name
    return f"\\{name}" if name.isalpha() else f"{name}"


def _ungrouped(text: str) -> str:
    """Without the commas in digit groups; in brackets, where they may part elements, only before a group like `000`."""
    out, depth, last = [], 0, 0
    for match in re.finditer(rf"[(\[]|\\\{{|[)\]]|\\\}}|{GROUPED.pattern}", text):
        piece = match[0]
        if piece in ("(", "[", "\\{"):
            depth += 1
        elif piece in (")", "]", "\\}"):
            depth = max(depth - 1, 0)
        elif not depth or re.search(",0", piece):
            out += [text[last : match.start()], piece.replace(",", "")]
            last = match.end()
    return "".join(out) + text[last:]


def _trimmed(text: str) -> str:
    text = text.strip().rstrip(".,;: ") if not text.strip().endswith(("...", "\\")) else text.strip()
    for _ in range(MAX_DEPTH):
        if not (len(text) > 1 and text[0] == "{" and _closing(text, 1) == len(text) - 1):
            break
        text = text[1:-1].strip()
    if (match := re.fullmatch(WORD, text)) is not None:
        return match[1].strip().rstrip(".")
    return text
