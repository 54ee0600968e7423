"""Whether two runs that should be one run are: a member of a population, and the same config trained alone."""

from dataclasses import dataclass
from pathlib import Path

from jaxsrl.metrics import read
from jaxsrl.runs import run_folder


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two runs are the same.

    Args:
      first: (stage, optimizer step) of the first completion that differs; None where all are equal.
      rollouts: completions that both have; `equal`: of these, those of one text and length.
      loss: largest difference of a logged loss up to the step before `first`.
    """

    first: tuple[str, int] | None
    rollouts: int
    equal: int
    loss: float

    def __str__(self) -> str:
        said = f"losses differ by at most {self.loss:.2g}"
        if self.first is None:
            return f"{self.rollouts} completions, all equal; {said}"
        stage, step = self.first
        return (
            f"{self.equal} of {self.rollouts} completions are equal, the first that is not is of stage {stage}, step "
            f"{step}; {said} before it"
        )


def agreement(one: Path, other: Path) -> Agreement:
    """Compares what two run folders say of completions and losses.

    Raises: FileNotFoundError where one is no run folder; ValueError where they have not taken the same steps.
    """
    lines = [read(run_folder(folder) / "metrics.jsonl") for folder in (one, other)]
    trained = [{(x["stage"], x["step"]): x for x in part if x["kind"] == "train"} for part in lines]
    if list(trained[0]) != list(trained[1]):
        least, most = sorted((len(part), folder) for part, folder in zip(trained, (one, other), strict=True))
        raise ValueError(
            f"{least[1]} has {least[0]} optimizer steps, {most[1]} has {most[0]}, or of other stages: only runs of one "
            "config that are equally far can be compared"
        )
    first, total, equal = None, 0, 0
    for stage in dict.fromkeys(stage for stage, _ in trained[0]):
        for a, b in zip(*(_rollouts(folder, stage) for folder in (one, other)), strict=True):
            same, total = all(a[name] == b[name] for name in ("completion", "tokens")), total + 1
            equal += same
            first = first if same or first is not None else (stage, a["step"])
    before = list(trained[0]).index(first) if first is not None else len(trained[0])
    pairs = [(trained[0][at].get("loss"), trained[1][at].get("loss")) for at in list(trained[0])[:before]]
    loss = max((abs(a - b) for a, b in pairs if a is not None and b is not None), default=0.0)
    return Agreement(first=first, rollouts=total, equal=equal, loss=loss)


def _rollouts(folder: Path, stage: str) -> list[dict]:
    """In one order, whatever the order of their lines."""
    path = folder / "rollouts" / f"{stage}.jsonl"
    lines = read(path) if path.exists() else []
    return sorted(lines, key=lambda x: (x["step"], x["demonstration"], x["branch"], x["group"], x["sample"]))
