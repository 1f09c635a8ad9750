"""Each measure against SciPy, scikit-learn, or the patients written out as often as they were drawn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp, wasserstein_distance
from sklearn.metrics import balanced_accuracy_score

from mmcli.evaluation.imputation import measures
from mmcli.evaluation.imputation.measures import Correlations

PATIENTS, CELLS, RESAMPLES = 30, 80, 6


@pytest.fixture
def drawn():
    """Cells of patients (some have several), and resampling weights: everybody once, then resamples."""
    rng = np.random.default_rng(3)
    patient = rng.integers(0, PATIENTS, CELLS)
    w = np.concatenate([np.ones((1, PATIENTS)), rng.multinomial(PATIENTS, np.full(PATIENTS, 1 / PATIENTS), RESAMPLES)])
    return rng, patient, w.astype(float)


def written_out(patient: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The cells' indices, each as often as its patient was drawn."""
    return np.repeat(np.arange(len(patient)), weights[patient].astype(int))


def test_shares(drawn):
    rng, patient, w = drawn
    hit = rng.random(CELLS)
    found = measures.share_of(hit, patient, w)
    np.testing.assert_allclose(found, [hit[written_out(patient, x)].mean() for x in w], rtol=1e-12)


def test_nobody_drawn_is_undefined():
    assert np.isnan(measures.share_of(np.ones(2), np.array([0, 0]), np.array([[0.0, 3.0]]))).all()


def test_balanced_accuracy_is_scikit_learns(drawn):
    rng, patient, w = drawn
    truth = rng.integers(0, 3, CELLS).astype(float)
    got = np.where(rng.random(CELLS) < 0.6, truth, rng.integers(0, 4, CELLS)).astype(float)
    found = measures.balanced(truth, got, patient, w)
    for x, value in zip(w, found, strict=True):
        i = written_out(patient, x)
        recalls = [(got[i][truth[i] == c] == c).mean() for c in np.unique(truth[i])]
        assert value == pytest.approx(np.mean(recalls), rel=1e-12)
        if set(got[i]) <= set(truth[i]):
            assert value == pytest.approx(balanced_accuracy_score(truth[i], got[i]), rel=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_distances_are_scipys(drawn, ties):
    rng, patient, w = drawn
    truth, got = rng.normal(size=CELLS), 0.5 + 2 * rng.normal(size=CELLS)
    if ties:
        truth, got = truth.round(), got.round()
    w1, ks = measures.distances(truth, got, patient, w)
    for b, x in enumerate(w):
        i = written_out(patient, x)
        assert w1[b] == pytest.approx(wasserstein_distance(truth[i], got[i]), rel=1e-10)
        assert ks[b] == pytest.approx(ks_2samp(truth[i], got[i]).statistic, rel=1e-10)


def test_nineteen_exchangeable_draws_cover_nine_of_ten():
    values = np.random.default_rng(0).normal(size=(20, 40_000))
    covered = measures.covered(values[0], values[1:])
    assert covered.mean() == pytest.approx(0.9, abs=0.005)
    np.testing.assert_array_equal(covered, (values[0] >= values[1:].min(0)) & (values[0] <= values[1:].max(0)))
    values = np.random.default_rng(0).normal(size=(41, 40_000))
    assert measures.covered(values[0], values[1:]).mean() == pytest.approx(0.9, abs=0.006)
    assert measures.covered(values[0], values[1:19]) is None


def test_coverage_of_equal_draws_holds_the_value_itself():
    draws = np.full((40, 3), 0.1)
    np.testing.assert_array_equal(measures.covered(np.array([0.1, 0.1 + 1e-6, 0.0]), draws), [1, 0, 0])


def test_correlations_are_numpys_over_the_rows_that_have_both(drawn):
    rng, _, w = drawn
    rows, patient = 60, rng.integers(0, PATIENTS, 60)
    true = rng.normal(size=(rows, 3)) @ rng.normal(size=(3, 3)) + 1000
    true[rng.random(true.shape) < 0.15] = np.nan
    imputed = np.where(rng.random(true.shape) < 0.3, true + rng.normal(size=true.shape), true)
    imputed[:, 1] = np.where(np.isnan(true[:, 1]), np.nan, 7.0)  # a constant has lost all correlation
    pairs = Correlations.of(true, patient, [0, 1, 2])
    own, total = measures.correlation_change(pairs, true, imputed, w, 4)
    for b, x in enumerate(w):
        i = written_out(patient, x)
        change = np.zeros((3, 3))
        for j, k in ((0, 1), (0, 2), (1, 2)):
            both = i[~np.isnan(true[i, j] + true[i, k])]
            now = 0.0 if 1 in (j, k) else np.corrcoef(imputed[both, j], imputed[both, k])[0, 1]
            change[j, k] = change[k, j] = abs(now - np.corrcoef(true[both, j], true[both, k])[0, 1])
        assert total[b] == pytest.approx(change[np.triu_indices(3, 1)].mean(), rel=1e-8)
        np.testing.assert_allclose(own[:3, b], change.sum(1) / 2, rtol=1e-8)
    assert np.isnan(own[3]).all()


def test_what_is_not_changed_has_changed_no_correlation(drawn):
    rng, _, w = drawn
    values = rng.normal(size=(PATIENTS, 4))
    pairs = Correlations.of(values, np.arange(PATIENTS), [0, 1, 3])
    assert measures.correlation_change(pairs, values, values.copy(), w, 4)[1].max() == 0
