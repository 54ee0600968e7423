"""`jaxsrl study scale LADDER.py`: trains a ladder of sizes, fits what they reached, and draws it."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from jaxsrl.config.run import Config, ConfigError
from jaxsrl.metrics import read
from jaxsrl.policy import Compiled
from jaxsrl.stages.begin import Prepared, prepare
from jaxsrl.studies.cost import Useful
from jaxsrl.studies.fit_file import fit_file, read_columns
from jaxsrl.studies.ladder import Ladder, Rung, arm_name, as_study, by_point, rungs
from jaxsrl.studies.plan import read_plan
from jaxsrl.studies.run import queue_of, run
from jaxsrl.studies.scaling import Points, fit_law, parabolas
from jaxsrl.studies.study import study_folder

POINTS = "points.csv"


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What a size came to at a budget, at the best of its learning rates.

    Args:
      tokens: D, as executed; loss: nats a token, mean over seeds of the last steps.
      edge: whether the best rate is the smallest or largest tried: a better one may lie beyond.
      runs: folders, one a seed.
    """

    params: int
    tokens: float
    loss: float
    flops: float
    lr: float
    edge: bool
    runs: tuple[Path, ...]


def scale(
    ladder: Ladder, useful: Useful, stop: Callable[[], bool], *, only_plan: bool = False,
    say: Callable[[str], None] = print, compiled: Compiled | None = None, draws: int = 400,
) -> Path | None:  # fmt: skip
    """Trains the runs that are missing, as a study of that name, then writes points, fit and figures into its folder.

    Any number of processes may be given one ladder: they share its runs.

    Args:
      only_plan, compiled: see `run.run`; draws: see `fit_file`.
    Returns: the page, or the points where they follow no law; None where runs are missing still.
    Raises: ConfigError where a run of the ladder cannot be.
    """
    compiled = compiled or Compiled()
    prepared = prepare(ladder.base, compiled)
    planned = rungs(ladder, prepared, useful)
    study = as_study(ladder, planned)

    run(study, useful, stop, only_plan=only_plan, say=say, compiled=compiled, prepared_by=of_sizes(prepared))
    if only_plan:
        return None
    folder = study_folder(study)
    found, missing = reached(folder, ladder, planned)
    if missing:
        say(f"{len(missing)} of {len(planned)} runs are missing, such as {missing[0]}; the same command goes on")
        return None
    edges = _edges(found)
    write_points(folder / POINTS, found)
    try:
        said, page = fit_file(folder / POINTS, draws=draws, title=f"{ladder.name}: {study.question}", notes=edges)
    except ValueError as error:  # what was trained stands, whatever it shows
        say("\n".join([f"warning: no law: {error}", *(f"warning: {text}" for text in edges)]))
        return folder / POINTS
    say("\n".join([said, *(f"warning: {text}" for text in edges)]))
    if picture := draw(folder / POINTS):
        say(str(picture))
    else:
        say("no PNG, as matplotlib is not installed; the page has the same figures")
    return page


def _edges(found: Sequence[Reached]) -> list[str]:
    """One line on the points whose best rate may not be the best there is; `points.csv` marks them."""
    edge = [one for one in found if one.edge]
    if not edge:
        return []
    places = "; ".join(f"{one.params} parameters at {one.flops:.2g} FLOPs, {one.lr:.2g}" for one in edge[:3])
    return [
        f"At {len(edge)} of {len(found)} points the best rate is the edge of those tried ({places}"
        f"{', …' if len(edge) > 3 else ''}): widen `rates`"
    ]


def of_sizes(prepared: Prepared) -> Callable[[Config], Prepared]:
    """What prepares configs that differ in their model alone: the data are read once."""

    def of_size(config: Config) -> Prepared:
        model = replace(config.model, vocab=prepared.material.model.vocab)
        return replace(prepared, material=replace(prepared.material, model=model))

    return of_size


