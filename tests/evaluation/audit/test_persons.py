"""The same person behind two ids."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcli.evaluation.audit.persons import check, near_pairs, same_bags, same_rows
from mmcli.evaluation.audit.rowkeys import row_keys
from mmcli.evaluation.audit.subject import Subject
from mmcli.methods import METHODS
from mmcli.store import BagData, BagMeta, Patients, Source, Stores, write_store
from mmcli.store.hdf5 import Rows

N = 40
Y = {"y": np.arange(N) % 2}
ROLES = np.where(np.arange(N) < 20, 1, np.where(np.arange(N) < 28, 2, 3)).astype(np.int8)


def bags(seed: int = 0, n: int = N, dim: int = 12) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rng.integers(2, 7), dim)).astype(np.float32) for _ in range(n)]


def severities(subject: Subject) -> list[tuple[str, str]]:
    return [(f.severity, f.where) for f in check(subject).findings]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("dim", [1, 3, 4, 17])
def test_row_keys_are_equal_exactly_where_rows_are(dtype: Any, dim: int) -> None:
    rows = np.random.default_rng(dim).integers(0, 3, size=(400, dim)).astype(dtype)
    kept = rows[[len(set(r.tolist())) > 1 for r in rows]]
    keys = row_keys(rows)
    assert len(keys) == len(kept)
    by_bytes = [r.tobytes() for r in kept]
    assert len(set(keys.tolist())) == len(set(by_bytes))
    assert len(set(zip(keys.tolist(), by_bytes, strict=True))) == len(set(by_bytes))


def test_keys_of_numbers_that_differ_in_the_highest_bits_alone_differ() -> None:
    values = (2.0 ** np.arange(-14, 15)).astype(np.float16)  # one mantissa bit: linear keys would collide here
    rows = np.array(list(itertools.product(values, values)), np.float16)
    assert len(set(row_keys(rows).tolist())) == len(rows) - len(values)


def test_same_bags_against_comparing_all_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        sets = [rng.choice(60, rng.integers(1, 5), replace=False) for _ in range(12)]
        slow = {
            (i, j)
            for i, j in itertools.combinations(range(12), 2)
            if len(set(sets[i]) & set(sets[j])) >= 0.5 * min(len(sets[i]), len(sets[j]))
        }
        assert set(same_bags([s.astype(np.uint64) for s in sets])) == slow


def test_a_bag_under_two_ids_is_a_finding_across_roles_and_a_warning_within_one(look: Any) -> None:
    own = bags()
    own[35] = own[3][::-1]  # the order of the instances does not matter
    assert severities(look(Y, bags={"slide": own}, roles=ROLES)) == [("finding", "modality slide")]
    own[35], own[4] = bags(1)[0], own[3]
    found = check(look(Y, bags={"slide": own}, roles=ROLES)).findings
    assert [(f.severity, "p0003 and p0004" in f.what) for f in found] == [("warning", True)]


def test_half_of_a_bag_is_enough_and_background_is_not(look: Any) -> None:
    own = bags()
    own[35] = np.concatenate([own[3][:2], bags(9)[0][:2]])
    own[36] = np.concatenate([own[5][:1], bags(8)[0], bags(7)[0][:1]])
    white, plain = own[0][:1] * 0 + np.arange(12, dtype=np.float32), np.full((1, 12), 0.5, np.float32)
    own = [np.concatenate([b, white, white, plain, plain, plain]) for b in own]
    found = check(look(Y, bags={"slide": own}, roles=ROLES)).findings
    assert [(f.severity, f.what.split(":")[-1]) for f in found] == [("finding", " p0003 and p0035")]


def test_a_bag_that_was_encoded_twice_is_a_warning(look: Any) -> None:
    own = bags()
    own[35] = own[3] + np.float32(1e-4)
    found = check(look(Y, bags={"slide": own}, roles=ROLES)).findings
    assert [(f.severity, "nearly the same features" in f.what) for f in found] == [("warning", True)]


def test_made_bags_and_rows_are_silent(look: Any) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        coded = rng.integers(0, 2, size=(N, 8)).astype(float)  # many patients agree by chance
        numbers = np.round(rng.normal(size=(N, 12)), 1)
        subject = look(Y, bags={"slide": bags(seed)}, tables={"coded": coded, "numbers": numbers})
        assert check(subject).findings == []


def test_near_pairs_against_all_distances() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(1500, 9))
    means[[7, 1400]] = means[[30, 31]] + 1e-3
    assert near_pairs(means) == [(7, 30), (31, 1400)]
    z = (means - means.mean(0)) / means.std(0)
    distance = np.sqrt(((z[:, None] - z[None]) ** 2).sum(-1)) + np.diag(np.full(len(z), np.inf))
    assert [int(distance[i].argmin()) for i in (7, 31)] == [30, 1400]


def test_a_row_under_two_ids(look: Any) -> None:
    values = np.random.default_rng(0).normal(size=(N, 10))
    values[values > 1.5] = np.nan
    values[33] = values[2]
    found = check(look(Y, tables={"blood": values}, roles=ROLES)).findings
    assert [(f.severity, f.where) for f in found] == [("finding", "table blood")]
    assert "p0002 and p0033" in found[0].what
    values[33, 0] += 1e-9
    assert check(look(Y, tables={"blood": values}, roles=ROLES)).findings == []


def test_a_row_over_small_tables_together(look: Any) -> None:
    rng = np.random.default_rng(0)
    tables = {name: rng.normal(size=(N, 3)) for name in "abcd"}
    for values in tables.values():
        values[33] = values[2]
    found = check(look(Y, tables=tables, roles=ROLES)).findings
    assert [(f.severity, f.where) for f in found] == [("finding", "all tables together")]


def test_many_equal_rows_are_holes_that_were_filled(look: Any) -> None:
    values = np.random.default_rng(0).normal(size=(N, 14))
    values[5:30:4] = 1.25
    found = check(look(Y, tables={"blood": values}, roles=ROLES)).findings
    assert [f.severity for f in found] == ["warning"] and "filled" in found[0].what


def test_bits_worked_by_hand() -> None:
    values = np.arange(16.0)[:, None] * np.ones(9)
    values[1] = values[0]
    full = np.ones(values.shape, bool)
    # Each cell of the pair is shared by 2 of 16: 3 bits; 2 log2(16) + 20 = 28 needs ten columns.
    assert same_rows(values, full, full[:, 0]) == []
    ten = np.column_stack([values, values[:, 0]])
    assert same_rows(ten, np.ones(ten.shape, bool), full[:, 0]) == [[0, 1]]


@pytest.mark.parametrize(("layout", "severity"), [("", ["finding"]), ("npz", []), ("stamp", ["finding"])])
def test_one_file_under_two_ids(tmp_path: Path, layout: str, severity: list[str]) -> None:
    n = 8
    names = [f"f{i}" for i in range(n)]
    names[6] = names[1]
    sources = [Source(f"{i}.svs" if layout else f"{name}.svs", 10, name) for i, name in enumerate(names)]
    meta = BagMeta("slide", "made", "", {"layout": layout} if layout else {})
    features = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    arrays = {"features": Rows.of(features), "source": Rows.of(np.arange(n, dtype=np.int32))}
    bag = BagData(meta, np.ones(n, bool), np.zeros(n, bool), np.arange(n + 1), arrays, sources)
    patients = Patients([f"p{i}" for i in range(n)], None, {}, {"cv": np.array([[1]] * 5 + [[3]] * 3, np.int8)})
    write_store(tmp_path / "s.h5", {"made": 1}, patients, {}, {"slide": bag})
    with Stores([tmp_path / "s.h5"]) as stores:
        found = check(Subject(stores, [], ["cv"], [], METHODS, quiet=True)).findings
    assert [f.severity for f in found] == severity
    assert all("p1 and p6" in f.what and "same content" in f.what for f in found)
