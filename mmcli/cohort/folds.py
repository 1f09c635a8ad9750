"""Fold sets: each patient's role in each fold, over patients or whole groups, stratified, validation carved out."""

from __future__ import annotations

import numpy as np
from numpy.random import PCG64, SeedSequence
from numpy.typing import NDArray

from mmcli.store.parts import TEST, TRAIN, UNUSED, VALIDATION

Ints = NDArray[np.int64]
_TESTING, _VALIDATING = 1, 2
REFINEMENTS = 20


def make_folds(
    ids: list[str],
    strata: Ints | None,
    group: list[str] | None,
    *,
    n: int,
    repeats: int,
    validation: float,
    seed: int,
) -> NDArray[np.int8]:
    """Roles (patients, n * repeats) int8; fold `repeat * n + fold`. Every patient is tested once a repeat.

    `strata` (patients,) are class indices, any one value (-1, no label) a stratum of its own; `group` names are
    never split over two roles of a fold ("" is a group of its own). `validation` is the share of the patients
    outside test. Roles depend on ids, strata, groups and seed alone, not on the order of the rows: patients are
    put in the order of their ids first, and random order comes from PCG64's raw stream, which numpy keeps stable.
    """
    order = np.argsort(np.array(ids, dtype=object), kind="stable")
    classes = _codes(strata[order] if strata is not None else np.zeros(len(ids), dtype=np.int64))
    groups = group_codes([group[i] for i in order]) if group is not None else None
    roles = np.full((len(ids), n * repeats), TRAIN, dtype=np.int8)
    for repeat in range(repeats):
        keys = _keys(len(ids), seed, repeat, 0, _TESTING)
        tested = _spread(classes, keys, n) if groups is None else _spread_groups(classes, groups, keys, n)
        for fold in range(n):
            roles[tested == fold, repeat * n + fold] = TEST
            rest = np.flatnonzero(tested != fold)
            keys = _keys(len(ids), seed, repeat, fold, _VALIDATING)[rest]
            chosen = _carve(classes[rest], None if groups is None else groups[rest], keys, validation)
            roles[rest[chosen], repeat * n + fold] = VALIDATION
    back: NDArray[np.int8] = np.empty_like(roles)
    back[order] = roles
    return back


def given_folds(
    ids: list[str],
    roles: NDArray[np.int8],
    strata: Ints | None,
    group: list[str] | None,
    share: float = 0.2,
    repeats: int = 1,
) -> NDArray[np.int8]:
    """Roles (patients, repeats) from a column; without a validation row, `share` of train is carved out (seed 0).

    Each repeat has the same test patients and a draw of its own of who validates, so that the mean of their
    predictions rests on every training patient. With validation rows there is nothing to draw: one fold.
    """
    out: NDArray[np.int8] = roles.astype(np.int8).reshape(-1, 1).copy()
    if (out == VALIDATION).any():
        return out
    out = np.repeat(out, repeats, axis=1)
    order = np.argsort(np.array(ids, dtype=object), kind="stable")
    train = order[out[order, 0] == TRAIN]
    classes = _codes(strata[train] if strata is not None else np.zeros(len(train), dtype=np.int64))
    groups = group_codes([group[i] for i in train]) if group is not None else None
    for repeat in range(repeats):
        keys = _keys(len(train), 0, repeat, 0, _VALIDATING)
        out[train[_carve(classes, groups, keys, share)], repeat] = VALIDATION
    return out


