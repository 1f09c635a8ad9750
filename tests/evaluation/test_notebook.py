"""evaluate() of a notebook: what people hand over, and what it must not make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmcli.errors import RequestError
from mmcli.evaluation import Bootstrap, evaluate
from mmcli.evaluation.reporting import lines, rows
from mmcli.evaluation.sources import load


def made(seed: int, n: int = 60, first: int = 0, names: tuple[str, str] = ("0", "1")) -> pd.DataFrame:
    y = np.arange(first, first + n) % 2
    p = 1 / (1 + np.exp(-(np.random.default_rng(seed).normal(size=n) + y - 0.5)))
    return pd.DataFrame({"patient_id": np.arange(first, first + n), "label": [names[k] for k in y],
                         f"p_{names[0]}": 1 - p, f"p_{names[1]}": p})  # fmt: skip


def auc(frame: pd.DataFrame, **how: Any) -> float:
    found = evaluate({"a": frame}, **how).metrics
    return float(found.loc[found["metric"] == "auc", "value"].iloc[0])


def test_labels_and_ids_as_pandas_has_them() -> None:
    frame = made(1)
    wanted = auc(frame)
    assert auc(frame.assign(label=frame["label"].astype(int))) == wanted
    assert auc(frame.assign(label=frame["label"].astype("category"))) == wanted
    assert auc(made(1, names=("False", "True")).assign(label=frame["label"] == "1")) == wanted
    assert auc(frame.join(pd.DataFrame(np.ones((60, 2))))) == wanted  # columns whose names are no text
    holes = frame.assign(label=frame["label"].astype(float).where(frame.index > 3))
    assert auc(holes) == auc(frame[frame.index > 3])
    other = made(2).assign(patient_id=np.arange(60.0))
    assert set(evaluate({"a": frame, "b": other}).comparisons["n"]) == {60}


def test_columns_in_another_order_are_the_same_table(tmp_path: Any) -> None:
    one, two = made(1), made(2)
    turned = two[["p_1", "label", "p_0", "patient_id"]]
    pd.testing.assert_frame_equal(
        evaluate({"a": one, "b": two}).metrics, evaluate({"a": one, "b": turned}).metrics, check_exact=True
    )
    one.to_csv(tmp_path / "a.csv", index=False)
    turned.to_csv(tmp_path / "b.csv", index=False)
    (_, found), _ = load([tmp_path / "a.csv", tmp_path / "b.csv"], [], "test", False)
    assert found.classes == ("0", "1")


def test_seeds_alone_are_no_folds() -> None:
    tables = {n: pd.concat([made(10 * i + s).assign(seed=s) for s in range(5)]) for i, n in enumerate("ab")}
    result = evaluate(tables)
    assert set(result.comparisons["test"]) == {"delong", "mcnemar", "mcnemar_exact", "bootstrap"}
    assert set(result.metrics["parts"]) == {5}
    folds = {n: t.assign(fold=t["patient_id"] % 5) for n, t in tables.items()}
    assert "wilcoxon" in set(evaluate(folds).comparisons["test"])


def test_missing_modalities_are_a_pattern() -> None:
    frame = made(1).assign(modalities=["ct", None] * 30)
    assert set(evaluate({"a": frame}).subgroups["subgroup"]) == {"ct", "(none)"}


def test_by_and_cut_as_people_write_them() -> None:
    frame = made(1).assign(age=np.arange(60.0))
    found = evaluate({"a": frame}, by="age", cut={"age": [20, 40]}).subgroups
    assert list(dict.fromkeys(found["subgroup"])) == ["< 20", "20 to < 40", ">= 40"]


@pytest.mark.parametrize(
    ("tables", "how", "words"),
    [
        ([made(1)], {}, "give each table a name"),
        ({}, {}, "no table"),
        ({"a": {"patient_id": [1]}}, {}, "a DataFrame of predictions is needed, not a dict"),
        ({"a": made(1).set_index("patient_id")}, {}, "has no column 'patient_id'"),
        ({"a": pd.concat([made(1), made(1)[["p_0"]]], axis=1)}, {}, "two columns are named 'p_0'"),
        ({"a": made(1)[:0]}, {}, "there is no row at all"),
        ({"a": made(1).assign(split="Test")}, {}, r"no row has the split 'test' \('Test'\)"),
        ({"a": pd.concat([made(1), made(1)[:1]])}, {}, r"earlier row already \(rows differ by: split, .*row, draw\)"),
        ({"a": made(1)}, {"bootstrap": True}, r"give Bootstrap\(\)"),
        ({"a": made(1)}, {"by": "sex"}, "no column 'sex'"),
    ],
)
def test_what_is_refused(tables: Any, how: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        evaluate(tables, **how)


@pytest.mark.parametrize("how", [{"confidence": 95}, {"resamples": 0}, {"kind": "bcaa"}])
def test_a_bootstrap_that_cannot_be(how: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(how))):
        Bootstrap(**how)


def test_imputations_that_some_rows_lack_are_refused() -> None:
    draws = pd.concat([made(s).assign(draw=s) for s in range(3)], ignore_index=True)
    assert evaluate({"a": draws}).predictions[0].draws is not None
    with pytest.raises(RequestError, match="patient '5' lacks some of the 3 values of draw"):
        evaluate({"a": draws[(draws["draw"] != 1) | (draws["patient_id"] != 5)]})


def test_runs_without_a_common_patient_are_said_not_to_be_compared() -> None:
    result = evaluate({"a": made(1), "b": made(2, first=100)})
    assert result.comparisons.empty
    assert "b and a have no patient in common for label: they are not compared." in result.notes


def test_notes_tell_of_intervals_without_width_and_not_of_figures_that_are_not_there() -> None:
    perfect = made(1).assign(p_0=lambda t: (t["label"] == "0") * 1.0, p_1=lambda t: (t["label"] == "1") * 1.0)
    said = " ".join(evaluate({"a": perfect}, bootstrap=Bootstrap(40)).notes)
    assert "Intervals without width (auc" in said and "does not make the figure certain" in said
    alone = made(1)[lambda t: t["label"] == "0"]
    result = evaluate({"a": alone}, bootstrap=Bootstrap(40))
    assert "auc" not in " ".join(result.notes) and "resamples a metric was undefined" not in " ".join(result.notes)


def test_rows_are_not_called_patients() -> None:
    twice = pd.concat([made(1).assign(row="left"), made(2).assign(row="right")])
    result = evaluate({"a": twice, "b": twice[:80]}, bootstrap=Bootstrap(20))
    assert [r["Rows"] for r in rows(result)] == [120, 80]
    assert "training prior" not in " ".join(lines(result))
