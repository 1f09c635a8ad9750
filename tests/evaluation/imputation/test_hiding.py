"""Which cells are hidden, and how often."""

from __future__ import annotations

import numpy as np
import pytest

from mmcli.evaluation.imputation.hiding import choose_driver, hide


def made(n: int = 20_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, 3))
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


@pytest.mark.parametrize("way", ["random", "value", "column"])
def test_a_fifth_of_the_observed_cells_goes_and_no_other(way):
    values = made()
    hidden = hide(values, way, np.random.default_rng(1), driver=0)
    assert not hidden[np.isnan(values)].any()
    shares = [hidden[~np.isnan(values[:, j]), j].mean() for j in range(3)]
    expected = [0.0 if way == "column" else 0.2, 0.2, 0.2]
    np.testing.assert_allclose(shares, expected, atol=0.012)


def test_by_own_value_39_percent_of_the_top_tenth_and_2_of_the_bottom_one_go():
    values = made()
    hidden = hide(values, "value", np.random.default_rng(1))
    for j in range(3):
        seen = ~np.isnan(values[:, j])
        low, high = np.quantile(values[seen, j], [0.1, 0.9])
        assert hidden[seen & (values[:, j] > high), j].mean() == pytest.approx(0.397, abs=0.03)
        assert hidden[seen & (values[:, j] < low), j].mean() == pytest.approx(0.016, abs=0.01)


def test_by_another_column_the_patients_with_high_values_there_lose_cells():
    values = made()
    hidden = hide(values, "column", np.random.default_rng(1), driver=2)
    drives = ~np.isnan(values[:, 2])
    assert not hidden[:, 2].any()
    for j in (0, 1):
        seen = ~np.isnan(values[:, j])
        top = drives & seen & (values[:, 2] > np.nanquantile(values[:, 2], 0.9))
        assert hidden[top, j].mean() == pytest.approx(0.397, abs=0.03)
        assert hidden[seen & ~drives, j].mean() == pytest.approx(0.2, abs=0.03)
        # given the driver, the cell's own value does not matter
        assert hidden[top & (values[:, j] > 0), j].mean() == pytest.approx(0.397, abs=0.05)


def test_spared_columns_stay():
    hidden = hide(made(500), "value", np.random.default_rng(1), hideable=np.array([True, False, True]))
    assert hidden[:, 0].any() and not hidden[:, 1].any() and hidden[:, 2].any()


def test_the_driver_is_the_most_observed_column_that_has_an_order():
    nan = np.nan
    values = np.array([[1, 1, 0, 5], [1, nan, 1, 5], [1, 2, nan, 5], [1, 3, 2, 5]], float)
    assert choose_driver(values, ["categorical", "numeric", "ordinal", "numeric"]) == 1
    assert choose_driver(values[:, :1], ["numeric"]) == -1
    assert choose_driver(values[:, [0, 3]], ["numeric", "numeric"]) == -1


def test_an_unknown_way_is_an_error():
    with pytest.raises(ValueError, match="'d'"):
        hide(made(5), "d", np.random.default_rng(0))
