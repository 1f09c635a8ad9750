"""The made patients without pixels: labels, holes, and what each modality knows of a relapse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmcli.demo.tables import CLINICAL, FACTORS, MARKERS, draw_patients
from mmcli.errors import RequestError


def auc(x: np.ndarray, y: np.ndarray) -> float:
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(C=0.1))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return roc_auc_score(y, cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1])


def marker_numbers(table: pd.DataFrame) -> np.ndarray:
    logs = table[["afp", "cea", "ca125", "crp"]].apply(pd.to_numeric, errors="coerce").apply(np.log)
    return logs.assign(grade=table["grade"].map({"G1": 1, "G2": 2, "G3": 3})).to_numpy(float)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_modality_knows_a_part_and_all_know_more(seed: int) -> None:
    drawn = draw_patients(800, seed)
    y = (drawn.table["relapse"] == "yes").to_numpy()
    z = drawn.truth[list(FACTORS)].to_numpy()
    markers = marker_numbers(drawn.table)
    has = ~np.isnan(markers).all(axis=1)
    slide, ct, blood = auc(z[:, [0]], y), auc(z[:, [1]], y), auc(markers[has], y[has])
    assert 0.77 < slide < 0.87
    assert 0.67 < ct < 0.78
    assert 0.66 < blood < 0.80
    assert auc(np.column_stack([z[:, :2], markers]), y) > max(slide, ct, blood) + 0.07


def test_factors_are_standard_and_uncorrelated_in_the_sample() -> None:
    z = draw_patients(96, 5).truth[list(FACTORS)].to_numpy()
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(z, rowvar=False, bias=True), np.eye(4), atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_labels_and_missing_patterns(seed: int) -> None:
    drawn = draw_patients(96, seed)
    table = drawn.table
    assert list(table["patient_id"][:2]) == ["P001", "P002"] and table["patient_id"].is_unique
    assert (table["relapse"] == "yes").sum() == 38
    assert table["stage"].value_counts().to_dict() == {"I": 38, "II": 34, "III": 24}
    assert (table["slide_path"] == "").sum() == 14
    assert (table["ct_path"] == "").sum() == 10 and ((table["ct_path"] == "") == (table["ct_mask"] == "")).all()
    assert (table[list(MARKERS)] == "").all(axis=1).sum() == 8
    assert table["site"].value_counts().tolist() == [12] * 8
    has = table[(table[list(MARKERS)] != "").any(axis=1)]
    for column in MARKERS:
        assert 0.02 < (has[column] == "").mean() < 0.5, column
    for column in CLINICAL[2:]:
        assert (table[column] == "").any(), column
    assert (table["sex"] != "").all()
    row = table.set_index("patient_id").loc[drawn.damaged]
    assert row["slide_path"] and row["ct_path"] and row["cea"] + row["afp"] + row["crp"]


def test_some_holes_depend_on_other_columns() -> None:
    table = draw_patients(2000, 0).table
    table = table[(table[list(MARKERS)] != "").any(axis=1)]
    hole = table == ""
    man, old = table["sex"] == "male", pd.to_numeric(table["age"]) >= 70
    assert hole["ca125"][man].mean() > 4 * hole["ca125"][~man].mean()
    assert hole["crp"][old].mean() > 2 * hole["crp"][~old].mean()
    assert hole["grade"][hole["slide_path"]].mean() > 6 * hole["grade"][~hole["slide_path"]].mean()
    assert hole["cea"].mean() == pytest.approx(0.08, abs=0.03)


def test_values_are_plausible() -> None:
    table = draw_patients(500, 3).table
    age = pd.to_numeric(table["age"]).dropna()
    assert age.between(24, 92).all() and age.median() == pytest.approx(62, abs=2)
    for name in MARKERS[:4]:
        value = pd.to_numeric(table[name]).dropna()
        assert (value > 0).all() and value.skew() > 1.5 and abs(np.log(value).skew()) < 0.6, name
    assert set(table["performance"]) == {"", "0", "1", "2", "3"}
    assert set(table["grade"]) == {"", "G1", "G2", "G3"}


def test_same_arguments_same_patients() -> None:
    first, again, other = draw_patients(40, 3), draw_patients(40, 3), draw_patients(40, 4)
    pd.testing.assert_frame_equal(first.table, again.table)
    pd.testing.assert_frame_equal(first.truth, again.truth)
    assert first.damaged == again.damaged
    assert not first.table.equals(other.table)


def test_too_few_patients() -> None:
    with pytest.raises(RequestError, match="at least 12"):
        draw_patients(11, 0)
    assert set(draw_patients(12, 0).table["relapse"]) == {"no", "yes"}
