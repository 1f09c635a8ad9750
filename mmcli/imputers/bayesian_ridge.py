"""Bayesian ridge regression from sums of products, many problems at once.

MacKay, Bayesian interpolation, Neural Computation 4 (1992) 415-447: weights ~ N(0, 1/lambda), noise ~ N(0, 1/alpha),
both precisions by maximising the evidence. Priors, start and stopping rule are those of scikit-learn's BayesianRidge
(Tipping 2001, appendix A), so that the two agree to float tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PRIOR = 1e-6
TOLERANCE = 1e-3
MAX_STEPS = 300


@dataclass(frozen=True)
class RidgeFit:
    """c problems with p predictors and q targets each. coef (c, q, p) and intercept (c, q); alpha and lambda_ (c, q)
    precisions of noise and weights; eigenvalues (c, p) and vectors (c, p, p) of the centred Gram matrix; n rows."""

    coef: Floats
    intercept: Floats
    alpha: Floats
    lambda_: Floats
    eigenvalues: Floats
    vectors: Floats
    x_mean: Floats
    y_mean: Floats
    n: int

    def posterior_draw(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """One draw of (coef (c, q, p), intercept (c, q)) a problem from their posterior
        N(coef, (alpha X'X + lambda I)^-1), the intercept's own error 1/(alpha n) included."""
        scale = 1 / np.sqrt(self.alpha[..., None] * self.eigenvalues[:, None] + self.lambda_[..., None])
        turned = rng.standard_normal(self.coef.shape) * scale
        coef = self.coef + turned @ self.vectors.swapaxes(-1, -2)
        error = rng.standard_normal(self.alpha.shape) / np.sqrt(self.alpha * self.n)
        return coef, self.y_mean - np.einsum("cqp,cp->cq", coef, self.x_mean) + error


def fit_ridge(x: Floats, y: Floats) -> RidgeFit:
    """Fit targets `y` (n, q), the same for all problems, on `x` (c, n, p)."""
    n = x.shape[1]
    x_mean, y_mean = x.mean(1), y.mean(0)
    x_centred, y_centred = x - x_mean[:, None], y - y_mean
    eigenvalues, vectors = np.linalg.eigh(x_centred.swapaxes(-1, -2) @ x_centred)
    eigenvalues = np.maximum(eigenvalues, 0)
    # The target's products with the eigenvectors (c, q, p): all that the evidence needs to know of the data.
    products = (y_centred.T @ x_centred) @ vectors
    power = (y_centred**2).sum(0)
    alpha = np.broadcast_to(1 / (y.var(0) + np.finfo(np.float64).eps), products.shape[:2]).copy()
    lambda_ = np.ones_like(alpha)
    active = np.ones(alpha.shape, bool)
    previous = np.zeros_like(products)
    values = eigenvalues[:, None]
    for step in range(MAX_STEPS):
        turned = products / (values + (lambda_ / alpha)[..., None])
        squared = (turned**2).sum(-1)
        sse = np.maximum(power - 2 * (turned * products).sum(-1) + (turned**2 * values).sum(-1), 0)
        gamma = (alpha[..., None] * values / (lambda_[..., None] + alpha[..., None] * values)).sum(-1)
        lambda_ = np.where(active, (gamma + 2 * PRIOR) / (squared + 2 * PRIOR), lambda_)
        alpha = np.where(active, (n - gamma + 2 * PRIOR) / (sse + 2 * PRIOR), alpha)
        if step:
            change = np.abs((turned - previous) @ vectors.swapaxes(-1, -2)).sum(-1)
            active &= change >= TOLERANCE
            if not active.any():
                break
        previous = turned
    turned = products / (values + (lambda_ / alpha)[..., None])
    coef = turned @ vectors.swapaxes(-1, -2)
    y_means = np.broadcast_to(y_mean, alpha.shape)
    intercept = y_means - np.einsum("cqp,cp->cq", coef, x_mean)
    return RidgeFit(coef, intercept, alpha, lambda_, eigenvalues, vectors, x_mean, y_means, n)
