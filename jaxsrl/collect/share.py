"""Problems of an evaluation, shared out among processes: each asks, reads and tells of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from jaxsrl.processes import from_all


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a process does of an evaluation. Processes that hold the same prompt rows ask the same; one of them tells.

    Args:
      index, count: which part of the problems, and how many parts there are.
      tells: whether this process contributes what it reads; else another with the same rows does.
      held: prompt rows of a whole call that lie on this process, None for all of them.
    """

    index: int = 0
    count: int = 1
    tells: bool = True
    held: tuple[bool, ...] | None = None

    def own(self, problems: Sequence[str]) -> Bool[np.ndarray, "M"]:
        """Which of these are this part's: a problem goes to one part, however often it comes."""
        number: dict[str, int] = {}
        for problem in problems:
            number.setdefault(problem, len(number))
        return np.array([number[problem] % self.count == self.index for problem in problems], bool)

    def jobs(self, slots: int) -> Bool[np.ndarray, "P"] | slice:
        """Of a whole call those that this process holds."""
        return slice(None) if self.held is None else np.repeat(np.array(self.held, bool), slots)

    def of_all(self, columns: Mapping[str, Float[np.ndarray, "N"]]) -> dict[str, Float[np.ndarray, "A"]]:
        """The rows of every part, those of one after those of another. Numbers alone cross between hosts."""
        if self.count == 1:
            return dict(columns)
        count = len(next(iter(columns.values()))) if self.tells else 0
        counts = from_all(np.array([count]))[:, 0].astype(int)
        table = np.zeros((len(columns), int(counts.max())))
        for row, value in enumerate(columns.values()):
            table[row, :count] = np.asarray(value, np.float64)[:count]
        every = from_all(table)
        rows = np.concatenate([part[:, :size] for part, size in zip(every, counts, strict=True)], axis=1)
        return dict(zip(columns, rows, strict=True))


def share_of(held: Mapping[int, Sequence[bool]], process: int) -> Share:
    """What a process does of an evaluation.

    Where processes hold rows of one another in part, all ask everything, and the first one tells.

    Args:
      held: process -> which prompt rows of a call lie on it.
    """
    rows = {name: tuple(mask) for name, mask in held.items()}
    parts, mine = sorted(set(rows.values()), reverse=True), rows.get(process)
    alike = len(set(map(sum, parts))) == 1 and np.sum(parts, axis=0).max() == 1
    if mine is None or not alike or len(parts) == 1:
        return Share(tells=process == min(rows))
    tells = process == min(name for name, mask in rows.items() if mask == mine)
    return Share(index=parts.index(mine), count=len(parts), held=mine, tells=tells)
