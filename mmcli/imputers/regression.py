"""`regression`: each column from the determinants, the columns that are known for everyone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from mmcli.errors import RequestError
from mmcli.fields import CommaList
from mmcli.imputers.bayesian_ridge import fit_ridge
from mmcli.imputers.design import Design
from mmcli.imputers.imputer import Answer, Floats, Imputer, ImputerSettings
from mmcli.imputers.mice import truncated_normal
from mmcli.imputers.noise import patient_keys, uniforms
from mmcli.registry import did_you_mean


class RegressionSettings(ImputerSettings):
    """Options of `regression`."""

    determinants: CommaList = Field(
        [], description="Columns to predict from; default those that every training patient has."
    )
    penalty: float = Field(1, gt=0, description="Weight of half the squared coefficients of a category's regression.")
    min_observed: int = Field(
        5, ge=2, description="Training patients that a column needs to be modelled; else it is filled as by `mean`."
    )
    max_levels: int = Field(
        20, ge=2, description="Most categories of a column that is modelled; one with more is filled as by `mean`."
    )


class RegressionImputer(Imputer):
    """The row "logistic regression" of MDFN's tables: every other column regressed on the clinical determinants, once.

    Numbers and ordinal levels by Bayesian ridge regression (as `mice`), categories by multinomial logistic regression
    with a quadratic penalty. A determinant's own holes count as its training mean; they are filled as by `mean`.
    Without determinants every column is filled as by `mean`. A draw adds the regression's noise, within the training
    range, or draws a category; answer "median" is the same as "mean".
    """

    name: ClassVar[str] = "regression"
    Settings: ClassVar[type[ImputerSettings]] = RegressionSettings

    def _fit(self, values: Floats) -> None:
        self._make_design()
        names = self.columns.names
        unknown = [c for c in self.settings.determinants if c not in names]
        if unknown:
            raise RequestError(f"--set determinants: unknown column {unknown[0]!r}{did_you_mean(unknown[0], names)}")
        full = [c for j, c in enumerate(names) if not np.isnan(values[:, j]).any()]
        used = [names.index(c) for c in self.settings.determinants or full]
        encoded = self.design.encode(values)
        self.used: NDArray[np.bool_] = np.array([v.column in used for v in self.design.variables], np.bool_)
        inputs = self._inputs(encoded)
        self.coef = np.zeros((encoded.shape[1], inputs.shape[1]))
        self.intercept, self.sd = np.zeros(encoded.shape[1]), np.zeros(encoded.shape[1])
        for v, used_itself in zip(self.design.variables, self.used, strict=True):
            seen = ~np.isnan(encoded[:, v.span.start])
            if used_itself or not inputs.shape[1]:
                continue
            if len(v.levels):
                index = np.searchsorted(v.levels, values[seen, v.column])
                self.coef[v.span], self.intercept[v.span] = fit_softmax(
                    inputs[seen], index, len(v.levels), self.settings.penalty
                )
            else:
                fit = fit_ridge(inputs[None, seen], encoded[seen, v.span])
                self.coef[v.span], self.intercept[v.span] = fit.coef[0], fit.intercept[0]
                self.sd[v.span] = 1 / np.sqrt(fit.alpha[0])

    def _make_design(self) -> None:
        own = self.settings
        self.design = Design(self.marginals, self.columns.kinds, own.min_observed, own.max_levels)

    def _inputs(self, encoded: Floats) -> Floats:
        """(n, p) the determinants' design columns, holes at their mean."""
        chosen = [
            np.arange(v.span.start, v.span.stop)
            for v, used in zip(self.design.variables, self.used, strict=True)
            if used
        ]
        columns = np.concatenate([np.zeros(0, np.int64), *chosen])
        return np.nan_to_num(encoded[:, columns], nan=0.0)

    def _propose(self, values: Floats, ids: list[str], draws: int, answer: Answer) -> Floats:
        n, f = values.shape
        noise = uniforms(patient_keys(self.seed, ids), 0, draws * f).reshape(n, draws, f).swapaxes(0, 1)
        if answer == "draw":
            proposed = self.marginals.draw(noise)
        else:
            proposed = np.tile(self.marginals.point(self.columns.kinds, answer), (1, n, 1))
        inputs = self._inputs(self.design.encode(values))
        if not inputs.shape[1]:
            return proposed
        for v, used_itself in zip(self.design.variables, self.used, strict=True):
            if used_itself:
                continue
            # Row by row, not by BLAS: a row's bits must not depend on how many rows there are.
            predicted = (inputs[:, None] * self.coef[v.span]).sum(-1) + self.intercept[v.span]
            if len(v.levels):
                share = softmax(predicted, -1)
                reached = np.cumsum(share, -1) > noise[..., v.column, None]
                drawn = np.where(reached.any(-1), reached.argmax(-1), len(v.levels) - 1)
                proposed[..., v.column] = v.levels[drawn if answer == "draw" else share.argmax(-1)]
            else:
                if answer == "draw":
                    uniform = noise[..., v.column, None]
                    predicted = truncated_normal(predicted, self.sd[v.span], v.low, v.high, uniform)
                proposed[..., v.column] = self.design.decode(v, predicted)
        return proposed

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {name: getattr(self, name) for name in ARRAYS}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        for name in ARRAYS:
            setattr(self, name, arrays[name])
        self._make_design()


ARRAYS = ("used", "coef", "intercept", "sd")


def fit_softmax(x: Floats, y: NDArray[np.int64], classes: int, penalty: float) -> tuple[Floats, Floats]:
    """Coefficients (q, p) and intercepts (q,) of multinomial logistic regression of classes `y` (n,) on `x` (n, p) that
    minimise the summed negative log-likelihood plus `penalty` / 2 times the squared coefficients."""
    n, p = x.shape
    truth = np.eye(classes)[y]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(classes, p + 1)
        logits = x @ weights[:, :p].T + weights[:, p]
        off = np.exp(log_softmax(logits, 1)) - truth
        gradient = np.concatenate([off.T @ x + penalty * weights[:, :p], off.sum(0)[:, None]], 1)
        value = -(log_softmax(logits, 1) * truth).sum() + penalty / 2 * (weights[:, :p] ** 2).sum()
        return float(value) / n, gradient.ravel() / n

    start = np.zeros((classes, p + 1))
    start[:, p] = np.log(truth.mean(0) + 1e-12)
    fit = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-7})
    weights = fit.x.reshape(classes, p + 1)
    return weights[:, :p], weights[:, p]
