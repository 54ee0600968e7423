"""HTML elements from values: text is escaped unless it was made here."""

import re

VOID = ("br", "hr", "input", "meta")
# What cannot stand in a UTF-8 page (half a surrogate pair) or would reorder the text around it (bidi controls).
_UNSHOWABLE = re.compile("[\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Html(str):
    """Text that is HTML already; every other string is escaped when it becomes part of a page."""


def text(value: object) -> Html:
    """A value as HTML text; control characters become their pictures, what cannot be shown becomes U+FFFD."""
    if isinstance(value, Html):
        return value
    clean = _CONTROL.sub(_picture, _UNSHOWABLE.sub("\ufffd", str(value)))
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        clean = clean.replace(plain, escaped)
    return Html(clean)


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def join(*children: object) -> Html:
    """Children one after the other; None is left out."""
    return Html("".join(text(child) for child in children if child is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. Attribute names may end in `_` (`class_`) and use `_` for `-`; None and False leave one out."""
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(key if value is True else f'{key}="{text(value)}"')
    opening = Html(f"<{' '.join(parts)}>")
    return opening if name in VOID else Html(f"{opening}{join(*children)}</{name}>")
