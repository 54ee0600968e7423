"""`jaxsrl study transfer FILE.py`: trains every size at every learning rate, and says whether a rate transfers."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

import numpy as np
from jaxtyping import Float

from jaxsrl.models.config import ModelConfig
from jaxsrl.policy import Compiled
from jaxsrl.report.html import Html, tag
from jaxsrl.stages.begin import prepare
from jaxsrl.studies.charts import Line, plot
from jaxsrl.studies.cost import Useful
from jaxsrl.studies.effects import Interval
from jaxsrl.studies.page import document, figure, section, table, write_whole
from jaxsrl.studies.run import run
from jaxsrl.studies.scale import finished, last_steps, of_sizes
from jaxsrl.studies.study import study_folder
from jaxsrl.studies.transfer import QUESTION, Axis, Moved, Optimum, Transfer, arm_name, as_study, moved, optimum

HOW = (
    "Every size takes the same steps on the same batches at every learning rate. The optimum is the minimum of a "
    "parabola in log lr through the losses around the best rate, of each seed. Its interval is over seeds, as is that "
    "of the power law through the optima, which every seed has of its own."
)
Losses = Mapping[ModelConfig, Float[np.ndarray, "S R"]]
AXES: tuple[Axis, ...] = ("width", "layers")


def transfer(
    sweep: Transfer, useful: Useful, stop: Callable[[], bool], *, only_plan: bool = False,
    say: Callable[[str], None] = print, compiled: Compiled | None = None,
) -> Path | None:  # fmt: skip
    """Trains the runs that are missing, as a study of that name, then writes losses, verdict and figures.

    Any number of processes may be given one sweep: they share its runs.

    Args:
      only_plan, compiled: see `run.run`.
    Returns: the page; None where runs are missing still.
    Raises: ConfigError where a run of the sweep cannot be.
    """
    sweep = replace(sweep, rates=tuple(sorted(sweep.rates)))
    compiled = compiled or Compiled()
    study = as_study(sweep)
    prepared = prepare(sweep.base, compiled)
    run(study, useful, stop, only_plan=only_plan, say=say, compiled=compiled, prepared_by=of_sizes(prepared))
    if only_plan:
        return None
    folder = study_folder(study)
    places, missing = finished(folder, [arm.name for arm in study.arms])
    if missing:
        say(f"{len(missing)} runs are missing, such as {missing[0]}; the same command goes on")
        return None
    return write_transfer(folder, sweep, places, say)


def write_transfer(
    folder: Path, sweep: Transfer, places: Mapping[str, list[Path]], say: Callable[[str], None] = print
) -> Path:
    """Writes `transfer.csv`, `transfer.html` and, with matplotlib, `transfer.png`. Returns the page.

    Args:
      places: arm -> its run folders, in the order of the seeds.
    """
    at = lambda size, rate: [loss_of(place, sweep.last) for place in places[arm_name(size, rate)]]
    losses = {
        size: np.array([at(size, rate) for rate in sweep.rates]).T
        for size in dict.fromkeys((*sweep.widths, *sweep.depths))
    }
    write_whole(folder / "transfer.csv", losses_csv(folder, sweep, losses, places))
    found = [verdict(sweep, axis, losses) for axis in AXES if sweep.sizes(axis)]
    for one in found:
        say(one.words)
    if picture := draw(folder / "transfer.png", sweep, losses, found):
        say(str(picture))
    else:
        say("no PNG, as matplotlib is not installed; the page has the same figures")
    heading = tag("header", tag("p", "jaxsrl study transfer", class_="kicker"), tag("h1", QUESTION), class_="top")
    body = tag("main", *(_section(folder, sweep, one, losses, places) for one in found))
    return write_whole(folder / "transfer.html", document(f"{sweep.name} – jaxsrl study", heading, body))


def loss_of(folder: Path, last: float) -> float:
    """Mean loss over the last share of the steps, nats a token; infinite where one of them has none: it diverged."""
    losses = [line["loss"] for line in last_steps(folder, last)]
    return mean(losses) if losses and None not in losses else np.inf


def verdict(sweep: Transfer, axis: Axis, losses: Losses) -> Moved:
    sizes = sweep.sizes(axis)
    return moved(
        axis, [vars(size)[axis] for size in sizes], np.array(sweep.rates),
        {vars(size)[axis]: losses[size] for size in sizes}, near=sweep.near, tolerance=sweep.tolerance,
    )  # fmt: skip


def losses_csv(folder: Path, sweep: Transfer, losses: Losses, places: Mapping[str, list[Path]]) -> str:
    """One run a line, with its folder, relative to the study's."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("width", "layers", "lr", "seed", "loss", "run"))
    for size, found in losses.items():
        for rate, column in zip(sweep.rates, found.T, strict=True):
            runs = places[arm_name(size, rate)]
            for seed, loss, place in zip(sweep.seeds, column, runs, strict=True):
                writer.writerow((size.width, size.layers, rate, seed, loss, place.relative_to(folder).as_posix()))
    return out.getvalue()


