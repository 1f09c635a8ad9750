"""scikit-learn's classifiers on tables and pooled bags, under the same folds as every method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from torch import Tensor, nn

from mmcli.blocks.softmax_regression import SoftmaxRegression
from mmcli.blocks.tree_ensemble import TreeEnsemble, boosted_trees, forest_trees
from mmcli.methods.pooled import POOL_HELP, Pool, pooled_rows, row_width
from mmcli.training.batch import Batch
from mmcli.training.method import Fitted, MethodSettings, probabilities
from mmcli.training.spec import DataSpec

Ints = NDArray[np.int64]


class PooledSettings(MethodSettings):
    """Options of all models on pooled rows."""

    pool: Pool = Field("mean", description=POOL_HELP)
    class_weights: bool = Field(False, description="Weight each class by n / (K n_c) of the training patients.")


class PooledBaseline(Fitted):
    """Base class: one model a task on all modalities side by side, fitted to its labelled training patients."""

    stages: ClassVar[frozenset[str]] = frozenset({"train-teacher"})
    holes: ClassVar[bool] = False  # what is not known is NaN, and not the training mean

    def __init__(self, spec: DataSpec, settings: Any) -> None:
        super().__init__(spec, settings)
        columns = row_width(spec, spec.modalities, settings.pool)
        self.models = nn.ModuleList(self.model(columns, len(t.classes)) for t in spec.tasks)

    def model(self, columns: int, classes: int) -> nn.Module:
        """A model that is not fitted yet."""
        raise TypeError(f"the method {self.name!r} does not say what it fits")

    def fit_model(self, model: Any, x: NDArray[np.float32], y: Ints, seed: int) -> None:
        """Fit it to rows `x` (n, p) and classes `y` (n,)."""
        raise TypeError(f"the method {self.name!r} does not say how it is fitted")

    def logits(self, model: nn.Module, x: Tensor) -> Tensor:
        """From rows (n, p) to logits (n, K)."""
        made: Tensor = model(x)
        return made

    def rows(self, batch: Batch) -> Tensor:
        """What the models see: (n, p)."""
        return pooled_rows(batch, self.spec.modalities, self.settings.pool, self.holes)

    def fit(self, train: Iterable[Batch], validation: Iterable[Batch]) -> None:
        """Fit the model of each task."""
        pieces = [(self.rows(batch).cpu(), {t: y.cpu() for t, y in batch.labels.items()}) for batch in train]
        x = torch.cat([rows for rows, _ in pieces])
        for task, model in zip(self.spec.tasks, self.models, strict=True):
            y = torch.cat([labels[task.name] for _, labels in pieces])
            seed = int(torch.randint(2**31 - 1, ()))
            self.fit_model(model, x[y >= 0].numpy(), y[y >= 0].numpy(), seed)

    def predict(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """The models' probabilities."""
        x = self.rows(batch)
        tasks = zip(self.spec.tasks, self.models, strict=True)
        return {"": probabilities({task.name: self.logits(model, x) for task, model in tasks})}


class LogisticSettings(PooledSettings):
    """Options of `logistic`."""

    inner_folds: int = Field(5, ge=2, description="Folds, inside training, that choose the penalty.")


class Logistic(PooledBaseline):
    """scikit-learn's logistic regression on tables and pooled bags side by side.

    L2, the penalty chosen inside the training patients by the log loss of a stratified cross validation. A hole and an
    absent modality are the training mean; of several modalities each has a present flag, so any subset will do.
    """

    name: ClassVar[str] = "logistic"
    source: ClassVar[str] = "scikit-learn, LogisticRegression"
    Settings: ClassVar[type[MethodSettings]] = LogisticSettings

    def model(self, columns: int, classes: int) -> nn.Module:
        """A linear layer."""
        return SoftmaxRegression(columns, classes)

    def fit_model(self, model: Any, x: NDArray[np.float32], y: Ints, seed: int) -> None:
        """Choose the penalty, then fit."""
        s = self.settings
        model.fit(x.astype(np.float64), y, s.inner_folds, seed, s.class_weights)


