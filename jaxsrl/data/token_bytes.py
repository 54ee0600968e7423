"""The table by which token ids are read on the device, from a tokenizer and a template."""

from collections.abc import Sequence

import numpy as np

from jaxsrl.data.chat import Template, prefill
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.types import TokenBytes


def token_bytes(tokenizer: Tokenizer, template: Template) -> TokenBytes:
    """The bytes of every id below `vocab_size`; special tokens are spelled out, as in `tokenizer.decode`."""
    given = tokenizer.decode(prefill(template, tokenizer)).encode()
    return table([tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)], end=tokenizer.end, given=given)


def table(pieces: Sequence[bytes], *, end: int, given: bytes = b"") -> TokenBytes:
    """The same of any list of pieces, token t being `pieces[t]`; see `TokenBytes`."""
    if not 0 <= end < len(pieces):
        raise ValueError(f"end must be one of the {len(pieces)} tokens, got {end}")
    return TokenBytes(
        spelled=np.frombuffer(b"".join(pieces) or b"\x00", np.uint8),
        start=np.cumsum([0, *map(len, pieces)], dtype=np.int32),
        end=end,
        given=given,
    )
