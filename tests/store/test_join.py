"""Several stores as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.errors import RequestError
from mmcli.store import Imputation, Stores
from mmcli.store.batch import Latents


def _subset(content, rows: list[int]):
    """The same patients' store with only some rows, in another order."""
    p, t = content.patients, content.table
    patients = replace(
        p, ids=[p.ids[i] for i in rows], group=[p.group[i] for i in rows],
        labels={k: replace(v, values=v.values[rows]) for k, v in p.labels.items()},
        folds={k: v[rows] for k, v in p.folds.items()},
    )  # fmt: skip
    table = replace(t, present=t.present[rows], values=t.values[rows], observed=t.observed[rows])
    return type(content)(patients, table, {k: [v[i] for i in rows] for k, v in content.bags.items()})


def test_first_store_fixes_the_patients(content, tmp_path: Path) -> None:
    few = _subset(content, [5, 0, 7]).write(tmp_path / "few.h5", bags={})
    full = content.write(tmp_path / "full.h5", tables={})
    with Stores([few, full]) as stores:
        assert stores.patients.ids == ["P005", "P000", "P007"]
        bag = stores.bag("slide")
        for i, row in enumerate([5, 0, 7]):
            np.testing.assert_array_equal(bag.rows("features", i), content.bags["slide"][row])
        np.testing.assert_array_equal(bag.load(), np.concatenate([content.bags["slide"][i] for i in (5, 0, 7)]))
    with Stores([full, few]) as stores:
        table = stores.tables["markers"]
        np.testing.assert_array_equal(np.flatnonzero(table.present), [i for i in (0, 5, 7) if content.table.present[i]])
        np.testing.assert_array_equal(table.values[5], content.table.values[5])


def test_two_halves_are_one(content, tmp_path: Path) -> None:
    """Bags of disjoint patients from two stores join; those of the same patient do not."""
    data, n = content.bag_data(), len(content.patients)
    halves = []
    for half in range(2):
        own = type(content)(content.patients, content.table, {
            "slide": [b if i % 2 == half else b[:0] for i, b in enumerate(content.bags["slide"])]
        })  # fmt: skip
        halves.append(own.write(tmp_path / f"{half}.h5", shard=f"{half}/2"))
    with Stores(halves) as stores:
        bag = stores.bag("slide")
        np.testing.assert_array_equal(bag.present, data.present)
        np.testing.assert_array_equal(bag.load(), np.concatenate(content.bags["slide"]))
        assert [s.path for s in bag.sources(0)] == ["0.svs"]
        assert len(bag.present) == n
    with pytest.raises(RequestError, match="shard 1 of 2 is missing"):
        Stores(halves[:1])
    foreign = content.write(tmp_path / "f.h5", shard="1/2", bags={}, request={"what": "another store"})
    with pytest.raises(RequestError, match="is missing"):
        Stores([halves[0], foreign])
    whole = content.write(tmp_path / "whole.h5")
    with pytest.raises(RequestError, match="P000 is in two of the stores"):
        Stores([whole, halves[0], halves[1]])


def test_what_does_not_fit_is_refused(content, tmp_path: Path) -> None:
    one = content.write(tmp_path / "one.h5", bags={})
    other = replace(content.table, values=np.where(content.table.observed, content.table.values + 1, np.nan))
    two = content.write(tmp_path / "two.h5", bags={}, tables={"markers": other})
    with pytest.raises(RequestError, match=r"two\.h5: table markers differs .* for patient P0"):
        Stores([one, two])
    renamed = content.write(
        tmp_path / "3.h5", bags={}, tables={"markers": replace(content.table, columns=["a", "b", "c"])}
    )
    with pytest.raises(RequestError, match="other columns"):
        Stores([one, renamed])
    stranger = replace(content.patients, ids=[f"X{i}" for i in range(len(content.patients))])
    with pytest.raises(RequestError, match="none of its patients is among those"):
        Stores([one], stranger)
    with Stores([one]) as stores, pytest.raises(RequestError, match="no modality 'slide'"):
        stores.bag("slide")


