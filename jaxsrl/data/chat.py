"""Where text stands in a prompt: a template turns a problem and its actions into token segments.

A segment is tokenised on its own, the separator at the end of the action before it, so that the segments of a
partial solution are a token prefix of those of every longer one.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from jaxsrl.types import Form

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"

ACTION_INSTRUCTION = (
    "You help with mathematics. You are given a problem and possibly the first steps of its solution. Think about the "
    "next step inside <think> and </think>. After that write the next step alone, nothing before it and nothing else."
)
SOLVE_INSTRUCTION = (
    "You help with mathematics. Solve the problem step by step. You may think inside <think> and </think> at any "
    "point. Give the final answer in \\boxed{}."
)


class Tokenizer(Protocol):
    vocab_size: int
    name: str
    end: int

    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids) -> str: ...
    def special(self, name: str) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Mark:
    """A template piece that is one special token where the tokenizer has it, and its spelling elsewhere."""

    name: str


Piece = str | Mark


@dataclass(frozen=True, kw_only=True)
class Template:
    """The text around problem and actions.

    Args:
      kind: `plain` for models trained from scratch: a mark for the form, then problem and actions; `chatml` for chat
        models that use `<|im_start|>` turns (Qwen).
      trunk_in: whose turn holds the actions given so far. In the user's turn (as arXiv:2510.25992) every branch point
        gets a tail that closes the turn.
      title_hint: shows the heading of the action to be written, where the demonstration has one.
      prefill_think: writes `<think>` at the start of every completion for the model; its text then reads as if the
        model had written the mark itself.
      separator: what ends an action on the trunk.
    """

    kind: Literal["plain", "chatml"] = "plain"
    trunk_in: Literal["assistant", "user"] = "assistant"
    title_hint: bool = False
    prefill_think: bool = False
    separator: str = "\n"

    def __post_init__(self):
        if self.kind not in ("plain", "chatml"):
            raise ValueError(f"template.kind must be plain or chatml, got {self.kind!r}")
        if self.trunk_in not in ("assistant", "user"):
            raise ValueError(f"template.trunk_in must be assistant or user, got {self.trunk_in!r}")
        if not self.separator:
            raise ValueError("template.separator must not be empty: it is what keeps actions apart")


def ids(tokenizer: Tokenizer, *pieces: Piece) -> list[int]:
    """Token ids of pieces, each tokenised apart; text never yields a special token."""
    out: list[int] = []
    for piece in pieces:
        out += tokenizer.special(piece.name) if isinstance(piece, Mark) else tokenizer.encode(piece)
    return out


def head(template: Template, tokenizer: Tokenizer, form: Form, problem: str) -> list[int]:
    """Everything before the first action."""
    if template.kind == "plain":
        return ids(tokenizer, Mark(f"<|{form}|>"), problem, "\n")
    start, stop = Mark("<|im_start|>"), Mark("<|im_end|>")
    system = ACTION_INSTRUCTION if form == "action" else SOLVE_INSTRUCTION
    opening = [start, "system\n", system, stop, "\n", start, "user\n", problem]
    if template.trunk_in == "user":
        # A partial solution stands under its own heading; a whole solution is still written by the assistant.
        return ids(tokenizer, *opening, "\n\nSolution so far:\n")
    return ids(tokenizer, *opening, stop, "\n", start, "assistant\n")


def action(template: Template, tokenizer: Tokenizer, text: str) -> list[int]:
    """An action on the trunk, its separator included."""
    return ids(tokenizer, text + template.separator)


def tail(template: Template, tokenizer: Tokenizer, title: str | None = None) -> list[int]:
    """What stands between the trunk and a completion: a title hint, the end of the user's turn; often nothing."""
    pieces: list[Piece] = [f"(next: {title})\n"] if template.title_hint and title else []
    if template.trunk_in == "user" and template.kind == "plain":
        pieces += [Mark("<|turn|>")]
    elif template.trunk_in == "user":
        pieces += [Mark("<|im_end|>"), "\n", Mark("<|im_start|>"), "assistant\n"]
    return ids(tokenizer, *pieces)


def prefill(template: Template, tokenizer: Tokenizer) -> list[int]:
    """What the template writes of a completion before the model does."""
    return ids(tokenizer, Mark(THINK_OPEN)) if template.prefill_think else []


def completion(
    template: Template, tokenizer: Tokenizer, thought: str | None, text: str, *, last: bool = True
) -> list[int]:
    """What an expert would write: a thought in its marks, the action, and the end token or the separator."""
    thinking = [Mark(THINK_OPEN), thought, Mark(THINK_CLOSE)] if thought is not None else []
    if last:
        return [*ids(tokenizer, *thinking, text), tokenizer.end]
    return ids(tokenizer, *thinking, text + template.separator)
