"""Demonstrations as a model can write them, and whether a tokenizer keeps actions apart."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jaxsrl.data.tokenizer import Tokenizer, as_spelled
from jaxsrl.types import Demonstration

SEPARATORS = ("\n", "\n\n", "\n---\n", " ; ")  # that are proposed where another one does not work
SAMPLE = 64  # demonstrations that are looked at
MOST = 0.1  # share of them that may be tokenised in segments otherwise than as a whole


def spelled(tokenizer: Tokenizer, demonstration: Demonstration) -> Demonstration:
    """The demonstration with actions and answer as the tokenizer's ids spell them; itself where they do so already.

    A tokenizer that composes text (NFC) cannot spell some texts, so no completion would equal such an action. What the
    file holds stays in `written`.
    """
    actions = tuple(as_spelled(tokenizer, action) for action in demonstration.actions)
    answer = None if demonstration.answer is None else as_spelled(tokenizer, demonstration.answer)
    if (actions, answer) == (demonstration.actions, demonstration.answer):
        return demonstration
    return replace(demonstration, actions=actions, answer=answer, written=demonstration.actions)


def about_spelling(tokenizer: Tokenizer, demonstrations: Iterable[Demonstration]) -> str | None:
    """What to tell of demonstrations that were changed by `spelled`; None where none was."""
    whole = list(demonstrations)
    changed = [demonstration for demonstration in whole if demonstration.written is not None]
    if not changed:
        return None
    return (
        f"{len(changed)} of {len(whole)} demonstrations hold text that {tokenizer.name} cannot spell as it stands (the "
        f"first is {changed[0].source or changed[0].problem_id}); completions are compared with what its ids spell"
    )


def about_separator(tokenizer: Tokenizer, demonstrations: Sequence[Demonstration], separator: str) -> str | None:
    """What is wrong with a separator, and one that works; None where it keeps actions apart.

    A separator works where actions tokenised one by one, each with the separator at its end, have the ids of the whole
    solution, and the text of these ids still ends with it. In a vocabulary whose pieces begin with a space, a separator
    that ends with a space does not.
    """
    some = [d for d in demonstrations if len(d.actions) > 1][:SAMPLE]
    if not some or not (wrong := _wrong(tokenizer, some, separator)):
        return None
    works = next((one for one in SEPARATORS if not _wrong(tokenizer, some, one)), None)
    fix = f"template.separator={works!r} works" if works else f"none of {', '.join(map(repr, SEPARATORS))} works better"
    return f"template.separator={separator!r} with {tokenizer.name}: {wrong}; {fix}"


def _wrong(tokenizer: Tokenizer, some: Sequence[Demonstration], separator: str) -> str:
    lost = sum(not as_spelled(tokenizer, d.actions[0] + separator).endswith(separator) for d in some)
    if lost > MOST * len(some):
        return f"its ids do not spell it at the end of {lost} of {len(some)} actions"
    apart = 0
    for d in some:
        parts = [tokenizer.encode(text + separator, first=False) for text in d.actions[:-1]]
        parts.append(tokenizer.encode(d.actions[-1], first=False))
        apart += sum(parts, []) != tokenizer.encode(separator.join(d.actions), first=False)
    if apart > MOST * len(some):
        return f"{apart} of {len(some)} solutions have other ids in segments than as a whole"
    return ""
