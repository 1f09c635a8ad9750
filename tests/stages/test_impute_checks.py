"""Labels among the columns, in plain sight and in disguise; folds and columns with too little in them."""

from __future__ import annotations

import numpy as np
import pytest

from mmcli.errors import RequestError
from mmcli.fields import fill
from mmcli.settings import ImputeSettings
from mmcli.stages.impute import run
from mmcli.stages.impute_checks import disguise
from mmcli.store import Store

LABEL = np.repeat([0, 0, 0, 1, 1], 12)


@pytest.mark.parametrize(
    "column,said",
    [
        (LABEL, "a copy of"),
        (1 - LABEL, "a copy of"),
        (LABEL * 7.5 + 3, "a copy of"),
        (np.tile([0, 1, 2], 20) * (1 - LABEL) + 5 * LABEL, "with its values merged a copy of"),
        (LABEL + 2 * (np.arange(60) % 2), "with its values merged a copy of"),
        (np.arange(60), ""),  # a number of its own for each patient fits any label
        (np.where(np.arange(60) < 8, np.arange(60) // 2, np.arange(60)), ""),  # four pairs of equal class are chance
        (np.where(np.arange(60) == 59, 1 - LABEL, LABEL), ""),  # one exception: audit's part
        (np.zeros(60), ""),
        (np.tile([0, 1], 30), ""),
    ],
)
def test_disguises(column, said):
    assert disguise(column.astype(float), LABEL) == said


def test_merged_classes_are_seen_in_a_label_of_several():
    stage = np.repeat([0, 1, 2, 3], 15)
    assert disguise((stage >= 2).astype(float), stage) == "a copy of merged classes of"
    assert disguise(np.tile([0.0, 1, 0, 1, 1], 12), stage) == ""


def test_few_patients_and_one_class_say_nothing():
    assert disguise(LABEL[30:39].astype(float), LABEL[30:39]) == ""
    assert disguise(np.tile([0.0, 1], 20), np.zeros(40)) == ""


def test_random_columns_are_hardly_ever_refused():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        n = int(rng.integers(10, 60))
        label = (rng.random(n) < rng.uniform(0.05, 0.5)).astype(int)
        column = rng.integers(0, rng.integers(2, 30), n).astype(float)
        if len(np.unique(column)) > 2:
            assert not disguise(column, label)


@pytest.fixture
def leak(tmp_path, write_made_store):
    """A store whose column c1 has four values, two for each class of the label."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 80)
    values = np.stack([rng.normal(size=80), 2 * y + rng.integers(0, 2, 80)], 1).astype(float)
    values[rng.random(values.shape) < 0.2] = np.nan
    return write_made_store(tmp_path / "s.h5", {"y": y}, tables={"t": values})


def settings(source, out, **given):
    values = {"stores": [source], "out": out, "table": "t", "method": "mice", "quiet": True, **given}
    return fill(ImputeSettings, values)


def test_a_label_column_is_refused_and_with_the_flag_allowed_and_recorded(leak, tmp_path):
    out = tmp_path / "o.h5"
    with pytest.raises(RequestError, match=r"'c1' is with its values merged a copy of the label 'y'.*--allow-label"):
        run(settings(leak, out))
    assert not out.exists()
    outcome = run(settings(leak, out, allow_label_column=True))
    assert "too good: column 'c1'" in outcome.message and len(outcome.data["label_columns"]) == 1
    with Store(out) as store:
        assert "c1" in store.imputed("t", "mice", "cv", 0)[1]["label_columns"]
        assert store.request["allow_label_column"] is True
    with pytest.raises(RequestError, match=r"allow_label_column: true there, false now|merged a copy"):
        run(settings(leak, out))
    with pytest.raises(RequestError, match="merged a copy"):
        run(settings(leak, tmp_path / "b", benchmark=True, method="mean"))
    given = {"benchmark": True, "method": "mean", "allow_label_column": True, "dry_run": True}
    assert "would compare mean" in run(settings(leak, tmp_path / "b", **given)).message


def test_a_column_too_thin_for_its_model_is_named(tmp_path, write_made_store):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(80, 3))
    values[4:, 1] = np.nan
    source = write_made_store(tmp_path / "s.h5", {"y": rng.integers(0, 2, 80)}, tables={"t": values})
    message = run(settings(source, tmp_path / "o.h5")).message
    assert "fewer than 5 training patients in some fold have c1: filled there as by `mean`" in message
    assert "c0" not in message and "c2" not in message


def test_several_methods_need_the_benchmark(leak, tmp_path):
    with pytest.raises(RequestError, match="--method mice,mean: one imputer fills a table"):
        run(settings(leak, tmp_path / "o.h5", method="mice,mean"))
