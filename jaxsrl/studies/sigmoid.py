"""Reward against compute, R0 + (A - R0) / (1 + (C_mid / C)^B): where a recipe of RL ends, and how fast it gets there.

Source: ScaleRL, arXiv:2510.13786.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxsrl.studies.varpro import Curve, best_of, fit

SLOPES = (0.1, 8.0)


@dataclass(frozen=True, kw_only=True)
class Sigmoid:
    """R0 is where it starts, A what it tends to, C_mid the compute at which half of that is won, B how steep it is."""

    R0: float
    A: float
    C_mid: float
    B: float

    def reward(self, compute):
        return self.R0 + (self.A - self.R0) / (1 + (self.C_mid / np.asarray(compute, float)) ** self.B)


@dataclass(frozen=True, kw_only=True)
class SigmoidFit:
    curve: Sigmoid
    draws: tuple[Sigmoid, ...]
    noise: float  # standard deviation of a value around the curve, in the reward's unit
    past_middle: float  # largest compute over C_mid: below about 10, A is mostly extrapolated

    def interval(self, of, level: float = 0.95) -> tuple[float, float]:
        """Of any number that a curve gives, as `lambda curve: curve.A`: percentiles of the draws."""
        return tuple(np.quantile([of(one) for one in self.draws], ((1 - level) / 2, (1 + level) / 2)).tolist())


def fit_sigmoid(
    compute: Float[np.ndarray, "X"], reward: Float[np.ndarray, "X"], *, start: float | None = None,
    leave_out: float = 0.0, draws: int = 400, seed: int = 0,
) -> SigmoidFit:  # fmt: skip
    """Fits held-out rewards with a Huber loss.

    Args:
      start: R0, where it is known: the reward before training. None fits it.
      leave_out: compute below which values are not used: the curve holds after warm-up only.
    Raises: ValueError where too few values are left.
    """
    compute, reward = np.asarray(compute, float), np.asarray(reward, float)
    if not np.all(np.isfinite(compute) & (compute > 0)) or not np.all(np.isfinite(reward)):
        raise ValueError("compute must be above 0, and compute and reward finite, at every point")
    kept = compute >= leave_out
    compute, reward = compute[kept], reward[kept]
    free = 4 if start is None else 3
    if len(set(compute)) < free + 2:
        raise ValueError(f"{free} parameters need {free + 2} values of compute, and {len(set(compute))} are left")
    y = reward if start is None else reward - start
    logs = np.log(compute)
    curve, even = _curve(logs, fixed=start is not None), np.ones_like(y)
    middles = np.linspace(logs.min(), logs.max(), 5)
    found = best_of(curve, y, even, np.array([(middle, slope) for middle in middles for slope in (0.5, 1.0, 2.0)]))
    own = _sigmoid(found.nonlinear[0], found.linear[0], start)
    fitted, count = own.reward(compute), len(y)
    residual = reward - fitted
    noise = float(np.sqrt((residual**2).sum() / (count - free)))
    wider = (residual - residual.mean()) * (count / (count - free)) ** 0.5
    picked = np.random.default_rng(seed).integers(count, size=(draws, count))
    again = fit(
        curve, fitted + wider[picked] - (start or 0.0), np.ones((draws, count)),
        np.repeat(found.nonlinear, draws, axis=0), rounds=5, steps=10,
    )  # fmt: skip
    others = tuple(_sigmoid(again.nonlinear[i], again.linear[i], start) for i in range(draws))
    return SigmoidFit(curve=own, draws=others, noise=noise, past_middle=float(compute.max() / own.C_mid))


def extrapolation(compute, reward, **settings) -> tuple[float, float] | None:
    """(error of a curve fitted to the first half of the values, error of carrying on the last of them), on the rest.

    Errors are root mean squares, in the reward's unit. None where the first half is too small to be fitted.
    """
    order = np.argsort(compute, kind="stable")
    compute, reward = np.asarray(compute, float)[order], np.asarray(reward, float)[order]
    half = len(order) // 2
    try:
        found = fit_sigmoid(compute[:half], reward[:half], draws=1, **settings).curve
    except ValueError:
        return None
    error = lambda guess: float(np.sqrt(np.mean((guess - reward[half:]) ** 2)))
    return error(found.reward(compute[half:])), error(reward[half - 1])


def _curve(logs: np.ndarray, *, fixed: bool) -> Curve:
    """R0 (1 - s) + A s with s = 1 / (1 + exp(B (log C_mid - log C))): R0 and A are linear."""

    def share(at):
        return 1 / (1 + np.exp(np.clip(at[:, 1:] * (at[:, :1] - logs), -700, 700)))

    def columns(of):
        return of[:, :, None] if fixed else np.stack([-of, of], axis=2)

    def basis(at):
        own = share(at)
        return own[:, :, None] if fixed else np.stack([1 - own, own], axis=2)

    def slopes(at):
        own = share(at)
        bend = own * (1 - own)
        return np.stack([columns(-bend * at[:, 1:]), columns(-bend * (at[:, :1] - logs))], axis=1)

    span = (logs.min() - 5.0, logs.max() + 5.0)
    return Curve(basis=basis, slopes=slopes, bounds=(span, SLOPES))


def _sigmoid(nonlinear, linear, start: float | None) -> Sigmoid:
    R0, A = (float(linear[0]), float(linear[1])) if start is None else (start, start + float(linear[0]))
    return Sigmoid(R0=R0, A=A, C_mid=float(np.exp(nonlinear[0])), B=float(nonlinear[1]))
