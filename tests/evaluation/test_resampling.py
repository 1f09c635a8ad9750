"""The bootstrap's counts."""

from __future__ import annotations

import numpy as np
import pytest

from mmcli.evaluation.resampling import counts, resample


def all_rows(n: int, resamples: int, seed: int, chunk_bytes: int = 1 << 20) -> np.ndarray:
    return np.concatenate(list(resample(n, resamples, seed, chunk_bytes)))


@pytest.mark.parametrize("chunk_bytes", [1, 8 * 37 * 3, 8 * 37 * 7, 1 << 30])
def test_blocks_do_not_change_the_rows(chunk_bytes: int) -> None:
    rows = all_rows(37, 50, seed=3, chunk_bytes=chunk_bytes)
    np.testing.assert_array_equal(rows, all_rows(37, 50, seed=3))
    assert rows.shape == (50, 37)
    assert (rows.sum(axis=1) == 37).all()


def test_blocks_stay_within_memory() -> None:
    assert max(len(block) for block in resample(100, 1000, 0, chunk_bytes=8 * 100 * 13)) == 13


def test_seed_decides_and_a_longer_bootstrap_begins_with_the_shorter() -> None:
    np.testing.assert_array_equal(all_rows(20, 30, 1), all_rows(20, 90, 1)[:30])
    assert (all_rows(20, 30, 1) != all_rows(20, 30, 2)).any()


def test_counts_by_hand() -> None:
    np.testing.assert_array_equal(counts(np.array([[0, 0, 2], [1, 2, 2]])), [[2, 0, 1], [0, 1, 2]])


def test_counts_are_multinomial() -> None:
    """Mean 1, variance 1 - 1/n, covariance -1/n of two patients."""
    rows = all_rows(10, 40_000, seed=0)
    np.testing.assert_allclose(rows.mean(axis=0), 1.0, atol=0.03)
    covariance = np.cov(rows.T)
    np.testing.assert_allclose(covariance, np.eye(10) - 0.1, atol=0.04)
