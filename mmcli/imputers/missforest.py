"""`missforest`: each column predicted by a forest from all others, round after round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmcli.imputers.design import Design
from mmcli.imputers.imputer import Answer, Floats, Imputer, ImputerSettings
from mmcli.imputers.noise import patient_keys, uniforms
from mmcli.imputers.trees import Forest, grow


class MissForestSettings(ImputerSettings):
    """Options of `missforest`."""

    trees: int = Field(50, ge=1, le=10_000, description="Trees of a column's forest.")
    leaf: int = Field(3, ge=1, description="Least training patients in a leaf.")
    rounds: int = Field(3, ge=1, le=100, description="Most rounds over all columns.")
    share: float = Field(0.33, gt=0, le=1, description="Share of the features that a node draws.")
    min_observed: int = Field(
        5, ge=2, description="Training patients that a column needs to be modelled; else it is filled as by `mean`."
    )
    max_levels: int = Field(
        20, ge=2, description="Most categories of a column that is modelled; one with more is filled as by `mean`."
    )


class MissForestImputer(Imputer):
    """Chained forests on all columns, from the training means on, until the filled cells move farther than before.

    Stekhoven and Bühlmann, MissForest, Bioinformatics 28(1), 2012, whose stopping rule this is. Departures, and why:

    - It is fitted once and then fills any patient: each round's forests are kept and applied in their order. The
      paper's program fits on the rows that it fills.
    - Extremely randomised trees (see `mmcli.imputers.trees`), not random forests: a third of the time.
    - Point answers on categories take the largest predicted share, on ordinal columns the nearest level. "median" is
      the same as "mean".
    - A draw is a training patient's cell out of the leaf that the patient reaches in a tree drawn at random (Doove,
      van Buuren and Dusseldorp, Comput Stat Data Anal 72, 2014), after the point answers of all rounds but the last.
    """

    name: ClassVar[str] = "missforest"
    source: ClassVar[str] = "Stekhoven & Bühlmann 2012, doi:10.1093/bioinformatics/btr597"
    Settings: ClassVar[type[ImputerSettings]] = MissForestSettings

    def _fit(self, values: Floats) -> None:
        self._make_design()
        values = values[~np.isnan(values).all(1)]
        encoded = self.design.encode(values)
        holes = np.isnan(encoded)
        filled = np.where(holes, 0.0, encoded)
        variables, rng = self.design.variables, np.random.default_rng(self.seed)
        self.order = np.argsort([holes[:, v.span.start].mean() for v in variables], kind="stable")
        self.forests: list[list[Forest]] = []
        self.donors: list[Floats] = []
        if len(variables) < 2:
            return
        moved = np.inf
        for _ in range(self.settings.rounds):
            before, filled = filled, filled.copy()
            forests, donors = [], []
            for i in self.order:
                v = variables[i]
                seen = ~holes[:, v.span.start]
                features = np.delete(filled, np.arange(v.span.start, v.span.stop), 1)
                forest = grow(
                    features[seen], filled[seen, v.span], rng, trees=self.settings.trees, leaf=self.settings.leaf,
                    features=max(1, round(self.settings.share * features.shape[1])),
                )  # fmt: skip
                if (~seen).any():
                    filled[~seen, v.span] = self._bounded(i, forest.predict(features[~seen]))
                forests.append(forest)
                donors.append(self._donors(forest, features[seen], values[seen, v.column], rng))
            last, moved = moved, float(((filled - before)[holes] ** 2).sum())
            if moved >= last:
                break
            self.forests.append(forests)
            self.donors = donors

    def _make_design(self) -> None:
        own = self.settings
        self.design = Design(self.marginals, self.columns.kinds, own.min_observed, own.max_levels)

    def _donors(self, forest: Forest, features: Floats, cells: Floats, rng: np.random.Generator) -> Floats:
        """(N,) for each node the cell of a training patient in it, drawn at random; 0 at inner nodes."""
        donors = np.zeros(len(forest.feature))
        some = rng.permutation(len(cells))
        donors[forest.leaves(features[some])] = cells[some, None]
        return donors

    def _bounded(self, i: int, predicted: Floats) -> Floats:
        """Predicted shares of categories as the regressions see them; numbers as they are."""
        v = self.design.variables[i]
        return self.design.standard(v, self.design.shares(v, predicted)) if len(v.levels) else predicted

    def _propose(self, values: Floats, ids: list[str], draws: int, answer: Answer) -> Floats:
        n, f = values.shape
        noise = uniforms(patient_keys(self.seed, ids), 0, draws * 2 * f).reshape(n, draws, 2 * f).swapaxes(0, 1)
        if answer == "draw":
            proposed = self.marginals.draw(noise[..., :f])
        else:
            proposed = np.tile(self.marginals.point(self.columns.kinds, answer), (1, n, 1))
        rows = self.design.encode(values)
        holes = np.isnan(rows)
        rows = np.where(holes, 0.0, rows)
        for r, forests in enumerate(self.forests):
            for i, forest, donors in zip(self.order.tolist(), forests, self.donors, strict=True):
                v = self.design.variables[i]
                wanting = np.flatnonzero(holes[:, v.span.start])
                features = np.delete(rows[wanting], np.arange(v.span.start, v.span.stop), 1)
                leaves = forest.leaves(features)
                rows[wanting, v.span] = self._bounded(i, forest.value[leaves].mean(1))
                if r == len(self.forests) - 1:
                    proposed[:, wanting, v.column] = self.design.decode(v, rows[wanting, v.span])
                    if answer == "draw":
                        tree = (noise[:, wanting, f + v.column] * leaves.shape[1]).astype(np.int64)
                        proposed[:, wanting, v.column] = donors[leaves[np.arange(len(wanting)), tree]]
        return proposed

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {"order": self.order, "rounds": np.array([len(self.forests)])}
        for r, forests in enumerate(self.forests):
            for i, forest in enumerate(forests):
                arrays |= forest.arrays(f"round{r}-forest{i}")
        return arrays | {f"donors{i}": donors for i, donors in enumerate(self.donors)}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._make_design()
        self.order = arrays["order"]
        each, rounds = range(len(self.order)), int(arrays["rounds"][0])
        self.forests = [[Forest.from_arrays(f"round{r}-forest{i}", arrays) for i in each] for r in range(rounds)]
        self.donors = [arrays[f"donors{i}"] for i in each] if rounds else []