class ForestSettings(PooledSettings):
    """Options of `forest`; the defaults are scikit-learn's, but for the number of trees."""

    trees: int = Field(500, ge=1, description="Number of trees.")
    leaf: int = Field(1, ge=1, description="Fewest training patients in a leaf.")
    features: float = Field(0.0, ge=0, le=1, description="Share of the columns tried at a split; 0 = their root.")


class Forest(PooledBaseline):
    """scikit-learn's random forest on tables and pooled bags side by side.

    Breiman 2001. A hole and an absent modality are the training mean; of several modalities each has a present flag,
    so any subset will do. The trees are kept as arrays; no scikit-learn is needed to predict.
    """

    name: ClassVar[str] = "forest"
    source: ClassVar[str] = "Breiman 2001, doi:10.1023/A:1010933404324; scikit-learn"
    Settings: ClassVar[type[MethodSettings]] = ForestSettings

    def model(self, columns: int, classes: int) -> nn.Module:
        """No tree yet."""
        return TreeEnsemble(classes)

    def fit_model(self, model: Any, x: NDArray[np.float32], y: Ints, seed: int) -> None:
        """Grow it."""
        s = self.settings
        weights = "balanced" if s.class_weights else None
        forest = RandomForestClassifier(
            s.trees, min_samples_leaf=s.leaf, max_features=s.features or "sqrt", class_weight=weights,
            random_state=seed, n_jobs=1,
        ).fit(x, y)  # fmt: skip
        classes = len(model.start)
        model.take(forest_trees(forest, forest.classes_, classes), np.zeros(classes))

    def logits(self, model: nn.Module, x: Tensor) -> Tensor:
        """Logarithms of the trees' mean shares."""
        shares: Tensor = model(x)
        return shares.log()


class BoostingSettings(PooledSettings):
    """Options of `boosting`; the defaults are scikit-learn's."""

    rounds: int = Field(100, ge=1, description="Trees, one after the other (of more than two classes: for each).")
    rate: float = Field(0.1, gt=0, description="What a tree's answer is multiplied by.")
    leaves: int = Field(31, ge=2, description="Most leaves of a tree.")
    leaf: int = Field(20, ge=1, description="Fewest training patients in a leaf.")
    l2: float = Field(0.0, ge=0, description="L2 penalty on the leaves' values.")
    features: float = Field(1.0, gt=0, le=1, description="Share of the columns tried at a split.")


class Boosting(PooledBaseline):
    """scikit-learn's histogram gradient boosting on tables and pooled bags side by side, holes left as holes.

    Ke et al. 2017. A cell that is not known and an absent modality are NaN, and each split learns where to send them
    (a modality that nobody lacks in training goes, absent, where the larger part of the training patients went). Trees
    are kept as arrays; no scikit-learn is needed to predict.
    """

    name: ClassVar[str] = "boosting"
    source: ClassVar[str] = "Ke et al. 2017 (LightGBM); scikit-learn, HistGradientBoostingClassifier"
    Settings: ClassVar[type[MethodSettings]] = BoostingSettings
    holes: ClassVar[bool] = True

    def model(self, columns: int, classes: int) -> nn.Module:
        """No tree yet."""
        return TreeEnsemble(classes)

    def fit_model(self, model: Any, x: NDArray[np.float32], y: Ints, seed: int) -> None:
        """Grow it; early stopping off, as scikit-learn has it below 10 000 rows."""
        s, classes = self.settings, len(model.start)
        if len(np.unique(y)) < 2:
            model.take([], np.log((np.bincount(y, minlength=classes) + 1) / (len(y) + classes)))
            return
        boosting = HistGradientBoostingClassifier(
            max_iter=s.rounds, learning_rate=s.rate, max_leaf_nodes=s.leaves, min_samples_leaf=s.leaf,
            l2_regularization=s.l2, max_features=s.features, early_stopping=False, random_state=seed,
            class_weight="balanced" if s.class_weights else None,
        ).fit(x, y)  # fmt: skip
        trees, start = boosted_trees(boosting, boosting.classes_, classes)
        start[np.setdiff1d(np.arange(classes), boosting.classes_)] = -np.log(len(y) + 1)
        model.take(trees, start)
