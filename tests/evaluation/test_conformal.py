"""Conformal sets against hand-worked ones, the definition, and their promise over simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmcli.evaluation.conformal import Conformal, told
from mmcli.metrics.metric import Floats, Ints, weighted_mean


def made(generator: np.random.Generator, n: int, classes: int = 3, sharpness: float = 1.0) -> tuple[Ints, Floats]:
    y = generator.choice(classes, n, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    p = np.exp(sharpness * np.eye(classes)[y] + generator.normal(size=(n, classes)))
    return y, p / p.sum(axis=1, keepdims=True)


def test_by_hand() -> None:
    # Nine patients, probabilities of their class 0.1 to 0.9; ceil(10 * 0.8) = 8 of them reach 0.2.
    own = np.arange(1, 10) / 10
    y = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0])
    p = np.where(np.arange(2) == y[:, None], own[:, None], 1 - own[:, None])
    conformal = Conformal.fit(y, p, 0.8)
    assert conformal.limit == 0.2
    three = np.array([[0.5, 0.5], [0.2, 0.8], [0.19, 0.81]])
    assert conformal.sets(three).tolist() == [[True, True], [True, True], [False, True]]
    # Half of them may be missed: ceil(10 * 0.5) = 5 reach 0.5.
    assert Conformal.fit(y, p, 0.5).limit == 0.5
    # With 0.5 and two classes, a set can be empty only where neither reaches the limit.
    assert Conformal(0.6).sets(three)[0].tolist() == [False, False]


def test_too_few_patients_promise_everything() -> None:
    y, p = made(np.random.default_rng(0), 8)
    assert Conformal.fit(y, p, 0.9).sets(p).all()
    assert Conformal.fit(y[:0], p[:0], 0.5).sets(p).all()
    y, p = made(np.random.default_rng(0), 9)
    assert Conformal.fit(y, p, 0.9).limit == p[np.arange(9), y].min()


@settings(deadline=None)
@example(99, 0.07, 0)
@given(st.integers(1, 200), st.sampled_from([0.07, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99]), st.integers(0, 2**31))
def test_is_the_quantile_of_the_definition(n: int, coverage: float, seed: int) -> None:
    y, p = made(np.random.default_rng(seed), n)
    scores = np.sort(1 - p[np.arange(n), y])
    # Whole numbers, to be spared 100 * 0.07 = 7.000000000000001.
    rank = -((-(n + 1) * round(coverage * 100)) // 100)
    limit = scores[rank - 1] if rank <= n else math.inf
    expected = 1 - p <= limit
    found = Conformal.fit(y, p, coverage).sets(p)
    assert (found == expected)[np.abs(1 - p - limit) > 1e-12].all()
    assert rank > n or found[np.arange(n), y].sum() == rank


@pytest.mark.parametrize(("n", "coverage"), [(19, 0.9), (30, 0.8), (9, 0.9)])
def test_coverage_is_exact(n: int, coverage: float) -> None:
    """Over studies, the coverage is ceil((n + 1) coverage) / (n + 1): between the promise and 1 / (n + 1) above it."""
    generator = np.random.default_rng(n)
    studies = 4000
    held = []
    for _ in range(studies):
        y, p = made(generator, n + 5)
        sets = Conformal.fit(y[:n], p[:n], coverage).sets(p[n:])
        held.append(told(sets, y[n:])[0].mean())
    expected = math.ceil((n + 1) * coverage - 1e-9) / (n + 1)
    assert coverage <= expected <= coverage + 1 / (n + 1)
    error = np.std(held) / math.sqrt(studies)
    assert abs(np.mean(held) - expected) < 4 * error


def test_what_sets_say() -> None:
    sets = np.array([[True, False, False], [True, True, False], [False, False, False], [False, False, True]])
    y = np.array([0, 2, 1, 1])
    held, size, single, empty = told(sets, y)
    assert held.tolist() == [1, 0, 0, 0]
    assert size.tolist() == [1, 2, 0, 1]
    assert single.tolist() == [1, 0, 0, 1]
    assert empty.tolist() == [0, 0, 1, 0]
    w = np.array([[1.0, 1, 1, 1], [3, 1, 0, 0], [0, 0, 0, 0]])
    assert weighted_mean(held, w) == pytest.approx([0.25, 0.75, math.nan], nan_ok=True)
    assert weighted_mean(size, w) == pytest.approx([1.0, 1.25, math.nan], nan_ok=True)
