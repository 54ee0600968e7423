"""Least squares where most parameters are linear: variable projection, many fits at once, with a Huber loss.

A curve is y = basis(nonlinear) @ linear. For every value of the nonlinear parameters the linear ones follow from a
linear least-squares problem, so that only the few nonlinear ones are searched: no start for the others, and no valley
between them. Fits of one design to many values (starts, bootstrap draws) are one batch of NumPy arrays.

Source: Golub and Pereyra 1973; Kaufman's Jacobian 1975; Huber 1964 by reweighting.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

HUBER = 1.345  # scales of the residual at which its weight begins to fall: 95 % efficient where noise is normal
RIDGE = 1e-12  # of the scaled normal equations


@dataclass(frozen=True, kw_only=True)
class Curve:
    """K curves of P linear and Q nonlinear parameters at X points.

    Args:
      basis: nonlinear [K Q] -> [K X P].
      slopes: nonlinear [K Q] -> [K Q X P], the basis' derivative by each nonlinear parameter.
      bounds: lowest and highest of each nonlinear parameter.
    """

    basis: Callable[[np.ndarray], np.ndarray]
    slopes: Callable[[np.ndarray], np.ndarray]
    bounds: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Fits:
    """One fit a row. `residual` is (y - fit) * weight, `cost` the Huber loss in squared scales of the residual."""

    nonlinear: Float[np.ndarray, "K Q"]
    linear: Float[np.ndarray, "K P"]
    residual: Float[np.ndarray, "K X"]
    cost: Float[np.ndarray, "K"]

    def __getitem__(self, rows) -> "Fits":
        return Fits(**{name: value[rows] for name, value in vars(self).items()})


def fit(
    curve: Curve, y: Float[np.ndarray, "K X"], weight: Float[np.ndarray, "K X"], start: Float[np.ndarray, "K Q"],
    *, rounds: int = 8, steps: int = 12,
) -> Fits:  # fmt: skip
    """Fits each row of `y` from its own start.

    Args:
      weight: of the residuals; 1 / y makes them relative.
      rounds: of reweighting; the first takes all points alike.
      steps: of Levenberg and Marquardt in each.
    """
    low, high = np.array(curve.bounds, float).T
    at, robust = np.clip(start, low, high), np.ones_like(y)
    for _ in range(rounds):
        at = _descend(curve, y, weight * np.sqrt(robust), at, low, high, steps)
        linear, residual = _project(curve.basis(at), y, weight * np.sqrt(robust))
        plain = residual / np.sqrt(robust)
        scale = _scale(plain)
        size = np.abs(plain) / scale
        robust = np.minimum(1.0, HUBER / np.maximum(size, 1e-300))
    cost = np.where(size <= HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER)).mean(axis=1) * scale[:, 0] ** 2
    return Fits(nonlinear=at, linear=linear, residual=plain, cost=cost)


def best_of(
    curve: Curve, y: Float[np.ndarray, "X"], weight: Float[np.ndarray, "X"], starts: Float[np.ndarray, "K Q"]
) -> Fits:
    """One fit, the best of those from several starts."""
    rows = lambda a: np.broadcast_to(a, (len(starts), len(a)))
    fits = fit(curve, rows(y), rows(weight), starts)
    return fits[[int(np.argmin(fits.cost))]]


def _descend(curve: Curve, y, weight, at, low, high, steps: int):
    """Damped Gauss-Newton on the projected residual; a row takes a step only where that lowers its cost."""
    damping = np.full(len(at), 1e-3)
    linear, residual = _project(curve.basis(at), y, weight)
    cost = (residual**2).sum(axis=1)
    for _ in range(steps):
        jacobian = _jacobian(curve, at, linear, weight)
        square = jacobian.transpose(0, 2, 1) @ jacobian
        size = np.einsum("kqq->kq", square)
        damped = square + (damping[:, None] * size + RIDGE * (1 + size))[:, :, None] * np.eye(at.shape[1])
        step = np.linalg.solve(damped, (jacobian.transpose(0, 2, 1) @ residual[:, :, None]))[:, :, 0]
        tried = np.clip(at + step, low, high)
        there, left = _project(curve.basis(tried), y, weight)
        lower = (left**2).sum(axis=1) < cost
        at, linear = np.where(lower[:, None], tried, at), np.where(lower[:, None], there, linear)
        residual = np.where(lower[:, None], left, residual)
        cost = (residual**2).sum(axis=1)
        damping = np.where(lower, damping * 0.2, damping * 10).clip(1e-9, 1e9)
    return at


def _project(basis, y, weight):
    """Linear parameters [K P] and what is left of the weighted values [K X]."""
    scaled = basis * weight[:, :, None]
    norm = np.sqrt((scaled**2).sum(axis=1))[:, None, :].clip(1e-300)
    scaled = scaled / norm
    square = scaled.transpose(0, 2, 1) @ scaled + RIDGE * np.eye(basis.shape[2])
    found = np.linalg.solve(square, scaled.transpose(0, 2, 1) @ (y * weight)[:, :, None])
    return found[:, :, 0] / norm[:, 0], y * weight - (scaled @ found)[:, :, 0]


def _jacobian(curve: Curve, at, linear, weight):
    """Of the fit by the nonlinear parameters [K X Q], less what the linear ones take up of it."""
    moved = np.einsum("kqnp,kp->knq", curve.slopes(at), linear) * weight[:, :, None]
    scaled = curve.basis(at) * weight[:, :, None]
    scaled = scaled / np.sqrt((scaled**2).sum(axis=1))[:, None, :].clip(1e-300)
    square = scaled.transpose(0, 2, 1) @ scaled + RIDGE * np.eye(scaled.shape[2])
    return moved - scaled @ np.linalg.solve(square, scaled.transpose(0, 2, 1) @ moved)


def _scale(residual):
    """Of each row's residuals: 1.4826 times the median size, [K 1]; never 0."""
    return np.maximum(1.4826 * np.median(np.abs(residual), axis=1, keepdims=True), 1e-12)
