"""A tokenizer from files: what a library makes of a text, kept, and what its ids spell."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from jaxsrl.data.byte_tokenizer import UNUSED

# Texts whose ids are kept, some 100 MB. Those of a demonstration are asked for before the first step and in every
# epoch; the library needs a tenth of a millisecond for each.
REMEMBERED = 2**19


@dataclass(frozen=True, kw_only=True)
class Core:
    """What a library knows of a tokenizer.

    Args:
      whole: ids of a whole text, as the library gives them without its template of special tokens.
      inside: ids of a text that goes on after another; no space is put before it.
      piece: id -> the bytes it spells; None for an id that stands for nothing.
      specials: spelling -> id of the tokens that no text yields.
      marks: the same and those that text may yield as well, such as Qwen3's `<think>`.
      byte_ids: ids of the 256 single bytes; None where some byte has none.
      size, text_size: one more than the largest id, and than the largest one that a text may yield.
      unknown: id that stands for what cannot be spelled; None where there is none.
    """

    whole: Callable[[str], list[int]]
    inside: Callable[[str], list[int]]
    piece: Callable[[int], bytes | None]
    specials: Mapping[str, int]
    marks: Mapping[str, int]
    byte_ids: tuple[int, ...] | None
    size: int
    text_size: int
    unknown: int | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the files beside a tokenizer say of it.

    Args:
      begin: ids that stand before every text: the BOS token, where the model was trained with one.
      ends: ids that end a completion; what is trained to end one comes first.
      template: the kind of template that `auto` stands for.
    """

    name: str
    begin: tuple[int, ...] = ()
    ends: tuple[int, ...]
    vocab_size: int | None = None
    template: str = "plain"


class FileTokenizer:
    """See `tokenizer.Tokenizer`.

    Raises: ValueError if an id of the settings is none of the tokenizer's, or the vocabulary is too small.
    """

    def __init__(self, core: Core, settings: Settings):
        self.name, self.template = settings.name, settings.template
        self.begin, self.ends, self.end = settings.begin, settings.ends, settings.ends[0]
        self.vocab_size = core.size if settings.vocab_size is None else settings.vocab_size
        if self.vocab_size < core.text_size:
            raise ValueError(
                f"{self.name}: vocab_size must be above the largest id {core.text_size - 1}, got {self.vocab_size}"
            )
        for token in (*self.begin, *self.ends):
            if not 0 <= token < self.vocab_size:
                raise ValueError(f"{self.name}: ids that begin or end a text must be in 0..{self.vocab_size - 1}, got "
                                 f"{token}; mend bos_token_id or eos_token_id")  # fmt: skip
        # A model of text may lack the special tokens of images that its tokenizer has (Gemma 3 1B).
        marks = {name: token for name, token in core.marks.items() if token < self.vocab_size}
        self.specials = MappingProxyType(marks)
        self.byte_ids = core.byte_ids
        self._core, self._special = core, frozenset(core.specials.values())
        self._spelling: dict[int, bytes] = {}
        self._encoded = lru_cache(REMEMBERED)(self._encode)

    def encode(self, text: str, *, first: bool = True) -> list[int]:
        return self._encoded(text, first).tolist()

    def _encode(self, text: str, first: bool) -> np.ndarray:
        ids = (self._core.whole if first else self._core.inside)(text)
        if not self._special.isdisjoint(ids):
            ids = without_specials(self._core, text, ids, first)
        return np.array(ids, np.int32)

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(self.token_bytes(token) for token in ids).decode(errors="replace")

    def special(self, name: str) -> tuple[int, ...]:
        return (self.specials[name],) if name in self.specials else tuple(self.encode(name, first=False))

    def token_bytes(self, token: int) -> bytes:
        token = int(token)
        if token not in self._spelling:
            if not 0 <= token < self.vocab_size:
                raise ValueError(f"token must be in 0..{self.vocab_size - 1}, got {token}")
            piece = self._core.piece(token)
            self._spelling[token] = UNUSED if piece is None else piece
        return self._spelling[token]


def without_specials(core: Core, text: str, ids: list[int], first: bool) -> list[int]:
    """Ids of a text in which the spelling of a special token is text like any other.

    A library may find a special token in a text all the same: its spelling is in the vocabulary that words are cut by.
    Then the text is cut inside of the spelling. Where that does not help, as the library changes the text before it
    looks, each character is encoded by itself.
    """
    held = [name for name, token in core.specials.items() if token in ids and name in text]
    made = _apart(core, text, sorted({at + 1 for name in held for at in _places(text, name)}), first) if held else ids
    if ({*core.specials.values()} - {core.unknown}) & set(made):
        return _apart(core, text, range(1, len(text)), first)
    return made


def _apart(core: Core, text: str, cuts: Iterable[int], first: bool) -> list[int]:
    ends = [0, *cuts, len(text)]
    parts = [text[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    made = [(core.whole if first and not i else core.inside)(part) for i, part in enumerate(parts)]
    return [token for part in made for token in part]


def _places(text: str, name: str) -> list[int]:
    """Where a spelling of more than one character stands."""
    return [found.start() for found in re.finditer(f"(?={re.escape(name)})", text)] if len(name) > 1 else []
