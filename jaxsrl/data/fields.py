"""Which field of a row holds what, and what a row says: texts, steps, labels, what an environment answered."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

from jaxsrl.ops.text.marks import after_mark

Form = Literal["plain", "prm800k", "math_shepherd"]
SHEPHERD = re.compile(r"\s*(?:ки|[+-])\s*(?:\n|$)")  # what stands behind a step of Math-Shepherd
ROLES = {"human": "user", "gpt": "assistant", "tool": "user", "ipython": "user", "observation": "user"}


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Which field of a row holds what. A field that is named must be in every row.

    A name may lead inside: `question.problem`, `messages[0].content`, and over a list: `steps[].thought`.

    Args:
      problem, solution: texts. A solution may be a list of texts, its actions (`Splitter(style="given")`).
      answer: text or number; null where a row has no answer.
      answer_mark: the answer is what follows the last of these marks in the solution, on its line (`####` in GSM8K).
      id: must not occur twice.
      thoughts: a list of texts, one for each action.
      observations: a list of texts, one for each action: what an environment answered to it.
      labels: a list, one for each action: positive numbers, true and `+` are good. See `Splitter.labelled`.
      quality: a finite number, higher is better; `Curation` can choose by it.
      messages: a chat, instead of `problem` and `solution`: what the user asks first, and the assistant's answer. With
        `Splitter(style="given")` every turn of the assistant is an action, and what follows it its observation.
      form: rows of PRM800K or Math-Shepherd as they are published; the fields of problem and solution are then known.
    """

    problem: str = "problem"
    solution: str = "solution"
    answer: str | None = None
    answer_mark: str | None = None
    id: str | None = None
    thoughts: str | None = None
    observations: str | None = None
    labels: str | None = None
    quality: str | None = None
    messages: str | None = None
    form: Form = "plain"

    def __post_init__(self):
        for name in ("problem", "solution"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name a field, got {getattr(self, name)!r}")
        if self.answer is not None and self.answer_mark is not None:
            raise ValueError(f"give answer or answer_mark, got {self.answer=} {self.answer_mark=}")
        if self.form not in get_args(Form):
            raise ValueError(f"form must be one of {', '.join(get_args(Form))}, got {self.form!r}")
        told = [name for name in ("thoughts", "observations", "labels", "messages") if getattr(self, name)]
        if self.form != "plain" and told:
            raise ValueError(f"form={self.form!r} knows its own fields; leave out {', '.join(told)}")
        if self.messages and {"thoughts", "observations"} & set(told):
            raise ValueError("messages hold thoughts and observations themselves; leave those fields out")


class RowError(ValueError):
    """Why a row is set aside."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a row says. `solution` is a text that is still to be cut, or a list of actions."""

    problem: str
    solution: str | tuple[str, ...]
    answer: str | None = None
    thoughts: tuple[str | None, ...] | None = None
    observations: tuple[str, ...] | None = None
    good: tuple[bool, ...] | None = None


def told(row: Mapping[str, Any], fields: Fields, *, turns: bool) -> Told:
    """Reads a row.

    Args:
      turns: whether every turn of the assistant is an action, where there are `messages`.
    Raises: RowError saying which field is not as it should be.
    """
    if fields.form == "prm800k":
        return _prm800k(row)
    if fields.form == "math_shepherd":
        return _math_shepherd(row, fields)
    if fields.messages is not None:
        problem, solution, observations = _chat(value_at(row, fields.messages), fields.messages, turns)
    else:
        problem, observations = text_at(row, fields.problem), None
        found = value_at(row, fields.solution)
        solution = _texts(found, fields.solution) if isinstance(found, list) else text_at(row, fields.solution)
    if fields.observations is not None:
        observations = _texts(value_at(row, fields.observations), fields.observations, empty=True)
    good = None if fields.labels is None else _good(value_at(row, fields.labels), fields.labels)
    return Told(
        problem=problem, solution=solution, answer=_answer(row, fields, solution), observations=observations, good=good,
        thoughts=None if fields.thoughts is None else _thoughts(value_at(row, fields.thoughts), fields.thoughts),
    )  # fmt: skip


def value_at(row: Mapping[str, Any], name: str) -> Any:
    """What a name leads to: `answer`, `question.problem`, `messages[0].content`, `steps[].thought`."""
    if name in row:
        return row[name]
    value: Any = row
    for part in re.findall(r"\[\d*\]|[^.\[\]]+", name):
        value = _into(value, part, name, row)
    return value


def _into(value: Any, part: str, name: str, row: Mapping[str, Any]) -> Any:
    if isinstance(value, _Each):
        return _Each(_into(item, part, name, row) for item in value)
    if part == "[]" and isinstance(value, list | Mapping):  # a list of objects, or an object of lists as TFDS has it
        return _Each(value) if isinstance(value, list) else value
    if part.startswith("[") and isinstance(value, list) and int(part[1:-1] or 0) < len(value):
        return value[int(part[1:-1])]
    if isinstance(value, Mapping) and part in value:
        return value[part]
    raise RowError(f"no field {name!r}, it has {', '.join(map(repr, list(row)[:8]))}")


class _Each(list):
    """The items of a list that a name goes on inside of."""


def checked(text: Any, name: str) -> str:
    """A text that UTF-8 can write."""
    if not isinstance(text, str):
        raise RowError(f"{name} must be text, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, UTF-8 and tokenizers cannot
        raise RowError(f"{name} holds half of a surrogate pair at character {error.start}") from None
    return text


def text_at(row: Mapping[str, Any], name: str) -> str:
    """A text, without white space around it, that is not empty."""
    return _full(checked(value_at(row, name), name), name)


def _full(text: str, name: str) -> str:
    if not text.strip():
        raise RowError(f"{name} is empty")
    return text.strip()


def scalar_at(row: Mapping[str, Any], name: str) -> str:
    """A text or a finite number, as text: 27.0 is written 27, and 0.00005 without the exponent of Python's 5e-05."""
    value = value_at(row, name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise RowError(f"{name} must be finite, got {value}")
        return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")
    return _full(checked(value, name), name)


def number_at(row: Mapping[str, Any], name: str) -> float:
    try:
        return float(scalar_at(row, name))
    except ValueError as error:
        raise RowError(str(error) if isinstance(error, RowError) else f"{name} must be a number") from None


def _texts(found: Any, name: str, *, empty: bool = False) -> tuple[str, ...]:
    """A list of texts; a list inside it is one text of several lines."""
    if not isinstance(found, list):
        raise RowError(f"{name} must be a list, got {type(found).__name__}")
    lines = [x if isinstance(x, list) else [x] for x in found]
    texts = tuple("\n".join(checked(line, name) for line in x) for x in lines)
    at = next((i for i, text in enumerate(texts) if not text.strip()), None)
    if at is not None and not empty:
        raise RowError(f"{name}: number {at + 1} of {len(texts)} is empty")
    return tuple(text.strip() for text in texts)


def _thoughts(found: Any, name: str) -> tuple[str | None, ...]:
    if not isinstance(found, list):
        raise RowError(f"{name} must be a list, got {type(found).__name__}")
    return tuple(None if thought is None else checked(thought, name) for thought in found)


def _answer(row: Mapping[str, Any], fields: Fields, solution: str | Sequence[str]) -> str | None:
    if fields.answer_mark is not None:
        after = after_mark(solution if isinstance(solution, str) else "\n".join(solution), fields.answer_mark)
        if after is None:
            raise RowError(f"{fields.solution} has no answer after {fields.answer_mark!r} on its line")
        return after
    if fields.answer is None or value_at(row, fields.answer) is None:
        return None
    return scalar_at(row, fields.answer)


def _good(found: Any, name: str) -> tuple[bool, ...]:
    if not isinstance(found, list) or not all(isinstance(x, bool | int | float) or x in ("+", "-") for x in found):
        raise RowError(f"{name} must be a list of numbers, true and false, or + and -")
    return tuple(x == "+" or not isinstance(x, str) and x > 0 for x in found)


def _chat(found: Any, name: str, turns: bool) -> tuple[str, str | tuple[str, ...], tuple[str, ...] | None]:
    """(problem, solution, observations): what stands before the first answer is the problem, a system text aside."""
    if not isinstance(found, list) or not all(isinstance(message, Mapping) for message in found):
        raise RowError(f"{name} must be a list of messages")
    said = []
    for message in found:
        role = message.get("role", message.get("from"))
        content = checked(message.get("content", message.get("value")), f"{name}: content")
        said.append((ROLES.get(role, role), content.strip()))
    unknown = {role for role, _ in said} - {"system", "user", "assistant"}
    if unknown:
        raise RowError(f"{name}: roles must be system, user and assistant, got {unknown.pop()!r}")
    first = next((i for i, (role, _) in enumerate(said) if role == "assistant"), len(said))
    problem = _full("\n\n".join(text for role, text in said[:first] if role == "user"), f"{name}: what the user asks")
    actions, observations = [], []
    for role, text in said[first:]:
        if role == "assistant":
            actions.append(_full(text, f"{name}: an answer"))
            observations.append("")
        else:
            observations[-1] = f"{observations[-1]}\n\n{text}".strip()
    if not actions:
        raise RowError(f"{name} has no turn of the assistant")
    if turns:
        return problem, tuple(actions), tuple(observations)
    if len(actions) > 1:
        raise RowError(f"{name} has {len(actions)} turns of the assistant; splitter.style='given' makes each an action")
    return problem, actions[0], None


def _prm800k(row: Mapping[str, Any]) -> Told:
    """A chain is as far as a completion was chosen or written by a person; a person's own are good."""
    steps, good = [], []
    for step in value_at(row, "label.steps"):
        chosen, own = step.get("chosen_completion"), step.get("human_completion")
        if chosen is None and own is None:
            break
        taken = own if chosen is None else step["completions"][chosen]
        steps.append(_full(checked(taken["text"], "label.steps"), "label.steps"))
        good.append(chosen is None or taken.get("rating") == 1)
    answer = value_at(row, "question").get("ground_truth_answer")
    problem, answer = text_at(row, "question.problem"), None if answer is None else str(answer)
    return Told(problem=problem, solution=tuple(steps), good=tuple(good), answer=answer)


def _math_shepherd(row: Mapping[str, Any], fields: Fields) -> Told:
    """`input` is the problem and its steps, a mark behind each; `label` the same with + and - there."""
    text, label = text_at(row, "input"), text_at(row, "label")
    problem, first, rest = text.partition("Step 1:")
    steps = [step.strip() for step in SHEPHERD.split(first + rest) if step.strip()]
    signs = [sign for sign in re.findall(r"([+-])\s*(?:\n|$)", label)]
    if not first or not problem.strip() or len(signs) != len(steps):
        raise RowError(f"input has {len(steps)} steps from 'Step 1:' on, label has {len(signs)} signs")
    answer = None if fields.answer is None else scalar_at(row, fields.answer)
    return Told(problem=problem.strip(), solution=tuple(steps), answer=answer, good=tuple(s == "+" for s in signs))
