"""The built-in tokenizer: a token is a byte of the UTF-8 text, or one of six marks of the templates."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

MARKS = ("<|end|>", "<think>", "</think>", "<|action|>", "<|solve|>", "<|turn|>")
UNUSED = "\N{REPLACEMENT CHARACTER}".encode()


class ByteTokenizer:
    """Ids 0..255 are bytes, 256..261 the marks; 272 leaves the vocabulary a multiple of 16."""

    vocab_size = 272
    name = "bytes"
    specials: Mapping[str, int] = MappingProxyType({mark: 256 + i for i, mark in enumerate(MARKS)})
    byte_ids = tuple(range(256))
    begin: tuple[int, ...] = ()
    end = 256
    ends = (256,)
    template = "plain"

    def encode(self, text: str, *, first: bool = True) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(self.token_bytes(token) for token in ids).decode(errors="replace")

    def special(self, name: str) -> tuple[int, ...]:
        return (self.specials[name],) if name in self.specials else tuple(self.encode(name))

    def token_bytes(self, token: int) -> bytes:
        if not 0 <= token < self.vocab_size:
            raise ValueError(f"token must be in 0..{self.vocab_size - 1}, got {token}")
        if token < 256:
            return bytes([token])
        return MARKS[token - 256].encode() if token - 256 < len(MARKS) else UNUSED