def group_codes(group: list[str]) -> Ints:
    """(n,) a number for each group; a patient whose group is "" is one of its own."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(g or f"\0{i}", len(known)) for i, g in enumerate(group)], dtype=np.int64)


def _codes(values: Ints) -> Ints:
    return np.unique(values, return_inverse=True)[1].astype(np.int64).reshape(-1)


def _keys(count: int, *entropy: int) -> NDArray[np.uint64]:
    return np.asarray(PCG64(SeedSequence(entropy)).random_raw(count), dtype=np.uint64)


def _spread(classes: Ints, keys: NDArray[np.uint64], n: int) -> Ints:
    """(m,) which of n folds tests whom: each class in random order is dealt like cards, one class after the other,
    so that each class's counts and the folds' sizes differ by one at most."""
    fold = np.empty(len(classes), dtype=np.int64)
    fold[np.lexsort((keys, classes))] = np.arange(len(classes)) % n
    return fold


def _spread_groups(classes: Ints, groups: Ints, keys: NDArray[np.uint64], n: int) -> Ints:
    """(m,) which of n folds tests whom, whole groups at a time.

    Greedy like scikit-learn's StratifiedGroupKFold: groups from large to small (random order among equals), each
    to the fold where the sum of squared class shares grows least. The patients in all count as one more class,
    which evens out the folds' sizes.
    """
    shares = _group_shares(classes, groups)
    held = np.zeros((n, shares.shape[1]))
    fold_of = np.empty(len(shares), dtype=np.int64)
    for g in _by_size(shares, groups, keys):
        fold_of[g] = np.argmin(held @ shares[g])
        held[fold_of[g]] += shares[g]
    return fold_of[groups]


def _carve(classes: Ints, groups: Ints | None, keys: NDArray[np.uint64], share: float) -> Ints:
    """Positions of the patients who validate: `share` of each class, of a class with two or more at least one and
    not all. With groups: from large to small, each one that goes above no class's share, then those whose coming
    or going brings the classes nearer to it; at least the one group that fits best, never all of them."""
    if groups is None:
        chosen: list[Ints] = []
        for c in range(int(classes.max(initial=-1)) + 1):
            members = np.flatnonzero(classes == c)
            count = min(max(round(share * len(members)), 1), len(members) - 1)
            chosen.append(members[np.argsort(keys[members], kind="stable")][: max(count, 0)])
        return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)
    groups = _codes(groups)
    shares = _group_shares(classes, groups)
    if len(shares) < 2:
        return np.zeros(0, dtype=np.int64)
    inside = np.zeros(len(shares), dtype=np.bool_)
    held = np.zeros(shares.shape[1])
    for g in _by_size(shares, groups, keys):
        if (held + shares[g] <= share + 1e-9).all():
            inside[g] = True
            held = held + shares[g]
    for _ in range(REFINEMENTS):
        after = np.abs(held + np.where(inside, -1.0, 1.0)[:, None] * shares - share).sum(axis=1)
        if inside.sum() == 1:
            after[inside] = np.inf
        if (~inside).sum() == 1:
            after[~inside] = np.inf
        best = int(after.argmin())
        if inside.any() and after[best] >= np.abs(held - share).sum() - 1e-9:
            break
        held = held + (-shares[best] if inside[best] else shares[best])
        inside[best] = not inside[best]
    return np.flatnonzero(inside[groups])


def _group_shares(classes: Ints, groups: Ints) -> NDArray[np.float64]:
    """(groups, classes + 1): the share of each class, and of all patients, that each group has."""
    counts = np.zeros((int(groups.max()) + 1, int(classes.max()) + 1))
    np.add.at(counts, (groups, classes), 1.0)
    counts = np.concatenate([counts, counts.sum(axis=1, keepdims=True)], axis=1)
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1.0), dtype=np.float64)


def _by_size(shares: NDArray[np.float64], groups: Ints, keys: NDArray[np.uint64]) -> Ints:
    """Groups by their largest share of any class, descending; equals in the order of their first key."""
    first = np.full(len(shares), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(first, groups, keys)
    return np.lexsort((first, -shares.max(axis=1)))


def fold_problems(roles: NDArray[np.int8]) -> list[str]:
    """What makes a fold useless: nobody in train, validation or test. One line a role, with its folds."""
    lines = []
    for role, name in ((TRAIN, "train"), (VALIDATION, "validation"), (TEST, "test")):
        empty = [k for k in range(roles.shape[1]) if not (roles[:, k] == role).any()]
        if empty:
            lines.append(f"fold{'s' if len(empty) > 1 else ''} {', '.join(map(str, empty))} without {name} patients")
    return lines


__all__ = ["TEST", "TRAIN", "UNUSED", "VALIDATION", "fold_problems", "given_folds", "group_codes", "make_folds"]
