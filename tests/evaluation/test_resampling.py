"""The weights of the bootstrap and of the jackknife."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcli.evaluation.resampling import CHUNK_BYTES, Design, counts, jackknife, resample

DESIGNS = {
    "patients": Design.rows(37),
    "strata": Design.rows(37, np.arange(37) % 3),
    "clusters": Design(np.arange(37) // 4),
    "clusters in strata": Design(np.arange(37) // 4, np.array([5, 5, 5, 0, 0, 0, 0, -1, -1, -1])),
}


def all_rows(design: Design, resamples: int, seed: int, chunk_bytes: int = 1 << 20) -> np.ndarray:
    return np.concatenate(list(resample(design, resamples, seed, chunk_bytes)))


def left_out(design: Design, **options: int) -> np.ndarray:
    return np.concatenate(list(jackknife(design, **options)))


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
@pytest.mark.parametrize("chunk_bytes", [1, 8 * 37 * 3, 8 * 37 * 7, 1 << 30])
def test_blocks_do_not_change_the_rows(design: Design, chunk_bytes: int) -> None:
    rows = all_rows(design, 50, seed=3, chunk_bytes=chunk_bytes)
    np.testing.assert_array_equal(rows, all_rows(design, 50, seed=3))
    assert rows.shape == (50, 37)
    np.testing.assert_array_equal(left_out(design, chunk_bytes=chunk_bytes), left_out(design))


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_seed_decides_and_a_longer_bootstrap_begins_with_the_shorter(design: Design) -> None:
    np.testing.assert_array_equal(all_rows(design, 30, 1), all_rows(design, 90, 1)[:30])
    assert (all_rows(design, 30, 1) != all_rows(design, 30, 2)).any()


@pytest.mark.parametrize("units", [10, 100])
def test_blocks_stay_within_memory(units: int) -> None:
    """Few units with many rows too: it is the rows' weights that a block holds."""
    design = Design(np.arange(100) % units)
    assert max(len(block) for block in resample(design, 1000, 0, chunk_bytes=8 * 100 * 13)) == 13
    assert max(len(block) for block in jackknife(design, chunk_bytes=8 * 100 * 3)) == 3


@pytest.mark.parametrize("strata", [None, np.arange(100_000) % 2])
def test_many_patients_in_bounded_memory(strata: np.ndarray | None) -> None:
    tracemalloc.start()
    design = Design.rows(100_000, strata)
    total = sum(block.sum() for block in resample(design, 60, 0))
    total += sum(block.sum() for block in jackknife(design, most=60))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == pytest.approx(60 * 1e5 + 60 * 1e5 - (1e5 if strata is None else 0))
    assert peak < 5 * CHUNK_BYTES


def test_counts_by_hand() -> None:
    np.testing.assert_array_equal(counts(np.array([[0, 0, 2], [1, 2, 2]])), [[2, 0, 1], [0, 1, 2]])


def test_counts_are_multinomial() -> None:
    """Mean 1, variance 1 - 1/n, covariance -1/n of two patients."""
    rows = all_rows(Design.rows(10), 40_000, seed=0)
    np.testing.assert_allclose(rows.mean(axis=0), 1.0, atol=0.03)
    np.testing.assert_allclose(np.cov(rows.T), np.eye(10) - 0.1, atol=0.04)


def test_strata_keep_their_sizes_and_are_drawn_apart() -> None:
    strata = np.array([1, 0, 1, 1, 0, 7])
    rows = all_rows(Design.rows(6, strata), 40_000, seed=0)
    for stratum, size in ((0, 2), (1, 3), (7, 1)):
        assert (rows[:, strata == stratum].sum(axis=1) == size).all()
    expected = np.where(strata[:, None] == strata, np.eye(6) - 1 / np.array([3, 2, 3, 3, 2, 1]), 0.0)
    np.testing.assert_allclose(np.cov(rows.T), expected, atol=0.04)


def test_rows_of_a_cluster_come_together() -> None:
    units = np.array([0, 2, 1, 0, 2, 2])
    rows = all_rows(Design(units), 200, seed=0)
    of_units = np.stack([rows[:, 0], rows[:, 2], rows[:, 1]], axis=1)
    np.testing.assert_array_equal(rows, of_units[:, units])
    assert (of_units.sum(axis=1) == 3).all()
    np.testing.assert_array_equal(of_units, all_rows(Design.rows(3), 200, seed=0))


def test_strata_must_cover_the_units() -> None:
    with pytest.raises(ValueError, match="unit 3"):
        Design(np.array([0, 3]), np.zeros(3, dtype=np.int64))


def test_jackknife_leaves_each_unit_out_once() -> None:
    np.testing.assert_array_equal(left_out(Design.rows(5)), 1 - np.eye(5))
    np.testing.assert_array_equal(left_out(Design(np.array([0, 1, 1]))), [[0, 1, 1], [1, 0, 0]])
    within = left_out(Design.rows(6, np.array([0, 0, 0, 1, 1, 2])))
    np.testing.assert_allclose(
        within,
        [[0, 1.5, 1.5, 1, 1, 1], [1.5, 0, 1.5, 1, 1, 1], [1.5, 1.5, 0, 1, 1, 1], [1, 1, 1, 0, 2, 1],
         [1, 1, 1, 2, 0, 1]],
    )  # fmt: skip


@given(st.integers(1, 60), st.integers(1, 4), st.integers(2, 20))
def test_groups_of_the_jackknife_are_even(n: int, strata: int, most: int) -> None:
    labels = np.arange(n) % strata
    for design in (Design.rows(n), Design.rows(n, labels)):
        rows = left_out(design, most=most)
        out = rows == 0
        alone = 0 if design.strata is None else int((np.bincount(labels) == 1).sum())
        assert len(rows) == min(n - alone, most)
        assert (out.sum(axis=0) <= 1).all()
        assert out.sum() == n - alone
        assert not len(rows) or np.ptp(out.sum(axis=1)) <= 1
        if design.strata is not None and len(rows):
            for stratum in range(min(n, strata)):
                own = labels == stratum
                assert np.ptp(out[:, own].sum(axis=1)) <= 1
                np.testing.assert_allclose(rows[:, own].sum(axis=1), own.sum())


def test_an_empty_block_where_nobody_can_be_left_out() -> None:
    assert left_out(Design.rows(2, np.array([0, 1]))).shape == (0, 2)
    assert all_rows(Design.rows(3), 0, 0).shape == (0, 3)


def test_groups_give_the_variance_and_the_skewness_of_single_units() -> None:
    """Of a mean: the sums of squares and cubes that BCa's acceleration is made of."""
    x = np.random.default_rng(0).exponential(size=20_000)
    n, most = len(x), 2000
    values = np.concatenate([(w @ x) / w.sum(axis=1) for w in jackknife(Design.rows(n), most=most)])
    d = (values.mean() - values) * (n - n / most)
    assert (d**2).sum() / (n * x.var()) == pytest.approx(1, abs=0.15)
    assert (d**3).sum() / (n * ((x - x.mean()) ** 3).mean()) == pytest.approx(1, abs=0.5)
