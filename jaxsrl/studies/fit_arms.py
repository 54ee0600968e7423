"""`jaxsrl study fit curves.csv`: a sigmoid for every arm of a study, and which arm is best at which compute."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxsrl.report.html import Html, tag
from jaxsrl.report.names import number
from jaxsrl.studies import sigmoid
from jaxsrl.studies.charts import Line, plot
from jaxsrl.studies.effects import t_interval
from jaxsrl.studies.fit_file import HOW_SIGMOID, after_start, alarms_list, read_column, read_columns
from jaxsrl.studies.page import document, figure, section, table, write_whole

BUDGETS = 6  # at which arms are compared, where none are given
UNKNOWN = "not determined"
HOW_FITS = (
    HOW_SIGMOID + " All seeds of an arm are fitted together, from the mean of what they had before training. "
    "Intervals are those of these runs: they do not say how other seeds would end."
)
HOW_BEST = (
    "What each arm had at the same compute: the mean over its seeds of the evaluations on both sides of it, joined by "
    "a line. Nothing is fitted or carried on, so that an arm which did not get there has no value. Intervals are "
    "Student’s over seeds, 95 %. An arm is not told apart from the best where the interval of their difference, paired "
    "by seed, holds 0; the best was picked among all arms, and nothing is corrected for that. Compute is that of the "
    "arm’s stage alone: what was trained before it is not in it."
)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What one arm had at every evaluation: seed -> (compute, reward), by compute."""

    name: str
    seeds: dict[str, tuple[np.ndarray, np.ndarray]]

    def at(self, compute: float) -> dict[str, float]:
        """Seed -> reward at this compute, between two evaluations; seeds that did not get there are left out."""
        return {
            seed: float(np.interp(compute, own, reward))
            for seed, (own, reward) in self.seeds.items()
            if own[0] <= compute <= own[-1] * (1 + 1e-9)
        }

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute and reward of all seeds."""
        return tuple(np.concatenate(values) for values in zip(*self.seeds.values(), strict=True))


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The arms at one compute.

    Args:
      rewards: arm -> mean over seeds, low, high; the bounds are None of one seed. Arms without a value are not there.
      best: highest mean; `close` cannot be told from it.
    """

    compute: float
    rewards: dict[str, tuple[float, float | None, float | None]]
    best: str
    close: tuple[str, ...]


def arms_of(path: Path) -> tuple[str, ...]:
    """The arms that a study's `curves.csv` holds, in its order; none where the file has no such column."""
    return tuple(dict.fromkeys(read_column(path, "arm")))


def fit_arms(
    path: Path, *, out: Path | None = None, budgets: Sequence[float] = (), start: float | None = None,
    leave_out: float = 0.0, draws: int = 400,
) -> tuple[str, Path]:  # fmt: skip
    """Fits every arm of a study's `curves.csv`; writes `FILE.fit.html` and `FILE.fit.csv`. See `fit_file.fit_file`.

    Args:
      budgets: compute at which arms are compared; none takes what all arms have spent.
    Returns: what was found in words, and the page.
    Raises: ValueError naming file, line and column of what is no number.
    """
    found = [_curves(path, name) for name in arms_of(path)]
    fits, alarms = {}, []
    for curves in found:
        compute, reward, own_start = after_start(*curves.points(), start)
        try:
            fits[curves.name] = sigmoid.fit_sigmoid(
                compute, reward, start=own_start, leave_out=leave_out, draws=draws
            )  # fmt: skip
        except ValueError as error:
            alarms.append(f"{curves.name} has no curve: {error}")
    told = {one.name: _parameters(one, fits[one.name]) for one in found if one.name in fits}
    if unknown := [name for name, own in told.items() if own["A"] == UNKNOWN]:
        alarms.append(
            f"Where these end is not determined: {', '.join(unknown)}. They have not come half of the way, or hardly "
            "move against the noise."
        )
    short = [f"{name} ({fit.past_middle:.2g})" for name, fit in fits.items() if fit.past_middle < 10]
    if short := [text for text in short if text.rpartition(" ")[0] not in unknown]:
        alarms.append(f"A is mostly extrapolated where the data reach less than 10 times C_mid: {', '.join(short)}.")
    standings = [standing(found, compute) for compute in budgets or _budgets(found)]
    standings = [one for one in standings if one is not None]
    folder = out or path.parent
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{path.stem}.fit.csv", _csv(fits, standings))
    heading = tag("header", tag("p", "jaxsrl study fit", class_="kicker"),
                  tag("h1", f"{path.name}: {len(found)} arms against compute"), class_="top")  # fmt: skip
    body = tag(
        "main",
        section("fit", "Reward against compute", HOW_FITS, alarms_list(alarms), _table(fits, told),
                figure(_chart(found, fits))),
        section("best", "Which arm is best at which compute", HOW_BEST, _standings(found, standings)),
    )  # fmt: skip
    page = write_whole(folder / f"{path.stem}.fit.html", document(f"{path.name} – jaxsrl fit", heading, body))
    return _said(told, standings, alarms), page


def standing(arms: Sequence[Curves], compute: float) -> Standing | None:
    """Which of the arms is best at this compute; None where fewer than two got there."""
    values = {one.name: own for one in arms if (own := one.at(compute))}
    if len(values) < 2:
        return None
    means = {name: float(np.mean(list(own.values()))) for name, own in values.items()}
    best = max(means, key=means.__getitem__)
    rewards, close = {}, []
    for name, own in values.items():
        bounds = t_interval(list(own.values())) if len(own) > 1 else None
        rewards[name] = (means[name], bounds and bounds.low, bounds and bounds.high)
        pairs = [values[best][seed] - own[seed] for seed in own if seed in values[best]]
        if name != best and (len(pairs) < 2 or t_interval(pairs).low <= 0):
            close.append(name)
    return Standing(compute=compute, rewards=rewards, best=best, close=tuple(close))


