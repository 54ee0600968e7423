"""A tokenizer cut down to the ids that some texts use, so that a small model has a small vocabulary."""

from collections.abc import Iterable
from types import MappingProxyType

from jaxsrl.data.byte_tokenizer import UNUSED
from jaxsrl.data.tokenizer import Tokenizer


class UsedIds:
    """Numbers the kept ids of `base` from 0 up; a token that was not kept is spelled in its bytes.

    Args:
      kept: ids of `base`. Its special tokens and its 256 single bytes are kept in any case, so every text that
        `base` can write can be written. The same ids give the same tokenizer, in whatever order they come.
    Raises: ValueError if `base` has no token for some byte, or an id is none of it.
    """

    def __init__(self, base: Tokenizer, kept: Iterable[int]):
        if base.byte_ids is None:
            raise ValueError(
                f"{base.name} has no token for some single byte, so what is not kept cannot be spelled in bytes; set "
                "used_ids_only=false"
            )
        self.base = base
        own = (*base.specials.values(), *base.begin, *base.ends)
        self.base_ids = tuple(sorted({*map(int, kept), *base.byte_ids, *own}))
        lowest, highest = self.base_ids[0], self.base_ids[-1]
        if lowest < 0 or highest >= base.vocab_size:
            raise ValueError(f"kept ids must be in 0..{base.vocab_size - 1}, got {lowest}..{highest}")
        self._new = {token: new for new, token in enumerate(self.base_ids)}
        self.name = f"{base.name}/{len(self.base_ids)}"
        self.vocab_size = -(-len(self.base_ids) // 16) * 16
        self.begin = tuple(self._new[token] for token in base.begin)
        self.ends = tuple(self._new[token] for token in base.ends)
        self.end, self.template = self.ends[0], base.template
        self.specials = MappingProxyType({name: self._new[token] for name, token in base.specials.items()})
        self.byte_ids = tuple(self._new[token] for token in base.byte_ids)

    def encode(self, text: str, *, first: bool = True) -> list[int]:
        return self._renumber(self.base.encode(text, first=first))

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(self.token_bytes(token) for token in ids).decode(errors="replace")

    def special(self, name: str) -> tuple[int, ...]:
        return tuple(self._renumber(self.base.special(name)))

    def token_bytes(self, token: int) -> bytes:
        if not 0 <= token < self.vocab_size:
            raise ValueError(f"token must be in 0..{self.vocab_size - 1}, got {token}")
        return self.base.token_bytes(self.base_ids[token]) if token < len(self.base_ids) else UNUSED

    def _renumber(self, ids: Iterable[int]) -> list[int]:
        new: list[int] = []
        for token in ids:
            if token in self._new:
                new.append(self._new[token])
            else:
                new.extend(self.byte_ids[byte] for byte in self.base.token_bytes(token))
        return new


def used_ids(tokenizer: Tokenizer, texts: Iterable[str]) -> UsedIds:
    """`tokenizer` cut down to the ids that occur in `texts`."""
    return UsedIds(tokenizer, {token for text in texts for token in tokenizer.encode(text, first=False)})
