"""The report's warnings while a stage runs, each said when it begins, and what an evaluation found in one line."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxsrl.report.alarms import while_training
from jaxsrl.report.names import AT_K, FORCED, last_part, number
from jaxsrl.report.read import Line, Run, is_number

REMEMBERED = 40  # lines of training; more than any warning looks back
LOOK_EVERY = 10  # steps
URGENT = ("skipped", "nothing kept")  # said at any step; a share of a few steps says little
HEADLINES = ("actions/exact", "actions/similarity", "chained/answer", "direct/answer")


@dataclass(kw_only=True)
class Watch:
    """Which warnings of a stage have been said.

    Args:
      config: the run's, as its file has it.
    """

    stage: str
    config: Mapping[str, Any]
    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    said: set[str] = field(default_factory=set)  # kinds
    skipped: int = 0  # when that was said

    def look(self, lines: Sequence[Line], *, last: bool = False) -> list[str]:
        """Warnings that begin with these lines of training; with `last` all that hold at the end of the stage."""
        self.lines.extend(lines)
        due = last or any(line["step"] % LOOK_EVERY == 0 for line in lines)
        now = any(line.get("collect/kept_share") == 0 for line in lines) or self._skipped() > self.skipped
        if not self.lines or not (due or now):
            return []
        run = Run(name="", config=self.config, stages=(self.stage,), train={self.stage: tuple(self.lines)})
        new = []
        for kind, text in while_training(run, self.stage):
            again = kind == "skipped" and self._skipped() >= 2 * self.skipped > 0
            if last or again or kind not in self.said and (due or kind in URGENT):
                new.append(text)
                self.said.add(kind)
                self.skipped = self._skipped() if kind == "skipped" else self.skipped
        return new

    def _skipped(self) -> int:
        value = self.lines[-1].get("update/skipped") if self.lines else None
        return int(value) if is_number(value) else 0


def evaluation_line(metrics: Line, also: Sequence[str] = ()) -> str:
    """The headline numbers with their intervals, as `actions/exact 41.4 % (33.7–49.4)`.

    Args:
      also: metrics that are shown whatever they are, as the one that chooses the best policy.
    """
    at_k = [n for n in metrics if last_part(n).startswith(AT_K) and not n.startswith(FORCED) and not _bound(n, metrics)]
    names = dict.fromkeys((*also, *HEADLINES, *at_k))
    shown = ", ".join(f"{name} {_with_bounds(metrics, name)}" for name in names if is_number(metrics.get(name)))
    return shown or "no headline metric applies to these problems"


def _bound(name: str, metrics: Line) -> bool:
    return any(name.endswith(end) and name.removesuffix(end) in metrics for end in ("_low", "_high"))


def _with_bounds(metrics: Line, name: str) -> str:
    low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
    around = f" ({plain(low, name)}–{plain(high, name)})" if is_number(low) and is_number(high) else ""
    return plain(metrics[name], name, unit=True) + around


def plain(value: float, name: str, *, unit: bool = False) -> str:
    """A number for a terminal, with the report's digits."""
    shown = number(value, name).replace("\u2212", "-").replace("\u202f", " ")
    return shown if unit else shown.removesuffix(" %")
