"""Stages of several runs side by side: the same config under different seeds, as one table and one page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxsrl.evals.statistics import student
from jaxsrl.metrics import read
from jaxsrl.report.compare import write_comparison
from jaxsrl.runs import RunError, run_folder

COLUMNS = (
    "actions/exact", "actions/similarity", "actions/thinks", "actions/malformed", "forced_actions/exact",
    "chained/leading_mean", "chained/whole", "forced_chained/whole", "direct/answer", "forced_direct/answer",
)  # fmt: skip


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval over runs (Student's t); the width of one run is NaN."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, student(len(values) - 1) * deviation / math.sqrt(len(values))


@dataclass(frozen=True, kw_only=True)
class Table:
    """What several runs reached: a row per stage, per column the values of the runs that have one."""

    columns: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Sequence[float]]]
    note: str

    def rows(self) -> list[list[str]]:
        """Stage, and each column as `mean ± half-width`."""
        return [[stage, *(_cell(row.get(name)) for name in self.columns)] for stage, row in self.cells.items()]

    def markdown(self) -> str:
        lines = ["| " + " | ".join(row) + " |" for row in (["stage", *self.columns], *self.rows())]
        lines.insert(1, "|" + " --- |" * (len(self.columns) + 1))
        return "\n".join([*lines, "", self.note])


def compare(
    folders: Sequence[Path], split: str, metrics: Sequence[str] = (), against: str | None = None,
    page: Path | None = None,
) -> str:  # fmt: skip
    """A Markdown table, see `table`, and where a path is given the page with the curves laid over each other."""
    found = table(folders, split, metrics, against)
    if page is None:
        return found.markdown()
    written = write_comparison(page, folders, found.columns, found.rows(), found.note)
    return f"{found.markdown()}\npage: {written}"


def table(folders: Sequence[Path], split: str, metrics: Sequence[str] = (), against: str | None = None) -> Table:
    """A row per stage, per metric the stage's last evaluation of each run.

    `tokens` are those a stage executed, in thousands (the budget of `Stage.tokens`).

    Args:
      metrics: columns; none takes the usual ones of those there are.
      against: a stage whose value in the same run is taken off the others' (its own are shown as they are), so that
        what runs have in common, as a good or a bad start, is in no interval.
    Raises: FileNotFoundError naming a folder that is no run; RunError naming the run that has no evaluation on that
      split, or not of that stage, or a metric that no stage has.
    """
    cells: dict[str, dict[str, list[float]]] = {}
    columns, known = metrics or COLUMNS, set()
    for folder in folders:
        lines = read(run_folder(folder) / "metrics.jsonl")
        last = {line["stage"]: line for line in lines if line["kind"] == "eval" and line.get("split") == split}
        if not last:
            raise RunError(f"{folder} has no evaluation on the {split} split")
        if against is not None and against not in last:
            raise RunError(f"{folder} has no stage {against!r} to compare with; there are: {', '.join(last)}")
        for stage, line in last.items():
            base = last[against] if against not in (None, stage) else {}
            row = cells.setdefault(stage, {})
            known |= {name for name in line if "/" in name and not name.endswith(("_low", "_high"))}
            tokens = [x["tokens/executed"] for x in lines if x["stage"] == stage and x["kind"] == "train"]
            row.setdefault("tokens (k)", []).append((tokens or [0])[-1] / 1000)
            for name in columns:
                if line.get(name) is not None:
                    row.setdefault(name, []).append(line[name] - (base.get(name) or 0.0))
    if absent := [name for name in metrics if name not in known]:
        raise RunError(f"no stage has the metric {absent[0]!r}; there are: {', '.join(sorted(known))}")
    shown = tuple(name for name in ("tokens (k)", *columns) if any(name in row for row in cells.values()))
    kind = f"differences from {against} in the same run; " if against else ""
    note = f"{len(folders)} runs, {split} split; {kind}± is the half-width of a 95 % interval over runs."
    return Table(columns=shown, cells=cells, note=note)


def _cell(values: Sequence[float] | None) -> str:
    if not values:
        return "–"
    mean, half = interval(values)
    return f"{mean:.3g}" if math.isnan(half) else f"{mean:.3g} ± {half:.2g}"
