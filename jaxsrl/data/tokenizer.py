"""Text <-> token ids: what every tokenizer offers, and how one is named."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from jaxsrl.data.bpe_tokenizer import load_folder
from jaxsrl.data.byte_tokenizer import ByteTokenizer


class Tokenizer(Protocol):
    """Text is data: a special token's spelling inside it is encoded like any other text."""

    vocab_size: int  # rows a model needs; ids from here on do not exist
    name: str
    end: int  # the id that ends a completion
    specials: Mapping[str, int]  # spelling -> id
    byte_ids: tuple[int, ...]  # ids of the 256 single bytes

    def encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Iterable[int]) -> str:
        """Bytes joined, U+FFFD where they are no UTF-8; special tokens spelled out."""
        ...

    def special(self, name: str) -> tuple[int, ...]:
        """A template piece such as `<think>`: its one id where it is a special token, else its encoding."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token; U+FFFD for an id below `vocab_size` that stands for nothing."""
        ...


def load_tokenizer(
    path: str | Path = "bytes", *, tokenizer_class: str | None = None, end: str | None = None
) -> Tokenizer:
    """The tokenizer of a folder or of a file `tokenizer.json`; "bytes" is the built-in one.

    Args:
      tokenizer_class: for a folder whose `tokenizer_config.json` is missing or does not name one.
      end: spelling of the special token that ends a completion; by default `<|im_end|>` where there is one, else
        the folder's `eos_token`, else `<|endoftext|>`.
    Raises: ValueError if the class or the kind of file is not one that is known; FileNotFoundError.
    """
    if path == "bytes":
        if tokenizer_class is not None or end is not None:
            raise ValueError(f"the byte tokenizer has no settings, got {tokenizer_class=} {end=}")
        return ByteTokenizer()
    return load_folder(Path(path), tokenizer_class=tokenizer_class, end=end)
