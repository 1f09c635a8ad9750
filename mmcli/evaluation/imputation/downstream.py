"""A classifier after imputation: logistic regression on filled tables, and gradient boosting on the raw holes."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from mmcli.imputers.imputer import Columns, Floats
from mmcli.metrics.metric import Ints
from mmcli.store.parts import Table
from mmcli.training.preparing import TableEncoder

MOST_CODES = 255  # of a categorical column that scikit-learn's boosting takes as such


def after_imputation(train: Floats, y: Ints, test: Floats, columns: Columns, classes: int) -> Floats | None:
    """Probabilities (n_test, K) of a logistic regression (C = 1) fitted on filled training rows (n, f) and labels (n,).

    Columns are standardised and categories made indicators as in training a model. None where the training rows have
    one class only.
    """
    if len(np.unique(y)) < 2:
        return None
    whole = [_table(values, columns) for values in (train, test)]
    encoder = TableEncoder.fit(whole[0], np.arange(len(train)))
    x, new = (encoder.encode(table)[0] for table in whole)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=500).fit(x.astype(np.float64), y)
    return _spread(model.predict_proba(new.astype(np.float64)), model.classes_, classes)


def on_raw_holes(train: Floats, y: Ints, test: Floats, columns: Columns, classes: int, seed: int) -> Floats | None:
    """Probabilities (n_test, K) of scikit-learn's HistGradientBoosting, its defaults, which sees the holes (NaN)."""
    if len(np.unique(y)) < 2:
        return None
    coded = [k == "categorical" and n <= MOST_CODES for k, n in zip(columns.kinds, columns.levels(), strict=True)]
    model = HistGradientBoostingClassifier(categorical_features=np.array(coded, bool), random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a column without any value in this fold
        model.fit(train, y)
    return _spread(model.predict_proba(test), model.classes_, classes)


def _table(values: Floats, columns: Columns) -> Table:
    present, observed = np.ones(len(values), bool), np.ones(values.shape, bool)
    return Table(columns.names, columns.kinds, columns.categories, present, values, observed)


def _spread(p: Floats, present: Ints, classes: int) -> Floats:
    """Columns for all classes: one that no training patient has gets 0."""
    out = np.zeros((len(p), classes))
    out[:, present.astype(np.int64)] = p
    return out