def _parameters(curves: Curves, fit: sigmoid.SigmoidFit) -> dict[str, str]:
    """R0, A, C_mid and B in words. A is known where C_mid was passed and its interval is narrower than what was won."""
    compute, _ = curves.points()
    low, high = fit.interval(lambda curve: curve.A)
    won = abs(float(fit.curve.reward(compute.max())) - fit.curve.R0)
    own = {"R0": f"{fit.curve.R0:.3g}"}
    if fit.past_middle < 1 or high - low >= won:
        return own | dict.fromkeys(("A", "C_mid", "B"), UNKNOWN)
    own["A"] = _between(fit, "A")
    if fit.curve.C_mid < compute[compute > 0].min():
        return own | {"C_mid": "before the first evaluation", "B": UNKNOWN}
    return own | {key: _between(fit, key) for key in ("C_mid", "B")}


def _curves(path: Path, name: str) -> Curves:
    columns = read_columns(path, name)
    seeds = np.array([seed for arm, seed in zip(read_column(path, "arm"), read_column(path, "seed"), strict=True)
                      if arm == name])  # fmt: skip
    found = {}
    for seed in dict.fromkeys(seeds.tolist()):
        compute, reward = (columns[key][seeds == seed] for key in ("compute", "reward"))
        order = np.argsort(compute, kind="stable")
        found[seed] = (compute[order], reward[order])
    return Curves(name=name, seeds=found)


def _budgets(found: Sequence[Curves]) -> list[float]:
    """Before training, and then what all arms have spent: evenly in its logarithm, from their first evaluations on."""
    own = [compute for one in found for compute, _ in one.seeds.values() if (compute > 0).any()]
    if not own:
        return [0.0]
    first, last = max(c[c > 0].min() for c in own), min(c[-1] for c in own)
    if first >= last:
        first, last = min(c[c > 0].min() for c in own), max(c[-1] for c in own)
    return [*([0.0] if all(c[0] == 0 for c in own) else []), *np.geomspace(first, last, BUDGETS).tolist()]


def _table(fits: dict[str, sigmoid.SigmoidFit], told: dict[str, dict[str, str]]) -> Html:
    names = ("arm", "R0", "A", "C_mid", "B", "noise", "reaches C_mid")
    rows = [
        (
            name,
            *told[name].values(),
            f"{fit.noise:.3g}",
            "–" if UNKNOWN in told[name].values() else f"{fit.past_middle:.2g} times",
        )
        for name, fit in fits.items()
    ]
    return table(names, rows, names[1:])


def _between(fit: sigmoid.SigmoidFit, key: str) -> str:
    low, high = fit.interval(lambda curve: getattr(curve, key))
    return f"{getattr(fit.curve, key):.3g} ({low:.3g} to {high:.3g})"


def _chart(found: Sequence[Curves], fits: dict[str, sigmoid.SigmoidFit]) -> Html:
    lines = []
    for i, one in enumerate(found):
        compute, reward = one.points()
        order = np.argsort(compute, kind="stable")
        order = order[compute[order] > 0]
        fit = fits.get(one.name)
        through = (lambda c, fit=fit: float(fit.curve.reward(c))) if fit else None
        lines.append(Line(name=one.name, index=i, x=compute[order].tolist(), y=reward[order].tolist(), through=through))
    return plot("Reward", "compute, FLOPs", "reward", lines, log_x=True)


def _standings(found: Sequence[Curves], standings: Sequence[Standing]) -> Html:
    names = ("compute", "best", "not told apart from it", *(one.name for one in found))
    rows = []
    for one in standings:
        told = [_reward(one.rewards.get(arm.name), best=arm.name == one.best) for arm in found]
        close = tag("span", ", ".join(one.close) or "–", style="display: inline-block; min-width: 11rem")
        rows.append((f"{one.compute:.2e}", one.best, close, *told))
    return table(names, rows, names[3:])


def _reward(value: tuple[float, float | None, float | None] | None, best: bool) -> Html | str:
    if value is None:
        return "–"
    mean, low, high = value
    told = number(mean) if low is None else f"{number(mean)} ({number(low)} to {number(high)})"
    return tag("b", told) if best else told


def _said(told: dict[str, dict[str, str]], standings: Sequence[Standing], alarms: Sequence[str]) -> str:
    lines = [f"{name}: R0 {own['R0']}  A {own['A']}  C_mid {own['C_mid']}" for name, own in told.items()]
    for one in standings:
        close = f"; not told apart: {', '.join(one.close)}" if one.close else ""
        lines.append(f"at {one.compute:.2e} FLOPs: {one.best} with {one.rewards[one.best][0]:.3g}{close}")
    return "\n".join([*lines, *(f"warning: {text}" for text in alarms)])


def _csv(fits: dict[str, sigmoid.SigmoidFit], standings: Sequence[Standing]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("arm", "number", "value", "low", "high"))
    for name, fit in fits.items():
        for key in ("R0", "A", "C_mid", "B"):
            of = lambda curve, key=key: getattr(curve, key)
            writer.writerow((name, key, of(fit.curve), *fit.interval(of)))
    for one in standings:
        for name, value in one.rewards.items():
            writer.writerow((name, f"reward at {one.compute:.6g} FLOPs", *("" if v is None else v for v in value)))
    return out.getvalue()
