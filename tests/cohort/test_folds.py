"""Fold sets: nobody tested twice, no group split, classes even, the same bits for ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from mmcli.cohort.folds import _carve, fold_problems, given_folds, make_folds
from mmcli.store.parts import TEST, TRAIN, VALIDATION

FIXED = [
    "131131",
    "113131",
    "132311",
    "311312",
    "321231",
    "321311",
    "113322",
    "131113",
    "213113",
    "113231",
    "311113",
    "232123",
]


def names(n: int) -> list[str]:
    return [f"P{i:05d}" for i in range(n)]


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[list[str], np.ndarray, list[str] | None, dict]:
    n = draw(st.integers(2, 6))
    size = draw(st.integers(10 * n, 120))
    seed = draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    strata = rng.integers(-1, draw(st.integers(1, 4)), size)
    grouped = draw(st.booleans())
    group = [f"g{g}" for g in rng.integers(0, 4 * n, size)] if grouped else None
    if group is not None:
        group[: 2 * n] = [f"g{g}" for g in range(2 * n)]
    setting = {
        "n": n,
        "repeats": draw(st.integers(1, 3)),
        "validation": draw(st.sampled_from([0.1, 0.2, 0.3, 0.5])),
        "seed": seed,
    }
    return names(size), strata, group, setting


@settings(max_examples=80, deadline=None)
@given(cohorts())
def test_every_patient_is_tested_once_a_repeat_and_no_group_is_split(cohort) -> None:
    ids, strata, group, setting = cohort
    roles = make_folds(ids, strata, group, **setting)
    n, repeats = setting["n"], setting["repeats"]
    assert roles.dtype == np.int8 and roles.shape == (len(ids), n * repeats)
    assert set(np.unique(roles)) <= {TRAIN, VALIDATION, TEST}
    for repeat in range(repeats):
        assert ((roles[:, repeat * n : (repeat + 1) * n] == TEST).sum(axis=1) == 1).all()
    assert fold_problems(roles) == []
    for k in range(n * repeats):
        if group is not None:
            held: dict[str, set[int]] = {}
            for g, role in zip(group, roles[:, k], strict=True):
                held.setdefault(g, set()).add(int(role))
            assert all(len(r) == 1 for r in held.values())
        else:
            for c in np.unique(strata):
                mine = roles[strata == c, k]
                # A naive bound: a class is dealt to n folds like cards.
                assert abs((mine == TEST).sum() - len(mine) / n) < 1
                rest = int((mine != TEST).sum())
                assert abs((mine == VALIDATION).sum() - setting["validation"] * rest) <= 1
                if rest >= 2:
                    assert (mine == VALIDATION).any() and (mine == TRAIN).any()
            sizes = [(roles[:, f] == TEST).sum() for f in range(n)]
            assert max(sizes) - min(sizes) <= 1


@settings(max_examples=30, deadline=None)
@given(cohorts(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(cohort, random) -> None:
    ids, strata, group, setting = cohort
    order = list(range(len(ids)))
    random.shuffle(order)
    roles = make_folds(ids, strata, group, **setting)
    shuffled = make_folds(
        [ids[i] for i in order], strata[order], [group[i] for i in order] if group else None, **setting
    )
    assert (shuffled == roles[order]).all()


def test_bits_are_fixed() -> None:
    # Written down once: another numpy, pandas or scikit-learn must not move a patient.
    roles = make_folds(names(12), np.arange(12) % 2, None, n=3, repeats=2, validation=0.25, seed=7)
    assert ["".join(map(str, row)) for row in roles] == FIXED


def test_seeds_and_repeats_differ() -> None:
    strata = np.arange(100) % 3
    a = make_folds(names(100), strata, None, n=5, repeats=2, validation=0.2, seed=0)
    b = make_folds(names(100), strata, None, n=5, repeats=2, validation=0.2, seed=1)
    assert (a != b).any() and (a[:, :5] != a[:, 5:]).any()
    # More repeats add folds and leave the first ones as they are.
    more = make_folds(names(100), strata, None, n=5, repeats=3, validation=0.2, seed=0)
    assert (more[:, :10] == a).all()


@pytest.mark.parametrize("seed", range(5))
def test_as_even_as_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.choice(4, size=237, p=[0.6, 0.25, 0.1, 0.05])
    roles = make_folds(names(237), y, None, n=5, repeats=1, validation=0.2, seed=seed)
    ours = np.array([np.bincount(y[roles[:, k] == TEST], minlength=4) for k in range(5)])
    theirs = np.array(
        [np.bincount(y[test], minlength=4) for _, test in StratifiedKFold(5, shuffle=True, random_state=0).split(y, y)]
    )
    assert (np.sort(ours, axis=0) == np.sort(theirs, axis=0)).all()


@pytest.mark.parametrize("seed", range(8))
def test_groups_as_even_as_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 25, 40)
    group = np.repeat(np.arange(40), sizes)
    y = (rng.random(len(group)) < rng.uniform(0.1, 0.5, 40)[group]).astype(int)
    roles = make_folds(names(len(y)), y, [f"s{g}" for g in group], n=5, repeats=1, validation=0.2, seed=seed)

    def spread(folds: list[np.ndarray]) -> float:
        counts = np.array([np.bincount(y[test], minlength=2) for test in folds]) / np.bincount(y)
        return float(counts.std(axis=0).mean())

    ours = spread([np.flatnonzero(roles[:, k] == TEST) for k in range(5)])
    # Without shuffling it sorts by size and is at its best.
    theirs = spread([test for _, test in StratifiedGroupKFold(5).split(y, y, group)])
    assert ours <= max(1.5 * theirs, 0.01)
    shares = [(roles[:, k] == VALIDATION).sum() / (roles[:, k] != TEST).sum() for k in range(5)]
    assert np.abs(np.array(shares) - 0.2).max() < 0.05


def test_patients_without_a_group_are_groups_of_their_own() -> None:
    roles = make_folds(names(40), None, [""] * 40, n=4, repeats=1, validation=0.2, seed=0)
    assert [(roles[:, k] == TEST).sum() for k in range(4)] == [10] * 4


def test_carve_by_hand() -> None:
    keys = np.arange(10, dtype=np.uint64)
    classes = np.array([0] * 8 + [1] * 2)
    # round(.25 * 8) = 2 of class 0 and, of class 1 with two patients, at least one: those with the smallest keys.
    assert _carve(classes, None, keys, 0.25).tolist() == [0, 1, 8]
    # Groups of 5, 3 and 2: shares of the whole .5, .3, .2; only the last comes nearest to a fifth.
    groups = np.array([0] * 5 + [1] * 3 + [2] * 2)
    assert _carve(np.zeros(10, dtype=np.int64), groups, keys, 0.2).tolist() == [8, 9]
    assert _carve(np.zeros(4, dtype=np.int64), np.zeros(4, dtype=np.int64), keys[:4], 0.2).tolist() == []


def test_given_roles_stay_and_a_fifth_is_taken_without_validation() -> None:
    roles = np.array([TRAIN] * 20 + [TEST] * 5 + [0] * 2, dtype=np.int8)
    strata = np.array([0] * 15 + [1] * 5 + [0] * 7)
    out = given_folds(names(27), roles, strata, None)
    assert out.shape == (27, 1)
    assert (out[:15, 0] == VALIDATION).sum() == 3 and (out[15:20, 0] == VALIDATION).sum() == 1
    assert (out[20:, 0] == roles[20:]).all()
    roles[0] = VALIDATION
    assert (given_folds(names(27), roles, strata, None)[:, 0] == roles).all()


def test_repeats_of_a_given_split_test_the_same_and_validate_others() -> None:
    roles = np.array([TRAIN] * 40 + [TEST] * 10, dtype=np.int8)
    strata = np.arange(50) % 2
    out = given_folds(names(50), roles, strata, None, repeats=5)
    assert out.shape == (50, 5) and (out[40:] == TEST).all()
    assert ((out == VALIDATION).sum(0) == 8).all()
    assert len({tuple(column) for column in out.T}) == 5
    # The first is what one alone would be.
    assert (out[:, :1] == given_folds(names(50), roles, strata, None)).all()


def test_given_roles_keep_groups_whole() -> None:
    roles = np.full(30, TRAIN, dtype=np.int8)
    group = [f"g{i // 3}" for i in range(30)]
    out = given_folds(names(30), roles, None, group)[:, 0]
    assert (out == VALIDATION).sum() == 6
    assert (out.reshape(10, 3) == out.reshape(10, 3)[:, :1]).all()
