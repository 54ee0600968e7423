"""Where text stands in a prompt: a template turns a problem and its actions into token segments.

A segment is tokenised on its own, the separator at the end of the action before it, so that the segments of a
partial solution are a token prefix of those of every longer one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from jaxsrl.data.templates import (
    FAMILIES,
    FORM,
    PROBLEM,
    SYSTEM,
    THOUGHT,
    Family,
    Mark,
    Piece,
    Slot,
    marks,
)  # fmt: skip
from jaxsrl.types import Form

ACTION_INSTRUCTION = (
    "You are given a problem and possibly the first steps of its solution. Think about the next step inside <think> "
    "and </think>. After that write the next step alone, nothing before it and nothing else."
)
SOLVE_INSTRUCTION = (
    "Solve the problem step by step. You may think inside <think> and </think> at any point. Give the final answer in "
    "\\boxed{}."
)
Kind = Literal[
    "auto", "plain", "chatml", "qwen2.5", "qwen3", "qwen3_nothink", "smollm2", "llama3", "llama3.1", "gemma3",
    "mistral", "mistral_v1",
]  # fmt: skip


class Tokenizer(Protocol):
    vocab_size: int
    name: str
    begin: tuple[int, ...]
    end: int
    ends: tuple[int, ...]
    template: str

    def encode(self, text: str, *, first: bool = True) -> list[int]: ...
    def decode(self, ids) -> str: ...
    def special(self, name: str) -> tuple[int, ...]: ...


@dataclass(frozen=True, kw_only=True)
class Template:
    """The text around problem and actions.

    Args:
      kind: `plain` for models trained from scratch: a mark for the form, then problem and actions; or a family of
        published models (`templates.py`). `auto` is the one that the folder of `weights` comes with, else `plain`.
      trunk_in: whose turn holds the actions given so far. In the user's turn (as arXiv:2510.25992) every branch point
        gets a tail that closes the turn.
      title_hint: shows the heading of the action to be written, where the demonstration has one.
      prefill_think: writes `<think>` at the start of every completion for the model; its text then reads as if the
        model had written the mark itself.
      separator: what ends an action on the trunk.
      history: actions, each with what an environment answered, that are shown before an action is asked for, the last
        ones; None shows all. It is about `action` form alone.
      action_system, solve_system: the system text, by what is asked for: the next action, or the whole solution. An
        empty one is left out, or is the family's own where its template has one. `plain` has no system text.
    """

    kind: Kind = "auto"
    trunk_in: Literal["assistant", "user"] = "assistant"
    title_hint: bool = False
    prefill_think: bool = False
    separator: str = "\n"
    history: int | None = None
    action_system: str = ACTION_INSTRUCTION
    solve_system: str = SOLVE_INSTRUCTION

    def __post_init__(self):
        if self.kind not in get_args(Kind):
            raise ValueError(f"template.kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.trunk_in not in ("assistant", "user"):
            raise ValueError(f"template.trunk_in must be assistant or user, got {self.trunk_in!r}")
        if self.history is not None and self.history < 0:
            raise ValueError(f"template.history must be >= 0, got {self.history}")
        if not self.separator:
            raise ValueError("template.separator must not be empty: it is what keeps actions apart")
        if self.prefill_think and self.kind == "qwen3_nothink":
            raise ValueError(
                "template.prefill_think=true opens a thought, and template.kind=qwen3_nothink has closed it already; "
                "leave out one of the two"
            )


def family(template: Template, tokenizer: Tokenizer) -> Family:
    """What the template writes around texts; `auto` is the family that the tokenizer names."""
    return FAMILIES[tokenizer.template if template.kind == "auto" else template.kind]


def check_marks(template: Template, tokenizer: Tokenizer) -> None:
    """Raises: ValueError if a family's template has marks that the tokenizer lacks: spelled out they would mean nothing
    to the model. `plain` is for models from scratch, which learn its marks as they are spelled.
    """
    own = family(template, tokenizer)
    missing = [name for name in marks(own) if len(tokenizer.special(name)) != 1]
    if missing and own is not FAMILIES["plain"]:
        kind = next(kind for kind, one in FAMILIES.items() if one is own)
        raise ValueError(
            f"template.kind={kind} writes {', '.join(missing)}, which {tokenizer.name} has no token for; set "
            f"template.kind=auto for the template of the weights' folder, or template.kind=plain"
        )


def ids(tokenizer: Tokenizer, *pieces: Piece, first: bool = False) -> list[int]:
    """Token ids of pieces; texts between two marks are one text, and never yield a special token.

    Args:
      first: nothing stands before the pieces, so a tokenizer may put a space before a text that they begin with.
    """
    out: list[int] = []
    for piece in _joined(pieces):
        if isinstance(piece, Mark):
            out += tokenizer.special(piece.name)
        else:
            out += tokenizer.encode(piece, first=first)
        first = False
    return out


def _joined(pieces: Sequence[Piece]) -> list[str | Mark]:
    out: list[str | Mark] = []
    for piece in pieces:
        if isinstance(piece, str) and out and isinstance(out[-1], str):
            out[-1] += piece
        elif piece != "":
            out.append(piece)
    return out


def _filled(pieces: Sequence[Piece], texts: dict[Slot, Piece]) -> list[Piece]:
    return [texts[piece] if isinstance(piece, Slot) else piece for piece in pieces]


def head(template: Template, tokenizer: Tokenizer, form: Form, problem: str) -> list[int]:
    """Everything before the first action."""
    own = family(template, tokenizer)
    system = template.action_system if form == "action" else template.solve_system
    system = (system.strip() if own.system_stripped else system) or own.system
    around = own.told if system or own.always else own.alone
    problem = problem.strip() if own.stripped else problem
    texts = {SYSTEM: own.above + system, PROBLEM: problem, FORM: Mark(f"<|{form}|>")}
    # A partial solution stands under its own heading; a whole solution is still written by the assistant.
    end = [own.so_far] if template.trunk_in == "user" else own.turn
    begin = tokenizer.begin if own.begin is None else tokenizer.special(own.begin)
    return [*begin, *ids(tokenizer, *_filled(around, texts), *end, first=True)]


def action(
    template: Template, tokenizer: Tokenizer, text: str, *, opens: bool = False, closes: bool = False
) -> list[int]:
    """An action on the trunk, its separator included.

    Args:
      opens: it is what the assistant's turn begins with.
      closes: it ends the turn, as an observation follows: then the end token stands for the separator.
    """
    written = _lead(template, tokenizer, opens) + text
    return [*ids(tokenizer, written), tokenizer.end] if closes else ids(tokenizer, written + template.separator)


def observation(template: Template, tokenizer: Tokenizer, text: str, *, in_turn: bool) -> list[int]:
    """What an environment answered to an action: a turn of the user, up to where the assistant writes again.

    Args:
      in_turn: it stands within a turn, as where the partial solution is the user's: text with its separator.
    """
    if in_turn:
        return ids(tokenizer, text + template.separator)
    own = family(template, tokenizer)
    if own is FAMILIES["plain"]:
        return ids(tokenizer, Mark("<|turn|>"), text, "\n", Mark("<|turn|>"))
    return ids(tokenizer, own.between, *_filled(own.alone, {PROBLEM: text}), *own.turn)


def opens_turn(template: Template, form: Form, after: int, observed: bool = False) -> bool:
    """Whether what follows `after` actions is what the assistant's turn begins with.

    Args:
      observed: an environment answers to actions, which ends the turn.
    """
    return after == 0 or observed or form == "action" and template.trunk_in == "user"


def _lead(template: Template, tokenizer: Tokenizer, opens: bool) -> str:
    return family(template, tokenizer).lead if opens else ""


def tail(template: Template, tokenizer: Tokenizer, title: str | None = None) -> list[int]:
    """What stands between the trunk and a completion: a title hint, the end of the user's turn; often nothing."""
    pieces: list[Piece] = [f"(next: {title})\n"] if template.title_hint and title else []
    if template.trunk_in == "user":
        pieces += family(template, tokenizer).tail
    return ids(tokenizer, *pieces)


def prefill(template: Template, tokenizer: Tokenizer) -> list[int]:
    """What the template writes of a completion before the model does."""
    thought = family(template, tokenizer).thought
    return ids(tokenizer, *thought[: thought.index(THOUGHT)]) if template.prefill_think else []


def completion(
    template: Template, tokenizer: Tokenizer, thought: str | None, text: str, *, last: bool = True, opens: bool = False
) -> list[int]:
    """What an expert would write: a thought in its marks, the action, and the end token or the separator."""
    around = family(template, tokenizer).thought if thought is not None else ()
    written = [_lead(template, tokenizer, opens), *_filled(around, {THOUGHT: thought}), text]
    if last:
        return [*ids(tokenizer, *written), tokenizer.end]
    return ids(tokenizer, *written, template.separator)
