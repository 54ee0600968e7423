"""Chat templates as data: what a family of published models writes around a system text, a problem and an answer.

Equal to what Transformers makes of each family's published template (`tests/data/golden/chat_reference.json`).
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


@dataclass(frozen=True)
class Mark:
    """A template piece that is one token."""

    name: str


class Slot(Enum):
    """Where a text stands."""

    SYSTEM = "system"
    PROBLEM = "problem"
    THOUGHT = "thought"
    FORM = "form"  # a mark for the form that is asked for, such as `<|action|>`


Piece = str | Mark | Slot
SYSTEM, PROBLEM, THOUGHT, FORM = Slot
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


@dataclass(frozen=True, kw_only=True)
class Family:
    """What stands around the texts of one problem.

    Args:
      begin: the token before everything; None: what the tokenizer puts before a text, often nothing.
      told: up to the end of the problem, with a system text.
      alone: the same without one.
      always: there is a system text even where it is empty.
      turn: from the end of the problem to where the assistant writes.
      tail: the same after a partial solution in the user's turn.
      so_far: what a partial solution in the user's turn stands under.
      end: the token that ends the assistant's turn; None: the tokenizer's own end.
      between: what stands between that token and the next turn.
      system: the system text where none is set.
      above: what stands in the system text before it.
      lead: what the assistant's turn begins with, before the text.
      stripped: white space around the problem is left out, and around the system text if `system_stripped`.
      thought: a thought before an answer.
    """

    told: tuple[Piece, ...]
    alone: tuple[Piece, ...]
    always: bool = False
    turn: tuple[Piece, ...]
    tail: tuple[Piece, ...]
    so_far: str = "\n\nSolution so far:\n"
    begin: str | None = None
    end: str | None = None
    between: str = ""
    system: str = ""
    above: str = ""
    lead: str = ""
    stripped: bool = False
    system_stripped: bool = False
    thought: tuple[Piece, ...] = (Mark(THINK_OPEN), THOUGHT, Mark(THINK_CLOSE))


def marks(family: Family) -> tuple[str, ...]:
    """Every token that the template writes; thoughts may be written by text, so their marks are not among them."""
    pieces = (*family.told, *family.alone, *family.turn, *family.tail)
    named = [family.begin, family.end, *(piece.name for piece in pieces if isinstance(piece, Mark))]
    return tuple(dict.fromkeys(name for name in named if name is not None))


def _chatml(*, after: tuple[Piece, ...] = (), **more) -> Family:
    """Turns of `<|im_start|>`; `after` is what the assistant's turn begins with."""
    start, stop = Mark("<|im_start|>"), Mark("<|im_end|>")
    alone = (start, "user\n", PROBLEM)
    turn = (stop, "\n", start, "assistant\n", *after)
    told = (start, "system\n", SYSTEM, stop, "\n", *alone)
    return Family(told=told, alone=alone, turn=turn, tail=turn, end="<|im_end|>", between="\n", **more)


def _llama3(**more) -> Family:
    head = lambda role: (Mark("<|start_header_id|>"), role, Mark("<|end_header_id|>"), "\n\n")
    stop = Mark("<|eot_id|>")
    alone, turn = (*head("user"), PROBLEM), (stop, *head("assistant"))
    return Family(
        told=(*head("system"), SYSTEM, stop, *alone), alone=alone, turn=turn, tail=turn, always=bool(more),
        begin="<|begin_of_text|>", end="<|eot_id|>", stripped=True, system_stripped=True, **more,
    )  # fmt: skip


def _mistral(opening: tuple[Piece, ...], closing: tuple[Piece, ...]) -> Family:
    return Family(
        told=(*opening, SYSTEM, "\n\n", PROBLEM), alone=(*opening, PROBLEM), turn=closing, tail=closing,
        begin="<s>", end="</s>", lead=" ",
    )  # fmt: skip


QWEN3_THOUGHT = (Mark(THINK_OPEN), "\n", THOUGHT, "\n", Mark(THINK_CLOSE), "\n\n")
NO_THOUGHT = (Mark(THINK_OPEN), "\n\n", Mark(THINK_CLOSE), "\n\n")
_GEMMA, _GEMMA_TURN = Mark("<start_of_turn>"), (Mark("<end_of_turn>"), "\n", Mark("<start_of_turn>"), "model\n")
_PLAIN = (FORM, PROBLEM, "\n")

FAMILIES: dict[str, Family] = {
    # For models from scratch: a mark for the form, then problem and actions. Marks a tokenizer lacks are spelled out.
    "plain": Family(told=_PLAIN, alone=_PLAIN, turn=(), tail=(Mark("<|turn|>"),), so_far=""),
    "chatml": _chatml(),
    "qwen2.5": _chatml(system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "qwen3": _chatml(thought=QWEN3_THOUGHT),
    "qwen3_nothink": _chatml(after=NO_THOUGHT, thought=QWEN3_THOUGHT),
    "smollm2": _chatml(system="You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    "llama3": _llama3(),
    "llama3.1": _llama3(above="Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"),
    "gemma3": Family(
        told=(_GEMMA, "user\n", SYSTEM, "\n\n", PROBLEM), alone=(_GEMMA, "user\n", PROBLEM), turn=_GEMMA_TURN,
        tail=_GEMMA_TURN, begin="<bos>", end="<end_of_turn>", between="\n", stripped=True,
    ),
    "mistral": _mistral((Mark("[INST]"), " "), (Mark("[/INST]"),)),
    "mistral_v1": _mistral((" [INST] ",), (" [/INST]",)),
}  # fmt: skip

# What a published template is known by: all of the texts of a row stand in it, and the first such row counts.
SIGNS = (
    ("plain", ("<|solve|>",)),  # as `chat_jinja.py` writes it
    ("qwen3", ("<|im_start|>", "enable_thinking", "<think>\\n\\n</think>\\n\\n")),
    ("smollm2", ("<|im_start|>", "named SmolLM, trained by Hugging Face")),
    ("qwen2.5", ("<|im_start|>", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")),
    ("chatml", ("<|im_start|>", "<|im_end|>")),
    ("llama3.1", ("<|start_header_id|>", "Cutting Knowledge Date: December 2023", "Today Date: ")),
    ("llama3", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    ("gemma3", ("<start_of_turn>", "<end_of_turn>", "model")),
    ("mistral_v1", ("[INST] ", " [/INST]")),
    ("mistral", ("[INST] ", "[/INST]")),
)
# A template with one of these is a family's that is not known here, though it may have the signs of another.
OTHERS = (
    "assistant\\n<think>",
    "assistant\n<think>",  # a thought that is always opened (QwQ, Qwen3 Thinking 2507)
    "<<SYS>>",
    "[SYSTEM_PROMPT]",
    "<|im_sep|>",
    "[THINK]",
    "reasoning_mode",
)


def recognised(folder: Path, template: str | None) -> str:
    """The kind of a folder's chat template; `plain` where it has none.

    Raises: ValueError if it is of none of the families.
    """
    if template is None:
        return "plain"
    if not any(other in template for other in OTHERS):
        for kind, signs in SIGNS:
            if all(sign in template for sign in signs):
                return kind
    raise ValueError(
        f"{folder}: its chat template is of no known family; set template.kind to one of {', '.join(FAMILIES)}"
    )
