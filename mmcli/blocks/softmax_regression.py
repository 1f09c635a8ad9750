"""Logistic regression: a linear layer that is fitted to convergence instead of trained in steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

STRENGTHS = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]  # C
Floats = NDArray[np.float64]


class SoftmaxRegression(nn.Module):
    """log p(y = k | x) up to a constant: w_k x + b_k, with an L2 penalty (scikit-learn's LogisticRegression).

    C is the best of `STRENGTHS` by the log loss of a stratified inner cross validation; columns are standardised by the
    rows of the fit. Buffers: weight (K, p), bias (K,), `fitted` (false where there was no row to fit to).
    """

    weight: Tensor
    bias: Tensor
    fitted: Tensor

    def __init__(self, columns: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, columns, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(classes, dtype=torch.float64))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """(n, p) to logits (n, K), float64."""
        return x.double() @ self.weight.T + self.bias

    def fit(self, x: Floats, y: NDArray[np.int64], folds: int, seed: int, balanced: bool) -> None:
        """Fit to rows `x` (n, p) and classes `y` (n,). A class without a row gets the odds 1 : n."""
        classes, counts = np.unique(y, return_counts=True)
        self.fitted.fill_(len(y) > 0)
        self.weight.zero_()
        self.bias.fill_(-math.log(len(y) + 1))
        self.bias[torch.from_numpy(classes)] = 0
        if len(classes) < 2:
            return
        mean, sd = x.mean(0), x.std(0)
        scale = np.where(sd > 1e-8 * np.maximum(np.abs(mean), 1), 1 / np.where(sd > 0, sd, 1), 0)
        z = (x - mean) * scale
        strength = choose_strength(z, y, min(folds, int(counts.min())), seed, balanced)
        model = _model(strength, balanced).fit(z, y)
        coefficients, intercept = model.coef_ * scale, model.intercept_ - model.coef_ @ (mean * scale)
        if len(classes) == 2:  # scikit-learn keeps the second class's log-odds alone
            coefficients, intercept = np.stack([0 * coefficients[0], coefficients[0]]), np.array([0, intercept[0]])
        self.weight[torch.from_numpy(classes)] = torch.from_numpy(coefficients).to(self.weight)
        self.bias[torch.from_numpy(classes)] = torch.from_numpy(intercept).to(self.bias)


def choose_strength(z: Floats, y: NDArray[np.int64], folds: int, seed: int, balanced: bool) -> float:
    """The C of STRENGTHS with the least mean log loss over the inner folds; the strongest penalty where a class has
    one row. At equality the stronger penalty."""
    if folds < 2:
        return STRENGTHS[0]
    losses = np.zeros((folds, len(STRENGTHS)))
    for i, (train, held) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=seed).split(z, y)):
        model = _model(STRENGTHS[0], balanced)
        for j, strength in enumerate(STRENGTHS):
            model.set_params(C=strength).fit(z[train], y[train])
            losses[i, j] = log_loss(y[held], model.predict_proba(z[held]), labels=model.classes_)
    return STRENGTHS[int(losses.mean(0).argmin())]


def _model(strength: float, balanced: bool) -> Any:
    weights = "balanced" if balanced else None
    return LogisticRegression(C=strength, class_weight=weights, tol=1e-6, max_iter=10_000, warm_start=True)
