"""What a token of a tokenizer file spells: bytes that depend on the token alone, so that they can lie in a table."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # stands for a space in SentencePiece's pieces
BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # a byte of a character that has no token of its own
# Steps of a decoder that change a token by itself, or only the two ends of a whole text. `Strip` takes off the space
# that the encoder put before a text: the text of a completion goes on, so a space before it is its own.
KNOWN = ("ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip")


def _alphabet() -> dict[int, str]:
    """Byte -> the printable character that stands for it in the vocabulary: itself, or the next one from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return dict(sorted(shown.items()))


ALPHABET = _alphabet()
_BYTE = {character: byte for byte, character in ALPHABET.items()}


def steps(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder of a tokenizer.json, those inside of a `Sequence` too."""
    if part is None:
        return []
    for name in ("normalizers", "pretokenizers", "decoders", "processors"):
        if part.get("type") == "Sequence" and name in part:
            return [step for inner in part[name] for step in steps(inner)]
    return [part]


def speller(content: Mapping[str, Any]) -> Callable[[str], bytes]:
    """piece -> bytes, by the decoder of a tokenizer.json; where it has none, by its pre-tokenizer.

    Raises: ValueError if what a token spells depends on its neighbours, or nothing says what it spells.
    """
    found = steps(content.get("decoder"))
    if not found:
        found = [step for step in steps(content.get("pre_tokenizer")) if step["type"] in ("ByteLevel", "Metaspace")]
    if not found:
        raise ValueError("it has no decoder, so nothing says what its tokens spell; give the file one")
    for step in found:
        own = step["type"] in KNOWN
        if not own or step["type"] == "Replace" and "String" not in step["pattern"]:
            raise ValueError(
                f"its decoder has a step {step['type']}: what a token spells depends on its neighbours, and ids could "
                "not be read on the device; use a tokenizer with a ByteLevel, Metaspace or ByteFallback decoder"
            )
    if any(step["type"] == "ByteLevel" for step in found):
        return byte_level
    fallback = any(step["type"] == "ByteFallback" for step in found) or content["model"].get("byte_fallback")
    changes = [(s["pattern"]["String"], s["content"]) for s in found if s["type"] == "Replace"]
    changes += [(s.get("replacement", SPACE), " ") for s in found if s["type"] == "Metaspace"]
    if not all(isinstance(text, str) for change in changes for text in change):
        raise ValueError(f"its decoder replaces what is no text: {str(changes)[:100]}")
    return lambda piece: replaced(piece, changes, bool(fallback))


def byte_level(piece: str) -> bytes:
    """Bytes of a piece of a byte-level vocabulary; a character that stands for no byte spells itself."""
    return b"".join(bytes([_BYTE[c]]) if c in _BYTE else c.encode() for c in piece)


def replaced(piece: str, changes: Iterable[tuple[str, str]], fallback: bool) -> bytes:
    """Bytes of a piece of which some texts stand for others; with `fallback`, `<0xE2>` is a byte."""
    if fallback and (found := BYTE.fullmatch(piece)):
        return bytes([int(found[1], 16)])
    for old, new in changes:
        piece = piece.replace(old, new)
    return piece.encode()


def byte_ids(content: Mapping[str, Any], vocab: Mapping[str, int]) -> tuple[int, ...] | None:
    """Ids of the 256 single bytes; None where some byte has none."""
    whole = [*ALPHABET.values()], [f"<0x{byte:02X}>" for byte in range(256)]
    levels = any(s["type"] == "ByteLevel" for s in [*steps(content.get("decoder")), *steps(content["pre_tokenizer"])])
    pieces = whole[0] if levels else whole[1]
    return tuple(vocab[piece] for piece in pieces) if all(piece in vocab for piece in pieces) else None
