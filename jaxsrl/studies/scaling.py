"""Loss against parameters and tokens, L(N, D) = E + A / N^alpha + B / D^beta, and what it says of a budget."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxsrl.studies.varpro import Curve, Fits, best_of, fit

FLOPS = 6.0  # a parameter and token, forward and backward
EXPONENTS = (0.02, 2.0)
STARTS = np.array([(a, b) for a in (0.2, 0.4, 0.7) for b in (0.2, 0.4, 0.7)])
NAMES = ("E", "log A", "log B", "alpha", "beta")


@dataclass(frozen=True, kw_only=True)
class Law:
    """E is the loss that no size and no data reach below; N in parameters, D in tokens, loss in nats a token."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, params, tokens):
        return self.E + self.A * np.power(params, -self.alpha) + self.B * np.power(tokens, -self.beta)

    @property
    def exponent(self) -> float:
        """a of N* ~ C^a: how a growing budget should be split."""
        return self.beta / (self.alpha + self.beta)

    def best(self, flops):
        """(N*, D*) of a budget C = 6 N D.

        Source: Hoffmann et al., arXiv:2203.15556 eq. 4.
        """
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        return ratio * (flops / FLOPS) ** self.exponent, (flops / FLOPS) ** (1 - self.exponent) / ratio

    def vector(self) -> np.ndarray:
        """In the order of NAMES."""
        return np.array([self.E, np.log(self.A), np.log(self.B), self.alpha, self.beta])


@dataclass(frozen=True, kw_only=True)
class Points:
    """One trained model a point."""

    params: Float[np.ndarray, "X"]
    tokens: Float[np.ndarray, "X"]
    loss: Float[np.ndarray, "X"]

    def __post_init__(self):
        for name, values in vars(self).items():
            if not np.all(np.isfinite(values) & (values > 0)):
                raise ValueError(f"{name} must be finite and above 0 at every point, got {values.min():g}")
        if len(self.loss) < 8 or len(set(self.params)) < 3 or len(set(self.tokens)) < 3:
            raise ValueError(
                f"5 parameters need 8 points or more, of 3 sizes and 3 token counts: got {len(self.loss)} points, "
                f"{len(set(self.params))} sizes, {len(set(self.tokens))} token counts"
            )

    @property
    def flops(self) -> np.ndarray:
        return FLOPS * self.params * self.tokens

    def taken(self, rows) -> "Points":
        return Points(params=self.params[rows], tokens=self.tokens[rows], loss=self.loss[rows])


@dataclass(frozen=True, kw_only=True)
class LawFit:
    """A law with laws fitted to bootstrap draws of its residuals; `noise` is their relative standard deviation."""

    law: Law
    draws: tuple[Law, ...]
    noise: float
    residual: Float[np.ndarray, "X"]

    def interval(self, of, level: float = 0.95) -> tuple[float, float]:
        """Of any number that a law gives, as `lambda law: law.alpha`: percentiles of the draws."""
        return tuple(np.quantile([of(law) for law in self.draws], ((1 - level) / 2, (1 + level) / 2)).tolist())


def fit_law(points: Points, *, draws: int = 400, seed: int = 0) -> LawFit:
    """Fits the law to relative residuals with a Huber loss.

    Bootstrap draws are the fit with residuals drawn anew, widened by sqrt(n / (n - 5)) for the parameters that they
    were fitted with.

    Raises: ValueError where the points do not determine it: a size or token term is missing.
    """
    curve = _curve(points)
    found = best_of(curve, points.loss, 1 / points.loss, STARTS)
    law = _law(points, found)
    if not (law.A > 0 and law.B > 0):
        raise ValueError(
            f"the points show no loss that falls with {'parameters' if law.A <= 0 else 'tokens'}: the range is too "
            "narrow for the noise, or other settings changed along it"
        )
    fitted, count = law.loss(points.params, points.tokens), len(points.loss)
    residual = (points.loss - fitted) / fitted
    noise = float(np.sqrt((residual**2).sum() / (count - 5)))
    wider = (residual - residual.mean()) * (count / (count - 5)) ** 0.5
    picked = np.random.default_rng(seed).integers(count, size=(draws, count))
    y = fitted * (1 + wider[picked])
    again = fit(curve, y, 1 / y, np.repeat(found.nonlinear, draws, axis=0), rounds=5, steps=8)
    laws = tuple(_law(points, again[[i]]) for i in range(draws))
    return LawFit(law=law, draws=tuple(one for one in laws if one.A > 0 and one.B > 0), noise=noise, residual=residual)