def _section(folder: Path, sweep: Transfer, found: Moved, losses: Losses, places: Mapping[str, list[Path]]) -> Html:
    axis, sizes = found.axis, sweep.sizes(found.axis)
    best = {size: optimum(np.array(sweep.rates), losses[size], sweep.near) for size in sizes}
    rows = [(vars(size)[axis], _told(best[size].rate), best[size].why) for size in sizes]
    lines = [
        Line(name=f"{axis} {vars(size)[axis]}", index=i, **_curve(folder, sweep, size, losses, places))
        for i, size in enumerate(sizes) if np.isfinite(losses[size].mean(axis=0)).any()
    ]  # fmt: skip
    chart = plot("Loss over learning rate", "learning rate", "loss, nats a token", lines, log_x=True, log_y=True)
    line = _optima(axis, best, found)
    optima = (
        figure(plot(f"Best rate over {axis}", axis, "learning rate", [line], log_x=True, log_y=True)) if line else None
    )
    return section(
        axis, f"Along {'width' if axis == 'width' else 'depth'}", HOW, tag("p", found.words, class_="lead"),
        figure(chart), table((axis, "best rate (95 % interval)", ""), rows, ("best rate (95 % interval)",)), optima,
    )  # fmt: skip


def _told(rate: Interval | None) -> str:
    return "none" if rate is None else f"{rate.value:.3g} ({rate.low:.3g} to {rate.high:.3g})"


def _curve(folder: Path, sweep: Transfer, size: ModelConfig, losses: Losses, places) -> dict:
    """Mean over seeds at the rates that did not diverge; a point leads to its first seed's report."""
    middle = losses[size].mean(axis=0)
    kept = [i for i, value in enumerate(middle) if np.isfinite(value)]
    first = [places[arm_name(size, sweep.rates[i])][0].relative_to(folder).as_posix() for i in kept]
    return {"x": [sweep.rates[i] for i in kept], "y": [float(middle[i]) for i in kept],
            "links": [f"{place}/report.html" for place in first]}  # fmt: skip


def _optima(axis: Axis, best: Mapping[ModelConfig, Optimum], found: Moved) -> Line | None:
    known = [(vars(size)[axis], one.rate) for size, one in best.items() if one.rate is not None]
    if not known or found.exponent is None:
        return None
    x, y = [size for size, _ in known], [rate.value for _, rate in known]
    return Line(name="optimum, 95 % band", index=0, x=x, y=y, through=_law(x, y, found.exponent.value),
                low=[rate.low for _, rate in known], high=[rate.high for _, rate in known])  # fmt: skip


def _law(sizes: list[int], rates: list[float], exponent: float) -> Callable[[float], float]:
    """The power through the middle of the optima."""
    at, level = np.log(sizes).mean(), np.log(rates).mean()
    return lambda size: float(np.exp(level - exponent * (np.log(size) - at)))


def draw(path: Path, sweep: Transfer, losses: Losses, found: list[Moved]) -> Path | None:
    """A row of two figures an axis: loss over rate, best rate over size; None without matplotlib (extra `figures`)."""
    if find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9, 4 * len(found)), layout="constrained")
    places = picture.subplots(len(found), 2, squeeze=False)
    for (left, right), one in zip(places, found, strict=True):
        best = {size: optimum(np.array(sweep.rates), losses[size], sweep.near) for size in sweep.sizes(one.axis)}
        for size, lowest in best.items():
            middle = losses[size].mean(axis=0)
            (line,) = left.plot(sweep.rates, middle, "o-", markersize=4, label=f"{one.axis} {vars(size)[one.axis]}")
            if lowest.rate is not None:
                left.axvspan(lowest.rate.low, lowest.rate.high, color=line.get_color(), alpha=0.12)
        left.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="loss, nats a token")
        left.legend(fontsize=7, framealpha=0.8)
        right.set(xscale="log", yscale="log", xlabel=one.axis, ylabel="best learning rate")
        if line := _optima(one.axis, best, one):
            off = [np.subtract(line.y, line.low), np.subtract(line.high, line.y)]
            right.errorbar(line.x, line.y, off, fmt="o", capsize=3)
            right.plot(line.x, [line.through(x) for x in line.x], color="0.6", zorder=0,
                       label=f"{one.axis}^{-one.exponent.value:.2f}")  # fmt: skip
            right.legend(fontsize=7)
            right.set_xticks(line.x, [str(x) for x in line.x])
            right.set_xticks([], minor=True)
    picture.savefig(path, dpi=150)
    return path
