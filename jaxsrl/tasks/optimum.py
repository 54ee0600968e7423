"""Optimisation under constraints: what an answer says, whether it is allowed, and how good it is, each by itself.

An answer is a JSON object on the last line of a solution. A task says which constraints there are, by family, and what
an answer costs; the exact optimum comes from a solver of mixed-integer programs.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsrl.tasks.draw import lines_of

LONGEST = 4096  # characters of an answer that is read


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """An answer on separate axes, so that what looks right and what is right cannot mix.

    Args:
      form: parses, has the keys, names what there is, has whole numbers; each by itself.
      families: share of the constraints of a family that hold; empty where the form does not let them be checked.
      feasible: whether all of them hold.
      gap: (cost - least cost) / |least cost| of a feasible answer; None of another.
      squared_error: mean squared difference to the solver's answer, where the form lets it be told.
    """

    form: Mapping[str, bool]
    families: Mapping[str, float]
    feasible: bool
    gap: float | None
    squared_error: float | None

    @property
    def dense(self) -> float:
        """-1 for what does not parse, else the mean share of constraints that hold, over families."""
        if not self.form["parses"]:
            return -1.0
        return float(np.mean(list(self.families.values()))) if self.families else 0.0

    @property
    def best(self) -> bool:
        """Feasible, and nothing is cheaper."""
        return self.feasible and self.gap is not None and self.gap < 1e-9


def answer_of(text: str) -> dict[str, Any] | None:
    """The JSON object on the last line of a solution, or None."""
    lines = lines_of(text)
    if not lines or len(lines[-1]) > LONGEST or not lines[-1].startswith("{"):
        return None
    try:
        found = json.loads(lines[-1], parse_int=_whole, parse_constant=lambda name: None)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _whole(digits: str) -> int | float:
    """A number of many digits is no set-point, and slow to read."""
    return int(digits) if len(digits) < 16 else float("inf")


def judge(
    form: Mapping[str, bool], held: Mapping[str, Sequence[bool]], cost: float | None, least: float,
    value: np.ndarray | None, best: np.ndarray,
) -> Judgement:  # fmt: skip
    """What constraints, costs and numbers come to.

    Args:
      held: of each family, whether its constraints hold.
      cost, least: of the answer and of the optimum. value, best: their numbers, [N].
    """
    feasible = all(form.values()) and bool(held) and all(all(some) for some in held.values())
    return Judgement(
        form=dict(form), families={name: float(np.mean(some)) for name, some in held.items() if len(some)},
        feasible=feasible,
        gap=(cost - least) / max(abs(least), 1e-12) if feasible and cost is not None else None,
        squared_error=None if value is None else float(np.mean((value - best) ** 2)),
    )  # fmt: skip


def sparse(rows: Sequence[Mapping[int, float]], columns: int):
    """A matrix [K N] from its rows, each {column: value}; what is not named is 0."""
    from scipy.sparse import csr_array

    where = [(row, column) for row, terms in enumerate(rows) for column in terms]
    values = [float(value) for terms in rows for value in terms.values()]
    return csr_array((values, tuple(zip(*where, strict=True))), shape=(len(rows), columns))


def minimise(cost, matrix, low, high, bounds, gap: float = 0.0) -> np.ndarray | None:
    """Whole numbers x [N] of least `cost @ x` with low <= matrix @ x <= high, within bounds; None if there are none.

    Args:
      matrix: [K, N], dense or `sparse`. bounds: (least [N], most [N]).
      gap: the share of the cost that may be left between what is returned and what can be proved; 0: none.
    Raises: RuntimeError if the solver gives up.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # half a second that only these tasks take

    found = milp(
        np.asarray(cost, float), constraints=LinearConstraint(matrix, low, high),
        bounds=Bounds(*bounds), integrality=np.ones(len(cost)), options={"mip_rel_gap": gap},
    )  # fmt: skip
    if found.status == 2:
        return None
    if found.status != 0:
        raise RuntimeError(f"the solver gave up: {found.message}")
    return np.round(found.x).astype(int)


def parsed(pattern: str, line: str) -> re.Match[str]:
    """Raises: ValueError if a line of a problem is not as it must be."""
    found = re.fullmatch(pattern, line)
    if found is None:
        raise ValueError(f"not a line of such a problem: {line!r}")
    return found
