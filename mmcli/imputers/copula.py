"""`copula`: every column a normal score, all scores jointly normal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmcli.imputers.gaussian import conditional, fit_correlation, precision
from mmcli.imputers.imputer import Answer, Floats, Imputer, ImputerSettings
from mmcli.imputers.noise import patient_keys, uniforms
from mmcli.imputers.predictive import draw, points
from mmcli.imputers.scores import Scores


class CopulaSettings(ImputerSettings):
    """Options of `copula`."""

    shrink: float = Field(10, ge=0, description="Rows of uncorrelated scores that are added to the training rows.")
    steps: int = Field(20, ge=1, le=1000, description="Most rounds of expectation-maximisation.")
    min_observed: int = Field(
        5, ge=2, description="Training patients that a column needs to be modelled; else it is filled as by `mean`."
    )
    max_levels: int = Field(
        20, ge=2, description="Most categories of a column that is modelled; one with more is filled as by `mean`."
    )


class CopulaImputer(Imputer):
    """Gaussian copula: columns are mapped to normal scores, whose correlations are fitted by expectation-maximisation
    over the holes; a hole's distribution is the conditional normal given the patient's observed cells, mapped back.

    Zhao and Udell, Missing value imputation for mixed data via Gaussian copula, KDD 2020. Departures, and why:

    - An ordinal level stands at the mean of its slice of the normal, and a category is a standardised indicator, fixed
      before the fit: no truncated normals inside it. That costs little accuracy (on the tables of
      examples/imputation none that could be seen) and leaves one exact formula a row.
    - The correlations are shrunk by `shrink` rows of uncorrelated scores: small tables need it.
    - Answer "mean" is the mean of the mapped-back distribution, not the number at the mean score (that is the median).
    - Draws keep the correlations at their estimate; the holes of one patient are drawn jointly.

    Time grows with the cube of the number of columns.
    """

    name: ClassVar[str] = "copula"
    source: ClassVar[str] = "Zhao & Udell 2020, doi:10.1145/3394486.3403106"
    Settings: ClassVar[type[ImputerSettings]] = CopulaSettings
    trim: ClassVar[float] = 0.0

    def _fit(self, values: Floats) -> None:
        self._make_scores()
        self.scores.fit(values)
        table = self.scores.encode(values)
        self.precision = precision(fit_correlation(table, self.settings.shrink, self.settings.steps))
        self.slopes = np.zeros(values.shape[1])

    def _make_scores(self) -> None:
        own = self.settings
        self.scores = Scores(self.marginals, self.columns.kinds, own.min_observed, own.max_levels)

    def _predict(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        """(n, d) mean and sd of each hole's score, (n, d, d) covariance of a row's holes."""
        mean, covariance = conditional(self.precision, self.scores.encode(values))
        return mean, np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 1e-12)), covariance

    def _propose(self, values: Floats, ids: list[str], draws: int, answer: Answer) -> Floats:
        n, f = values.shape
        if answer != "draw":
            proposed = np.tile(self.marginals.point(self.columns.kinds, answer), (1, n, 1))
            for column, cells in self._points(values, answer).items():
                proposed[0, :, column] = cells
            return proposed
        mean, sd, covariance = self._predict(values)
        width = f + self.scores.size
        noise = uniforms(patient_keys(self.seed, ids), 0, draws * width).reshape(n, draws, width)
        proposed = self.marginals.draw(noise[..., :f].swapaxes(0, 1))
        drawn = draw(self.scores, mean, sd, self.slopes, covariance, noise[..., f:])
        for i, v in enumerate(self.scores.variables):
            proposed[..., v.column] = drawn[..., i].T
        return proposed

    def _points(self, values: Floats, answer: Answer) -> dict[int, Floats]:
        """Column -> (n,) point answers of the modelled columns."""
        mean, sd, _ = self._predict(values)
        return points(self.scores, mean, sd, self.slopes, answer, self.trim)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"precision": self.precision, "slopes": self.slopes, **self.scores.arrays()}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._make_scores()
        self.scores.restore(arrays)
        self.precision, self.slopes = arrays["precision"], arrays["slopes"]
