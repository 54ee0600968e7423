"""Actions that take no reasoning, to read a similarity against."""

import hashlib
from collections.abc import Sequence

from jaxsrl.types import Demonstration


def previous_action(demonstration: Demonstration, after: int) -> str:
    """The action before, as the prompt shows it; at the problem its last line that is not blank, "" without one."""
    if after:
        return demonstration.actions[after - 1].strip()
    lines = demonstration.problem.strip().splitlines()
    return lines[-1].strip() if lines else ""


def other_problem_actions(
    demonstrations: Sequence[Demonstration], places: Sequence[tuple[int, int]]
) -> list[str | None]:
    """The expert's action at the same place in another problem: right in style, and about something else.

    Problems stand in a circle, ordered by a hash of their id so that neighbours in a file are not neighbours here;
    each takes from the next one that has an action at this place, so that actions of one place are shuffled and none
    stays. Where no other problem is as long, the next one gives its last action. The order of `demonstrations` is of
    no consequence.

    Args:
      places: (index of the demonstration, expert actions given).
    Returns: None where there is no other problem.
    """
    circle = sorted(range(len(demonstrations)), key=lambda m: _order(demonstrations[m]))
    position = {m: at for at, m in enumerate(circle)}
    out = []
    for m, after in places:
        following = (demonstrations[circle[(position[m] + i) % len(circle)]] for i in range(1, len(circle)))
        others = (d for d in following if d.problem_id != demonstrations[m].problem_id)
        last = None
        for other in others:
            if len(other.actions) > after:
                last = other.actions[after].strip()
                break
            if last is None and other.actions:
                last = other.actions[-1].strip()
        out.append(last)
    return out


def _order(demonstration: Demonstration) -> tuple[bytes, str, tuple[str, ...]]:
    identity = demonstration.problem_id
    return hashlib.blake2b(identity.encode(), digest_size=8).digest(), identity, demonstration.actions
