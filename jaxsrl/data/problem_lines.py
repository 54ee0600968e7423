"""Demonstrations as the logs of completions refer to them: by a key, with the texts written down once a step."""

import hashlib
from collections.abc import Iterable
from typing import Any

from jaxsrl.types import Demonstration


def demonstration_key(demonstration: Demonstration) -> str:
    """16 hexadecimal digits of what a completion may have been shown: problem, actions and observations, as the
    tokenizer has them.

    Two demonstrations of one problem have two keys; the same one has the same key in every step, process and run.
    """
    seen = demonstration.observations or ()
    parts = (demonstration.problem_id, demonstration.problem, *demonstration.actions, *seen)
    lengths = ",".join(str(len(part)) for part in parts)  # so that no text can look like the end of another
    text = "\0".join((lengths, *parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def problem_lines(demonstrations: Iterable[Demonstration], head: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines of `problems/STAGE.jsonl`: `head`, then a demonstration's key and texts. One for each key.

    A completion at branch point k was given the first k of `actions`, and of `observations` where there are any.
    """
    lines = {}
    for one in demonstrations:
        key = demonstration_key(one)
        lines[key] = head | {
            "demonstration": key, "problem": one.problem_id, "text": one.problem, "actions": list(one.actions),
            "answer": one.answer,
        } | ({"observations": list(one.observations)} if one.observations else {})  # fmt: skip
    return list(lines.values())
