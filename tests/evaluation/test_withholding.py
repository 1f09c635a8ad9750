from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcli.errors import RequestError
from mmcli.evaluation.withholding import STRENGTH, hidden_at, hidden_from, parse_withhold
from mmcli.training.withhold import withheld

IDS = [f"p{i}" for i in range(600)]
SHARES = (0.0, 0.1, 0.37, 0.5, 0.8, 0.999, 1.0)
VALUES = np.random.default_rng(0).normal(size=600)
SITES = np.random.default_rng(1).choice(["A", "B", "C", "D", "E"], 600, p=[0.4, 0.25, 0.2, 0.1, 0.05])
KINDS: dict[str, Any] = {"random": None, "numbers": VALUES, "groups": SITES}


def test_completely_at_random_is_the_rule_of_training() -> None:
    column = hidden_from(IDS, "markers", 3)
    for share in SHARES:
        np.testing.assert_array_equal(hidden_at(column, share), withheld(IDS, "markers", share, 3))
    np.testing.assert_array_equal(hidden_from(IDS[:50], "markers", 3), column[:50])  # on nobody else


@pytest.mark.parametrize("kind", KINDS)
def test_nested_whoever_comes_first(kind: str) -> None:
    by = KINDS[kind]
    column = hidden_from(IDS, "markers", 0, by)
    masks = [hidden_at(column, share) for share in SHARES]
    assert not masks[0].any() and masks[-1].all()
    assert all((b | ~a).all() for a, b in pairwise(masks))
    order = np.random.default_rng(5).permutation(600)
    again = hidden_from([IDS[i] for i in order], "markers", 0, None if by is None else by[order])
    np.testing.assert_array_equal(again, column[order])
    np.testing.assert_array_equal(hidden_from(IDS, "markers", 0, by), column)
    assert (hidden_from(IDS, "markers", 1, by) != column).any() and (hidden_from(IDS, "ct", 0, by) != column).any()


@given(
    n=st.integers(3, 80), share=st.floats(0, 1), seed=st.integers(0, 99), kind=st.sampled_from(["numbers", "groups"])
)
def test_the_share_is_exact_to_the_nearest_patient(n: int, share: float, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    by = rng.integers(0, 4, n).astype(float) if kind == "numbers" else rng.choice(["A", "B", ""], n)
    if kind == "numbers":
        by[rng.random(n) < 0.3] = np.nan
        by[:2] = 0, 1
    else:
        by[:2] = "A", "B"
    hidden = hidden_at(hidden_from([f"q{i}" for i in range(n)], "ct", seed, by), share).sum()
    assert abs(hidden - share * n) <= 0.5 + 1e-9


def test_high_values_lose_it_by_the_logistic_model() -> None:
    """At each share a logistic regression on the normal scores finds the slope; who has no value is between."""
    from sklearn.linear_model import LogisticRegression

    n = 20_000
    ids = [str(i) for i in range(n)]
    values = np.random.default_rng(3).normal(size=n)
    column = hidden_from(ids, "ct", 0, np.exp(values))  # ranks alone count
    np.testing.assert_array_equal(column, hidden_from(ids, "ct", 0, values))
    for share in (0.2, 0.5, 0.8):
        hidden = hidden_at(column, share)
        assert np.corrcoef(hidden, values)[0, 1] > 0.4
        slope = LogisticRegression(C=1e6).fit(values[:, None], hidden).coef_[0, 0]
        assert slope == pytest.approx(STRENGTH, rel=0.06)
    some = np.where(np.arange(n) % 3 == 0, np.nan, values)
    hidden = hidden_at(hidden_from(ids, "ct", 0, some), 0.5)
    low, unknown, high = (hidden[m].mean() for m in (some < -0.5, np.isnan(some), some > 0.5))
    assert low < 0.25 and abs(unknown - 0.5) < 0.03 and high > 0.75


def test_groups_go_one_after_another() -> None:
    column = hidden_from(IDS, "ct", 0, SITES)
    for share in SHARES:
        shares = [hidden_at(column, share)[s == SITES].mean() for s in "ABCDE"]
        assert sum(0 < x < 1 for x in shares) <= 1  # the last one partly
    order = sorted("ABCDE", key=lambda s: column[s == SITES].min())
    assert order != sorted("ABCDE", key=lambda s: hidden_from(IDS, "ct", 4, SITES)[s == SITES].min())
    alone = hidden_from(IDS[:40], "ct", 0, [""] * 40)  # each a group of one: the order of their fractions
    np.testing.assert_array_equal(np.argsort(alone), np.argsort(hidden_from(IDS[:40], "ct", 0)))


def test_a_column_that_says_nothing_is_refused() -> None:
    for by in ([1.0] * 5, [np.nan] * 5, [np.nan, 2.0, 2.0, 2.0, 2.0]):
        with pytest.raises(RequestError, match="--withhold-by: the column has the same value"):
            hidden_from(IDS[:5], "ct", 0, by)
    with pytest.raises(RequestError, match="--withhold-by: all patients are of one group"):
        hidden_from(IDS[:5], "ct", 0, ["A"] * 5)
    with pytest.raises(ValueError, match="for 5 patients"):
        hidden_from(IDS[:5], "ct", 0, [1.0])


def test_parse() -> None:
    assert parse_withhold({"ct": "0.5, 0,1,0.5", "slide": "0.8"}, ["ct", "slide"]) == {
        "ct": [0.0, 0.5, 1.0], "slide": [0.8],
    }  # fmt: skip


@pytest.mark.parametrize("given_, message", [
    ({"slides": "0.5"}, "unknown modality 'slides'; did you mean 'slide'"),
    ({"ct": "0,1.5"}, r"--withhold ct=1.5: the share must be a number from 0 to 1"),
    ({"ct": "half"}, "from 0 to 1"), ({"ct": "0,,1"}, "from 0 to 1"), ({"ct": ""}, "from 0 to 1"),
    ({"ct": "nan"}, "from 0 to 1"),
])  # fmt: skip
def test_wrong(given_: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        parse_withhold(given_, ["ct", "slide"])
