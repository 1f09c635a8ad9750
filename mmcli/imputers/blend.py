"""`blend`: the default. A Gaussian copula, forests on what it completes, and a chained ridge beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmcli.imputers.copula import CopulaImputer, CopulaSettings
from mmcli.imputers.gaussian import conditional, fit_correlation, precision, predict_each
from mmcli.imputers.imputer import Answer, Floats, Imputer, ImputerSettings
from mmcli.imputers.mice import MiceImputer, MiceSettings
from mmcli.imputers.predictive import points
from mmcli.imputers.selection import fit_slopes
from mmcli.imputers.trees import Forest, grow, join

FOLDS = 5
FORESTS = ("forests", "numbers")
CHAIN = "chain-"
# How far forest and ridge of the number itself move the answer from the distribution towards their mean.
PULL = {"mean": 0.5, "median": 0.2}


class BlendSettings(CopulaSettings):
    """Options of `blend`."""

    trees: int = Field(30, ge=FOLDS, le=10_000, description="Trees of a column's forest, and again of its numbers'.")
    share: float = Field(0.67, gt=0, le=1, description="Share of the features that a node draws.")
    leaf: int = Field(3, ge=1, description="Least training patients in a leaf.")
    selection: bool = Field(
        True, description="Look for columns that are missing because of their own value, and correct for it."
    )


class BlendImputer(CopulaImputer):
    """The mean of two predictions of a hole's normal score, an honest spread around it, and for point answers two
    predictions of the number itself.

    1. A Gaussian copula (see `copula`) gives the score's conditional mean and sd.
    2. Extremely randomised trees predict the score from the patient's row as the copula completes it, its own
       prediction of the hole among the features: they find what is not linear. They learn from training cells that are
       hidden again, in five disjoint parts of each column's cells, so that they see rows as full of holes as those
       that they will fill, and never a completion that knew the cell.
    3. Training patients are in five folds; copula and trees that predict a fold's hidden cells have not seen its
       patients. The error of these predictions sets the spread: the copula's sd, scaled a column. The trees of all
       five folds together are the forest that fills new patients; the copula is fitted again on all of them.
    4. Where the table shows that a number is missing because of its own value, the distribution is reweighted for
       that (see `mmcli.imputers.selection`, and its assumption; --set selection=false leaves it out).

    Answer "mean" of a number is half the mean without the outer tenth of that distribution on both sides (with a few
    hundred patients the far tail is a guess that costs more than it brings), a quarter the prediction of a second
    forest that was grown on the number itself, and a quarter that of `mice`, whose chained ridge sees what is linear in
    the numbers and not in their scores. "median" is the distribution's, moved two fifths as far as its mean is. "draw"
    is of the distribution alone; the holes of one patient are drawn with the copula's correlations. Draws reflect the
    spread of held-out errors, not an own uncertainty of the coefficients.
    """

    name: ClassVar[str] = "blend"
    source: ClassVar[str] = ""
    Settings: ClassVar[type[ImputerSettings]] = BlendSettings
    trim: ClassVar[float] = 0.1

    def _fit(self, values: Floats) -> None:
        super()._fit(values)
        # A patient with no observed cell teaches nothing.
        seen = values[~np.isnan(values).all(1)]
        table = self.scores.encode(seen)
        n, d = table.shape
        rng = np.random.default_rng(self.seed)
        self.fold = rng.permutation(n) % FOLDS
        self.ratio = np.ones(d)
        self.forests: dict[int, Forest] = {}
        self.numbers: dict[int, Forest] = {}
        self.chain: Imputer | None = None
        if n < 2 * FOLDS or not d:
            return
        hidden = self._hide_again(table, rng)
        completed, variance, mean_each, variance_each = self._complete(table, hidden)
        for v in self.scores.variables:
            rows = np.flatnonzero(~np.isnan(table[:, v.span.start]))
            part = hidden[:, rows, v.span.start].argmax(0)
            features, target = completed[part, rows], table[rows, v.span]
            self.forests[v.column], predicted = self._grow(features, target, self.fold[rows], rng)
            if not len(v.levels):
                number = (seen[rows, v.column] - self.marginals.mean[v.column]) / self.marginals.sd[v.column]
                self.numbers[v.column], _ = self._grow(features, number[:, None], self.fold[rows], rng)
            blended = (features[:, v.span] + predicted) / 2
            self.ratio[v.span] = ((target - blended) ** 2).mean(0) / variance[part, rows][:, v.span].mean(0)
        if self.numbers:
            own = self.settings.model_dump(include={"min_observed", "max_levels"})
            self.chain = MiceImputer(MiceSettings.model_validate(own)).fit(values, self.columns, seed=self.seed)
        if self.settings.selection:
            self.slopes = fit_slopes(self.scores, table, mean_each, variance_each)

    def _hide_again(self, table: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
        """(R, n, d): every observed cell is hidden in exactly one of R parts."""
        part = np.empty(table.shape, np.int64)
        for v in self.scores.variables:
            part[:, v.span] = rng.integers(0, FOLDS, len(table))[:, None]
        hidden: NDArray[np.bool_] = (part == np.arange(FOLDS)[:, None, None]) & ~np.isnan(table)
        return hidden

    def _complete(self, table: Floats, hidden: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats, Floats]:
        """Rows completed with each part hidden (R, n, d) and the variance of what was filled in (R, n, d), both by a
        copula of the other folds; and every cell predicted from the row's others (n, d), with variance (n, d)."""
        completed, variance = np.empty(hidden.shape), np.empty(hidden.shape)
        mean_each, variance_each = np.empty(table.shape), np.empty(table.shape)
        for k in range(FOLDS):
            own = self.fold == k
            inverse = precision(fit_correlation(table[~own], self.settings.shrink, self.settings.steps))
            mean_each[own], variance_each[own] = predict_each(inverse, table[own])
            for r in range(len(hidden)):
                completed[r, own], covariance = conditional(inverse, np.where(hidden[r, own], np.nan, table[own]))
                variance[r, own] = np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 1e-6)
        return completed, variance, mean_each, variance_each

    def _grow(
        self, features: Floats, target: Floats, fold: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Forest, Floats]:
        """A forest on features (n, d) and target (n, q), and its predictions (n, q) for each row from the trees that
        have not seen the row's fold."""
        predicted, grown = np.empty(target.shape), []
        for k in range(FOLDS):
            rest, own = fold != k, fold == k
            forest = grow(
                features[rest], target[rest], rng, trees=self.settings.trees // FOLDS, leaf=self.settings.leaf,
                features=max(8, round(self.settings.share * features.shape[1])),
            )  # fmt: skip
            predicted[own] = forest.predict(features[own])
            grown.append(forest)
        return join(grown), predicted

    def _predict(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        mean, sd, covariance = super()._predict(values)
        completed = mean.copy()
        for v in self.scores.variables:
            rows = np.flatnonzero(covariance[:, v.span.start, v.span.start] > 0)
            if v.column in self.forests and len(rows):
                predicted = self.forests[v.column].predict(completed[rows])
                mean[rows, v.span] = (completed[rows, v.span] + predicted) / 2
        return mean, sd * np.sqrt(self.ratio), covariance

    def _points(self, values: Floats, answer: Answer) -> dict[int, Floats]:
        cells = super()._points(values, answer)
        if self.chain is not None:
            mean, sd, _ = self._predict(values)
            plain = points(self.scores, mean, sd, np.zeros_like(self.slopes), "mean", self.trim)
            completed, _, _ = super()._predict(values)
            chained = self.chain.transform(values, [""] * len(values))[0]
            for column, forest in self.numbers.items():
                number = forest.predict(completed)[:, 0] * self.marginals.sd[column] + self.marginals.mean[column]
                # Forest and ridge know nothing of the selection: they are held against the distribution without it.
                cells[column] = cells[column] + PULL[answer] * ((number + chained[:, column]) / 2 - plain[column])
        return cells

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {**super()._arrays(), "ratio": self.ratio}
        for name in FORESTS:
            own: dict[int, Forest] = getattr(self, name)
            arrays[name] = np.array(list(own), np.int64)
            for column, forest in own.items():
                arrays |= forest.arrays(f"{name}{column}")
        if self.chain is not None:
            arrays |= {CHAIN + name: array for name, array in self.chain.state().items()}
        return arrays

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        super()._restore(arrays)
        self.ratio = arrays["ratio"]
        for name in FORESTS:
            setattr(self, name, {int(c): Forest.from_arrays(f"{name}{c}", arrays) for c in arrays[name]})
        state = {name.removeprefix(CHAIN): array for name, array in arrays.items() if name.startswith(CHAIN)}
        self.chain = MiceImputer.from_state(state) if self.numbers else None
