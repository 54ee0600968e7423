"""Demonstrations of given sizes, and a tokenizer for any vocabulary."""

import random

from jaxsrl.bench.workload import Work
from jaxsrl.data.byte_tokenizer import ByteTokenizer
from jaxsrl.types import Demonstration

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class WideBytes(ByteTokenizer):
    """The byte tokenizer with a larger vocabulary: ids past its own are read as letters, so that all can be graded."""

    def __init__(self, vocab_size: int):
        if vocab_size < ByteTokenizer.vocab_size:
            raise ValueError(f"vocab_size must be >= {ByteTokenizer.vocab_size}, got {vocab_size}")
        self.vocab_size = vocab_size

    def token_bytes(self, token: int) -> bytes:
        if token < ByteTokenizer.vocab_size:
            return super().token_bytes(token)
        return LETTERS[token % len(LETTERS)].encode()


def long_demonstrations(work: Work) -> tuple[Demonstration, ...]:
    """Problems and actions of random letters, as long as `work` says with a byte tokenizer."""
    draw = random.Random(0)
    text = lambda length: "".join(draw.choices(LETTERS, k=length))
    return tuple(
        Demonstration(
            problem_id=str(i), problem=text(work.prompt_tokens), answer="a",
            actions=tuple(text(work.action_tokens) for _ in range(work.actions)),
        )
        for i in range(work.demonstrations)
    )  # fmt: skip
