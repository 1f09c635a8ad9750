from __future__ import annotations

import numpy as np
import pytest

from mmcli.store import Table
from mmcli.store.parts import ColumnKind
from mmcli.training.preparing import LatentScaler, TableEncoder

NAN = np.nan


def a_table(values: list[list[float]], categories: list[str] | None = None) -> Table:
    array = np.array(values, float)
    observed = ~np.isnan(array)
    names = {"grade": ["G1", "G2", "G3"], "site": categories or ["A", "B", "C"]}
    kinds: list[ColumnKind] = ["numeric", "ordinal", "categorical"]
    return Table(["x", "grade", "site"], kinds, names, observed.any(1), array, observed)


def test_columns_by_hand() -> None:
    """Rows 0-3 train: x = 1, 3, hole, 5 (mean 3, sd sqrt(8/3)); grade 0, 2, 0, 2 (mean 1, sd 1); site A, A, B, hole."""
    table = a_table([[1, 0, 0], [3, 2, 0], [NAN, 0, 1], [5, 2, NAN], [1e9, 1, 2], [NAN, NAN, NAN]])
    encoder = TableEncoder.fit(table, np.arange(4))
    assert encoder.encoded == ["x", "grade", "site=A", "site=B"]
    values, observed = encoder.encode(table)
    sd = np.sqrt(8 / 3)
    expected = [
        [-2 / sd, -1, 1 / 3, -1 / 3],
        [0, 1, 1 / 3, -1 / 3],
        [0, -1, -2 / 3, 2 / 3],
        [2 / sd, 1, 0, 0],
        [6, 0, 0, 0],  # cut off at 6 sd; site C was not in training and counts as not observed
        [0, 0, 0, 0],
    ]
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert observed.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert encoder.unknown(table) == ["site=C"]


def test_categories_go_by_name_and_not_by_code() -> None:
    table = a_table([[1, 0, 0], [3, 2, 1]])
    encoder = TableEncoder.fit(table, np.arange(2))
    other = a_table([[1, 0, 2], [3, 2, 0]], categories=["B", "new", "A"])
    np.testing.assert_array_equal(encoder.encode(table)[0], encoder.encode(other)[0])


def test_an_imputers_answers_are_encoded_draw_by_draw_and_stay_unobserved() -> None:
    table = a_table([[1, 0, 0], [3, 2, 1], [NAN, 0, NAN]])
    encoder = TableEncoder.fit(table, np.arange(2))
    draws = np.repeat(table.values[None], 2, 0)
    draws[:, 2, 0], draws[:, 2, 2] = [3, 5], [0, 1]
    values, observed = encoder.encode(table, draws)
    assert values[2] == pytest.approx([2, -1, 0, 0])  # (1 + 3) / 2; the mean of A and B is the training share
    assert observed[2].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("unit", [1e-250, 1e-12, 1e200])
def test_a_columns_unit_does_not_matter(unit: float) -> None:
    rows = [[1, 0, 0], [3, 2, 1], [NAN, 0, 1], [-5, 2, 1]]
    plain = a_table(rows)
    other = a_table([[x * unit, *rest] for x, *rest in rows])
    ours, theirs = (TableEncoder.fit(t, np.arange(4)).encode(t)[0] for t in (other, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert np.ptp(ours[:, 0]) > 2


def test_what_is_constant_or_never_observed_is_zero() -> None:
    table = a_table([[0.1, 0, NAN], [0.1, 0, NAN], [7, 1, 0]])
    values, observed = (encoder := TableEncoder.fit(table, np.arange(2))).encode(table)
    assert (values == 0).all() and encoder.encoded == ["x", "grade"]
    assert observed[2].tolist() == [1, 1]


def test_latents() -> None:
    rng = np.random.default_rng(0)
    bags = [rng.normal(3, 2, (k, 4)) for k in (5, 1, 9)]
    for bag in bags:
        bag[:, 3] = 0.7
    scaler = LatentScaler.fit(
        np.array([b.sum(0) for b in bags]), np.array([(b**2).sum(0) for b in bags]), np.array([5, 1, 9])
    )
    whole = np.concatenate(bags)
    np.testing.assert_allclose(scaler.mean, whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(scaler.scale[:3], 1 / whole[:, :3].std(0), rtol=1e-5)
    assert scaler.scale[3] == 0