def cramer_rao(law: Law, params: np.ndarray, tokens: np.ndarray, noise: float) -> np.ndarray:
    """Smallest standard deviation that an unbiased fit of NAMES can have on this design, relative normal noise.

    What a ladder will show can be read from it before the first run.
    """
    small, few = law.A * params**-law.alpha, law.B * tokens**-law.beta
    slopes = np.stack(
        [np.ones_like(small), small, few, -small * np.log(params), -few * np.log(tokens)], axis=1
    ) / law.loss(params, tokens)[:, None]  # fmt: skip
    return noise * np.sqrt(np.diag(np.linalg.inv(slopes.T @ slopes)))


def parabolas(points: Points, tolerance: float = 0.02) -> list[tuple[float, float]]:
    """(C, N*) by a parabola in log N through the losses of each budget, shown beside the law: it is biased even without
    noise, as the law's own curve is no parabola.

    Args:
      tolerance: budgets that differ by less, as a share, are one. Those with fewer than 4 sizes, or whose parabola has
        no minimum within them, are left out.
    """
    order = np.argsort(points.flops)
    groups = np.split(order, np.flatnonzero(np.diff(np.log(points.flops[order])) > tolerance) + 1)
    found = []
    for rows in groups:
        size = np.log(points.params[rows])
        if len(set(size)) < 4:
            continue
        middle = size.mean()
        bend, slope, _ = np.polyfit(size - middle, points.loss[rows], 2)
        least = middle - slope / (2 * bend) if bend > 0 else np.inf
        if size.min() <= least <= size.max():
            found.append((float(np.exp(np.log(points.flops[rows]).mean())), float(np.exp(least))))
    return found


def extrapolation(points: Points) -> tuple[float, float] | None:
    """(error of a law fitted to the lower half of the budgets, error of carrying on their best loss), on the rest.

    Errors are root mean squares of relative differences. None where the lower half is too small to be fitted.
    """
    order = np.argsort(points.flops, kind="stable")
    half = len(order) // 2
    try:
        found = fit_law(points.taken(order[:half]), draws=1).law
    except ValueError:
        return None
    params, tokens, loss = (getattr(points, name)[order[half:]] for name in ("params", "tokens", "loss"))
    error = lambda guess: float(np.sqrt(np.mean(((guess - loss) / loss) ** 2)))
    return error(found.loss(params, tokens)), error(points.loss[order[:half]].min())


def _curve(points: Points) -> Curve:
    """Sizes and tokens are taken relative to their geometric means, so that columns are of one size."""
    size, data = _relative(points.params), _relative(points.tokens)

    def powers(at):
        return np.exp(-at[:, :1] * size), np.exp(-at[:, 1:] * data)

    def basis(at):
        small, few = powers(at)
        return np.stack([np.ones_like(small), small, few], axis=2)

    def slopes(at):
        small, few = powers(at)
        none = np.zeros_like(small)
        by_alpha, by_beta = np.stack([none, -size * small, none], 2), np.stack([none, none, -data * few], 2)
        return np.stack([by_alpha, by_beta], axis=1)

    return Curve(basis=basis, slopes=slopes, bounds=(EXPONENTS, EXPONENTS))


def _relative(values: np.ndarray) -> np.ndarray:
    return np.log(values) - np.log(values).mean()


def _law(points: Points, fits: Fits) -> Law:
    (alpha, beta), (rest, small, few) = fits.nonlinear[0], fits.linear[0]
    scale = lambda values, exponent: float(np.exp(exponent * np.log(values).mean()))
    return Law(
        E=float(rest), A=float(small) * scale(points.params, alpha), B=float(few) * scale(points.tokens, beta),
        alpha=float(alpha), beta=float(beta),
    )  # fmt: skip