def test_imputations_follow_the_patients(content, tmp_path: Path) -> None:
    holes = ~content.table.observed
    values = np.arange(1.0, holes.sum() + 1)[None]
    imputation = Imputation("markers", "mean", "cv", 0, values, {"imputer": "mean"})
    imputed = content.write(tmp_path / "imputed.h5", bags={}, imputations=[imputation])
    expected = content.table.values.copy()
    expected[holes] = values[0]
    rows = [7, 2, 5]
    few = _subset(content, rows).write(tmp_path / "few.h5", bags={})
    with Stores([few, imputed]) as stores:
        np.testing.assert_array_equal(stores.filled("markers", "mean", "cv", 0), expected[None, rows])
        with pytest.raises(RequestError, match=r"no imputation 'mice'.*there are: mean.*mmcli impute"):
            stores.filled("markers", "mice", "cv", 0)


@settings(max_examples=25, deadline=None)
@given(order=st.lists(st.integers(0, 11), max_size=20), hidden=st.sets(st.integers(0, 11)))
def test_packed_bags_equal_a_loop(packed_store: Path, order: list[int], hidden: set[int]) -> None:
    """The batch from memory and from the file equals the bags one by one, in any order, with some hidden."""
    shown = np.array([i not in hidden for i in range(12)])
    with Stores([packed_store]) as stores:
        bag = stores.bag("slide")
        bags = [bag.rows("features", i) if shown[i] else np.empty((0, 8), np.float16) for i in order]
        for in_memory in (True, False):
            packed = Latents(bag, in_memory).pack(np.array(order, np.int64), shown)
            expected = np.concatenate([np.empty((0, 8), np.float16), *bags])
            np.testing.assert_array_equal(packed.features.numpy(), expected)
            assert packed.features.numpy().dtype == np.float16
            assert packed.offsets.tolist() == np.cumsum([0, *map(len, bags)]).tolist()
            assert packed.present.tolist() == [bool(bag.present[i] and shown[i]) for i in order]
            assert packed.owner.tolist() == [i for i, b in enumerate(bags) for _ in b]


@pytest.fixture(scope="module")
def packed_store(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    conftest = request.config.pluginmanager.getplugin(str(Path(__file__).with_name("conftest.py")))
    assert conftest is not None
    return conftest.make_content().write(tmp_path_factory.mktemp("packed") / "a.h5")


def _with_source(content, path: Path, number: int, fingerprint: str, name: str, encoder: str = "e") -> Path:
    """The content's store, one source's fingerprint replaced, its modality under another name."""
    data = content.bag_data(encoder=encoder)
    sources = [replace(s, fingerprint=fingerprint) if i == number else s for i, s in enumerate(data.sources)]
    return content.write(path, bags={name: replace(data, sources=sources)}, tables={})


def test_a_source_that_differs_between_stores_is_an_error(content, tmp_path: Path) -> None:
    """`slide` and `slide@uni` come from the same files: one of them was made before the file changed."""
    other = next(i for i, bag in enumerate(content.bags["slide"]) if len(bag) and i > 0)
    first = content.write(tmp_path / "a.h5", tables={})
    second = _with_source(content, tmp_path / "b.h5", other, "changed", "slide@uni", "u")
    with pytest.raises(RequestError, match=rf"b.h5: slide of patient P{other:03d} was made from another {other}.svs"):
        Stores([first, second])
    prepared = _with_source(content, tmp_path / "c.h5", other, "changed", "ct")
    Stores([first, prepared]).close()  # another modality
    unknown = _with_source(content, tmp_path / "d.h5", other, "", "slide@uni", "u")
    Stores([first, unknown]).close()  # a failed file has no fingerprint
    empty = next(i for i, bag in enumerate(content.bags["slide"]) if not len(bag))
    unused = _with_source(content, tmp_path / "e.h5", empty, "changed", "slide@uni", "u")
    Stores([first, unused]).close()  # nobody's instances come from it


def test_the_same_path_of_other_patients_is_no_error(content, tmp_path: Path) -> None:
    """Two hospitals whose folders look alike."""
    n = len(content.patients)
    half = [[b if (i < n // 2) == first else b[:0] for i, b in enumerate(content.bags["slide"])] for first in (1, 0)]
    paths = []
    for number, bags in enumerate(half):
        own = type(content)(content.patients, content.table, {"slide": bags})
        data = own.bag_data()
        sources = [replace(s, path="slide.svs", fingerprint=f"{number}-{i}") for i, s in enumerate(data.sources)]
        paths.append(own.write(tmp_path / f"{number}.h5", bags={"slide": replace(data, sources=sources)}, tables={}))
    with Stores(paths) as stores:
        np.testing.assert_array_equal(stores.bag("slide").load(), np.concatenate(content.bags["slide"]))
