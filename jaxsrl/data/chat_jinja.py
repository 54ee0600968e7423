"""A family's template in the language in which Transformers and vLLM read one, for the folder that `convert` writes."""

import json
from collections.abc import Sequence

from jaxsrl.data.templates import FORM, PROBLEM, SYSTEM, Family, Mark, Piece


def jinja(family: Family, *, system: str, given: str = "", begins: bool = False) -> str:
    """The template of a conversation.

    Args:
      system: the system text where a conversation has none.
      begins: whether the tokenizer's BOS token stands first, where the family does not say.
      given: what stands at the beginning of an answer that is asked for: `<think>`, where it is written for the model.
    """
    trim = lambda on: " | trim" if on else ""
    names = {
        SYSTEM: f"{_quoted(family.above)} + (system{trim(family.system_stripped)})",
        PROBLEM: f"(message['content']{trim(family.stripped)})", FORM: _quoted("<|solve|>"),
    }  # fmt: skip
    written = lambda pieces: _sum(pieces, names)
    told = "true" if family.always else "system"
    begin = "{{- bos_token }}" if begins else ""
    end = "eos_token" if family.end is None else _quoted(family.end)
    answer = f"{written((*family.turn, family.lead))} + (message['content']{trim(family.stripped)}) + {end}"
    lines = [
        "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}"
        "{%- set rest = messages[1:] %}",
        f"{{%- else %}}{{%- set system = {_quoted(system)} %}}{{%- set rest = messages %}}{{%- endif %}}",
        f"{{{{- {_quoted(family.begin)} }}}}" if family.begin else begin,
        "{%- for message in rest %}{%- if message['role'] == 'user' %}",
        f"{{%- if loop.first and {told} %}}{{{{- {written(family.told)} }}}}",
        f"{{%- else %}}{{{{- {written(family.alone)} }}}}{{%- endif %}}",
        f"{{%- elif message['role'] == 'assistant' %}}{{{{- {answer} + {_quoted(family.between)} }}}}",
        "{%- else %}{{- raise_exception('a turn is of the user or the assistant') }}{%- endif %}{%- endfor %}",
        f"{{%- if add_generation_prompt %}}{{{{- {written((*family.turn, given))} }}}}{{%- endif %}}",
    ]
    return "\n".join(line for line in lines if line)


def _sum(pieces: Sequence[Piece], names: dict) -> str:
    """An expression: the pieces, one behind the other."""
    texts = (names.get(piece) or _quoted(piece.name if isinstance(piece, Mark) else piece) for piece in pieces)
    return " + ".join(texts) or _quoted("")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
