"""The bytes of the tokens of a SentencePiece model file (`tokenizer.model`), for reading ids; it cannot encode.

The file is a protocol buffer: message `ModelProto`, whose field 1 is a piece with its text (1) and type (3).
Source: sentencepiece_model.proto of github.com/google/sentencepiece.
"""

from collections.abc import Iterator
from pathlib import Path

NORMAL, UNKNOWN, BYTE = 1, 2, 6
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # stands for a space in a piece
UNKNOWN_TEXT = " \N{DOUBLE QUESTION MARK} "  # what SentencePiece writes for it


def pieces(path: Path) -> tuple[bytes, ...]:
    """The bytes of every token in the order of the ids.

    A byte-fallback piece such as `<0xE2>` is that byte, so a character that has no piece is several tokens. Control
    tokens are spelled out. Nothing is taken off: SentencePiece itself drops the space before a whole text's first word.
    Raises: ValueError if the file is no SentencePiece model.
    """
    data = path.read_bytes()
    try:
        found = tuple(_piece(value) for field, value in _fields(data) if field == 1)
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no SentencePiece model: {error}") from error
    if not found:
        raise ValueError(f"{path}: no SentencePiece model: it has no pieces")
    return found


def _piece(message: bytes) -> bytes:
    fields = dict(_fields(message))
    text, kind = fields[1].decode(), fields.get(3, NORMAL)
    if kind == BYTE:
        return bytes([int(text.removeprefix("<").removesuffix(">"), 16)])
    return (UNKNOWN_TEXT if kind == UNKNOWN else text.replace(SPACE, " ")).encode()


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message; of numbers only integers are read."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value, at = _varint(data, at)
            case 1 | 5 as wire:
                at += 8 if wire == 1 else 4
                value = b""
            case 2:
                size, at = _varint(data, at)
                value, at = data[at : at + size], at + size
            case wire:
                raise ValueError(f"wire type {wire} at byte {at}")
        if at > len(data):
            raise ValueError("it ends inside a field")
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at