def reached(folder: Path, ladder: Ladder, planned: Sequence[Rung]) -> tuple[list[Reached], list[str]]:
    """The points of the ladder, and the runs that are not done."""
    places, missing = finished(folder, [arm_name(rung) for rung in planned])
    if missing:
        return [], missing
    ends = {name: [(*end_of(place, ladder.last), place) for place in own] for name, own in places.items()}
    return [_best(params, own, ends) for (params, _), own in by_point(planned).items()], []


def finished(folder: Path, arms: Sequence[str]) -> tuple[dict[str, list[Path]], list[str]]:
    """Run folders of these arms of a study, in the order of their seeds, and the runs that are not done."""
    cells, queue, missing = read_plan(folder)["arms"], queue_of(folder), []
    places: dict[str, list[Path]] = {}
    for name in arms:
        for seed, cell in cells[name]["cells"].items():
            state = queue.state(cell)
            if state.kind == "done":
                places.setdefault(name, []).append(queue.folder / cell / state.result["folder"])
            else:
                missing.append(f"{name} seed {seed} ({state.kind})")
    return places, missing


def end_of(folder: Path, last: float) -> tuple[float, float]:
    """(loss over the last share of the steps, nats a token; tokens executed) of a run."""
    lines = last_steps(folder, last)
    losses = [x["loss"] for x in lines if x["loss"] is not None]
    if not losses:
        raise ConfigError(f"{folder} has no loss over its last steps: it did not train, or diverged")
    return mean(losses), float(lines[-1]["tokens/executed"])


def last_steps(folder: Path, last: float) -> list[dict[str, Any]]:
    """What a run of one stage logged of the last share of its steps; one at least, where it logged any."""
    lines = [x for x in read(folder / "metrics.jsonl") if x["kind"] == "train"]
    return lines[-max(round(last * len(lines)), 1) :]


def _best(params: int, own: Sequence[Rung], ends: Mapping[str, Sequence[tuple[float, float, Path]]]) -> Reached:
    loss = {rung.rate: mean(value for value, _, _ in ends[arm_name(rung)]) for rung in own}
    best = min(own, key=lambda rung: loss[rung.rate])
    runs = ends[arm_name(best)]
    return Reached(
        params=params, tokens=mean(tokens for _, tokens, _ in runs), loss=loss[best.rate], flops=best.budget,
        lr=best.lr, edge=len(own) > 1 and best.rate in (min(loss), max(loss)), runs=tuple(place for *_, place in runs),
    )  # fmt: skip


def write_points(path: Path, found: Sequence[Reached]) -> None:
    """One point a line, with the folders of its runs, relative to the file's."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("params", "tokens", "loss", "budget", "lr", "edge", "runs"))
        for one in found:
            places = " ".join(place.relative_to(path.parent).as_posix() for place in one.runs)
            writer.writerow((one.params, one.tokens, one.loss, one.flops, one.lr, one.edge, places))


def draw(path: Path) -> Path | None:
    """Loss and best size against compute, as FILE.png; None without matplotlib (extra `figures`)."""
    if find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    points = Points(**read_columns(path))
    law = fit_law(points, draws=1).law
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for size in sorted(set(points.params.tolist())):
        rows = np.flatnonzero(points.params == size)
        rows = rows[np.argsort(points.flops[rows])]
        left.plot(points.flops[rows], points.loss[rows], "o", label=f"{size:.3g} parameters", markersize=4)
        left.plot(points.flops[rows], law.loss(size, points.tokens[rows]), "-", color="0.7", zorder=0)
    left.set(xscale="log", yscale="log", xlabel="FLOPs (6 N D)", ylabel="loss, nats a token")
    left.legend(fontsize=7)
    budgets = np.geomspace(points.flops.min(), points.flops.max() * 10, 50)
    right.plot(budgets, law.best(budgets)[0], label=f"law, N* ~ C^{law.exponent:.2f}")
    if least := parabolas(points):
        right.plot(*zip(*least, strict=True), "o", label="parabolas")
    right.set(xscale="log", yscale="log", xlabel="FLOPs", ylabel="best size, parameters")
    right.legend(fontsize=7)
    out = path.with_suffix(".png")
    figure.savefig(out, dpi=150)
    return out
