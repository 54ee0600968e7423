"""Arithmetic problems asked backwards: a given quantity is hidden, the answer shown, the hidden one asked for.

    d<g:BP       from label g back to d, the machine set to B and P        g:?P      which first setting leads from
    g=76814      where it ended; actions go back a label at a time         d=47123   d to g?
                                                                           g=76814

Every operation is a permutation of digits, so the way back is exact. A problem that no rollout solves forwards gives
up to three items whose answers are known.
"""

from dataclasses import replace

from jaxsrl.tasks.arithmetic import LETTERS, PLACES, WIRING, apply, solve
from jaxsrl.types import Demonstration

HIDDEN = "?"


def backward(demonstration: Demonstration) -> tuple[Demonstration, ...]:
    """The start asked for, and each setting that the start and the end determine.

    All keep the problem's id, so that no split has a problem forwards and another has it backwards.
    Raises: ValueError if the demonstration is not of the arithmetic family.
    """
    header, start = demonstration.problem.split("\n")
    stop, settings = header.split(":")
    expected, _ = solve(demonstration.problem)
    end = expected[-1]
    ask = lambda problem, actions: replace(
        demonstration, problem=problem, actions=actions, answer=actions[-1], thoughts=None, titles=None
    )
    first_label = start.partition("=")[0]
    items = [ask(f"{first_label}<{header}\n{end}", (*reversed(expected[:-1]), start))]
    for place, letters in ((0, PLACES[0]), (1, PLACES[2])):
        fits = [x for x in letters if _ends(stop, _with(settings, place, x), start) == end]
        if len(fits) == 1:
            items.append(ask(f"{stop}:{_with(settings, place, HIDDEN)}\n{start}\n{end}", (fits[0],)))
    return tuple(items)


def _with(settings: str, place: int, letter: str) -> str:
    return settings[:place] + letter + settings[place + 1 :]


def _ends(stop: str, settings: str, start: str) -> str:
    return solve(f"{stop}:{settings}\n{start}")[0][-1]


def undo(operation: str, state: str) -> str:
    """The digits before one operation: the inverse permutation, found by applying it to each digit."""
    back = {apply(operation, digit): digit for digit in "0123456789"}
    return "".join(back[digit] for digit in state)


def solve_backward(problem: str) -> tuple[str, ...]:
    """Actions of a problem that asks for the start, from its text alone.

    Raises: ValueError if the text is not such a problem.
    """
    try:
        header, end = problem.split("\n")
        first, rest = header.split("<")
        stop, (before, after) = rest.split(":")
        label, state = end.split("=")
        if label != stop:
            raise ValueError(f"the end is at {label}, not at {stop}")
        actions = []
        while label != first:
            label = LETTERS[LETTERS.index(label) - 1]
            for operation in (after, WIRING[LETTERS.index(label)], before):
                state = undo(operation, state)
            actions.append(f"{label}={state}")
    except (ValueError, IndexError) as error:
        raise ValueError(f"not a backward problem: {problem!r}") from error
    return tuple(actions)
