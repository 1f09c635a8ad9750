"""Columns that predict a label alone, values that nearly decide it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import fisher_exact, mannwhitneyu, norm
from sklearn.metrics import roc_auc_score

from mmcli.evaluation.audit import columns, values
from mmcli.evaluation.audit.columns import encoded_shares, ranked
from mmcli.store import Label

N = 80
Y = np.arange(N) % 2


def noise(seed: int, f: int = 6, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, f))


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_auc_and_z_are_scikit_learns_and_scipys(levels: int) -> None:
    rng = np.random.default_rng(levels)
    x, y = rng.integers(0, levels, 90).astype(float), rng.random(90) < 0.3
    auc, z = ranked(x, y)
    theirs = mannwhitneyu(x[y], x[~y], use_continuity=False, method="asymptotic", alternative="greater")
    assert auc == pytest.approx(roc_auc_score(y, x), abs=1e-12)
    assert norm.sf(z) == pytest.approx(theirs.pvalue, rel=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_label_in_disguise_is_found_in_both_directions(look: Any, sign: int) -> None:
    table = noise(0)
    table[:, 2] = sign * (Y + 0.05 * table[:, 2])
    table[::7, 2] = np.nan
    found = columns.check(look({"y": Y}, tables={"t": table})).findings
    assert [(f.severity, f.where) for f in found] == [("finding", "table t, column c2")]
    assert "AUC 1.000 in the 68 patients" in found[0].what


def test_a_category_in_disguise_is_found_and_many_categories_gain_nothing(look: Any) -> None:
    rng = np.random.default_rng(0)
    table = np.column_stack([2 * rng.integers(0, 2, N) + Y, np.arange(N), rng.integers(0, 30, N)]).astype(float)
    names = {f"c{j}": [f"k{i}" for i in range(N)] for j in range(3)}
    found = columns.check(look({"y": Y}, tables={"t": table}, categories=names)).findings
    assert [f.where for f in found] == ["table t, column c0"]
    in_sample = np.array([Y[table[:, 1] == code].mean() for code in table[:, 1]])
    assert roc_auc_score(Y, in_sample) == 1  # what the shares would say of an id without leaving patients out
    assert roc_auc_score(Y, encoded_shares(table[:, 1], Y == 1, 0)) == 0.5


def test_shares_worked_by_hand() -> None:
    codes, positive = np.zeros(10), np.arange(10) < 5  # one category; each part takes one of both classes out
    np.testing.assert_allclose(encoded_shares(codes, positive, 0), (4 + 0.5) / 9)


def test_one_class_of_several(look: Any) -> None:
    y = np.arange(90) % 3
    table = noise(0, n=90)
    table[:, 4] = np.where(y == 2, 5, 0) + table[:, 4]
    found = columns.check(look({"y": y}, tables={"t": table}, classes=["a", "b", "c"])).findings
    assert len(found) == 1 and "'c' of y alone" in found[0].what


def test_what_chance_gives_is_silent(look: Any) -> None:
    """Few patients and many columns: a perfect column is no news, and none may be reported."""
    perfect = 0
    for seed in range(3):
        y = np.arange(12) % 2
        table = noise(seed, 2000, n=12)
        low, high = table[y == 0], table[y == 1]
        perfect += int(((low.max(0) < high.min(0)) | (high.max(0) < low.min(0))).sum())
        assert columns.check(look({"y": y}, tables={"t": table})).findings == []
    assert perfect > 0


@pytest.mark.parametrize("missing", [False, True])
def test_a_value_that_nearly_decides(look: Any, missing: bool) -> None:
    """44 of 49 carriers against 123 of 690, as in hancock; numeric, or as a hole."""
    have = np.repeat([1.0, 1.0, 0.0, 0.0], [44, 5, 123, 567])
    y = np.repeat([1, 0, 1, 0], [44, 5, 123, 567])
    table = np.column_stack([have, noise(0, 2, len(y))])
    if missing:
        table[have == 1, 0] = np.nan
        table[have == 0, 0] = noise(1, 1, 690)[:, 0]
    found = values.check(look({"y": y}, tables={"t": table})).findings
    assert [(f.severity, f.where) for f in found] == [("warning", "table t, column c0")]
    assert found[0].what.startswith("44 of the 49 patients") and "90%; 18% of the others" in found[0].what


def test_p_is_fishers() -> None:
    rng = np.random.default_rng(0)
    carriers, y = rng.random(100) < 0.3, (rng.random(100) < 0.4).astype(np.int64)
    value = values._Value("w", "t", carriers, np.ones(100, bool))
    for k, n, hits, share, p in values._counts(value, Label(y, ["a", "b"])):
        rest = y[~carriers] == k
        table = [[hits, n - hits], [rest.sum(), (~rest).sum()]]
        assert p == pytest.approx(fisher_exact(table, alternative="greater").pvalue, rel=1e-9)
        assert share == rest.mean() and n == carriers.sum()


def test_a_modality_whose_absence_decides(look: Any) -> None:
    rng = np.random.default_rng(0)
    bags = [None if y and rng.random() < 0.7 else rng.normal(size=(2, 3)) for y in Y]
    found = values.check(look({"y": Y}, bags={"ct": bags})).findings
    assert [f.where for f in found] == ["modality ct"] and "who lack it are 'yes'" in found[0].what


def test_noise_and_honest_predictors_are_silent(look: Any) -> None:
    for seed in range(15):
        rng = np.random.default_rng(seed)
        coded = rng.integers(0, 4, size=(N, 8)).astype(float)
        coded[rng.random(coded.shape) < 0.2] = np.nan
        honest = noise(seed) + 1.2 * Y[:, None]  # AUC about .80 each
        subject = look({"y": Y}, tables={"coded": coded, "numbers": honest})
        assert columns.check(subject).findings == [] and values.check(subject).findings == []
