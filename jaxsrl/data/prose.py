"""Where running text may be cut: at paragraphs, sentences and displayed mathematics, never inside a formula or code."""

import re

# What is never cut: displays, code, pictures, then formulas within a line.
WHOLE = re.compile(
    r"```.*?```|\[asy\].*?\[/asy\]|\$\$.*?\$\$|\\\[.*?\\\]|\\begin\{([a-zA-Z]+\*?)\}.*?\\end\{\1\}"
    r"|\\\(.*?\\\)|(?<!\\)\$[^$]*?(?<!\\)\$",
    re.DOTALL,
)
DISPLAY = re.compile(r"\$\$|\\\[|\\begin")
SHORT = 40  # characters of what only ends a sentence
PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)\]]*(?:\s+|\n)(?=[A-Z\"'“(\[\\$])")
SHORTENED = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|resp|Eq|Fig|Thm|Lem|Mr|Mrs|Ms|Dr|St|No)|(?:^|[\s(])[A-Z])\.$")


def paragraphs(text: str) -> list[str]:
    """Runs of text between blank lines."""
    return _pieces(text, [found.end() for found in PARAGRAPH.finditer(text)])


def sentences(text: str) -> list[str]:
    """Sentences; a formula at the end of one may hold its full stop (`$x = 1.$`)."""
    ends = [found.end() for found in PARAGRAPH.finditer(text)]
    for found in SENTENCE.finditer(text):
        if not SHORTENED.search(text[max(found.start() - 8, 0) : found.start()]):
            ends.append(found.end())
    for found in WHOLE.finditer(text):
        stop = re.match(r"\s+(?=[A-Z])", text[found.end() :])
        if stop and re.search(r"[.!?]\s*(?:\$\$?|\\\]|\\\)|\\end\{\w+\*?\})$", found[0]):
            ends.append(found.end() + stop.end())
    return _pieces(text, ends)


def displays(text: str) -> list[str]:
    """Text up to the end of each displayed formula, blank lines cutting too; sentences where that cuts nothing.

    A few words that go on in small letters (`for all $x$.`) belong to the piece before, and so does a display or a
    picture that no text leads to.
    """
    ends = [found.end() for found in PARAGRAPH.finditer(text) if not DISPLAY.match(text, found.end())]
    shown = [found for found in WHOLE.finditer(text) if DISPLAY.match(found[0])]
    if not shown:
        return sentences(text)
    for found in shown:
        end = found.end() + re.match(r"[.,;:!?]*\s*", text[found.end() :]).end()  # often a word follows at once
        if not DISPLAY.match(text, end):
            ends.append(end)
    joined: list[str] = []
    for piece in _pieces(text, ends):
        rest = piece[0].islower() and len(piece) <= SHORT and "\\boxed" not in piece
        if joined and (rest or not re.search(r"\w", WHOLE.sub("", piece))):
            joined[-1] += "\n" + piece
        else:
            joined.append(piece)
    return joined if len(joined) > 1 else sentences(text)


def _pieces(text: str, ends: list[int]) -> list[str]:
    """The text cut at some places, those inside a formula or code aside."""
    whole = [found.span() for found in WHOLE.finditer(text)]
    inside = lambda at: any(a < at < b for a, b in whole)
    places = [0, *sorted({at for at in ends if not inside(at)}), len(text)]
    found = (text[a:b].strip() for a, b in zip(places, places[1:], strict=False))
    return [piece for piece in found if piece]
