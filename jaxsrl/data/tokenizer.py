"""Text <-> token ids: what every tokenizer offers, and how one is named."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.data.tokenizer_folder import load_folder


class Tokenizer(Protocol):
    """Text is data: a special token's spelling inside it is encoded like any other text.

    A token spells the same bytes wherever it stands, so what ids spell is read alike on the host and on the device.
    """

    vocab_size: int  # rows a model needs; ids from here on do not exist
    name: str
    begin: tuple[int, ...]  # before every text: a BOS token, or nothing
    end: int  # the id that is trained to end a completion
    ends: tuple[int, ...]  # every id that ends one, `end` first
    template: str  # the kind of template that `auto` stands for
    specials: Mapping[str, int]  # spelling -> id
    byte_ids: tuple[int, ...] | None  # ids of the 256 single bytes; None where some byte has none

    def encode(self, text: str, *, first: bool = True) -> list[int]:
        """Ids of a whole text, as the tokenizer's library gives them, `begin` left out. Where that library puts a space
        before a text, there is none with `first=False`: the text goes on after another."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Bytes joined, U+FFFD where they are no UTF-8; special tokens spelled out. A space that `encode` put before a
        text stays."""
        ...

    def special(self, name: str) -> tuple[int, ...]:
        """A template piece such as `<think>`: its one id where it is a special token, else its encoding."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; U+FFFD for an id below `vocab_size` that stands for nothing."""
        ...


def load_tokenizer(
    path: str | Path = "bytes", *, tokenizer_class: str | None = None, end: str | None = None,
    template: str | None = None,
) -> Tokenizer:  # fmt: skip
    """The tokenizer of a folder, of a file `tokenizer.json`, or of a SentencePiece `.model`; "bytes" is built in.

    Args:
      tokenizer_class: for a folder of `vocab.json` and `merges.txt` whose `tokenizer_config.json` does not name one.
      end: spelling of the token that is trained to end a completion; by default that of the template, for a plain one
        `<|im_end|>` where there is one, else the folder's `eos_token`. Those that the folder names end one as well.
      template: the kind of template that `auto` stands for; by default the folder's.
    Raises: ValueError if the files cannot be read, or a token's bytes depend on its neighbours; FileNotFoundError.
    """
    if path == "bytes":
        if tokenizer_class is not None or end is not None:
            raise ValueError(f"the byte tokenizer has no settings, got {tokenizer_class=} {end=}")
        return ByteTokenizer()  # plain is the only template that it has the marks of
    return load_folder(Path(path), tokenizer_class=tokenizer_class, end=end, template=template)


def as_spelled(tokenizer: Tokenizer, text: str) -> str:
    """`decode(encode(text))`: what a model that writes the text's ids has written.

    It differs where the tokenizer changes a text, as by composing it (NFC), or has no token for a character.
    """
    return tokenizer.decode(tokenizer.encode(text, first=False))
