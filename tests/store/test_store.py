"""A store gives back what was written, and finds what was damaged."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcli.errors import DamagedError, RequestError
from mmcli.store import Imputation, Store, Stores, store_request, verify
from mmcli.store.batch import Latents


def test_round_trip(content, tmp_path: Path) -> None:
    path = content.write(tmp_path / "a.h5", root="/somewhere")
    with Store(path) as store:
        assert store.patients.ids == content.patients.ids
        assert store.patients.group == content.patients.group
        assert store.patients.labels["relapse"].classes == ["no", "yes"]
        np.testing.assert_array_equal(
            store.patients.labels["relapse"].values, content.patients.labels["relapse"].values
        )
        np.testing.assert_array_equal(store.patients.folds["cv"], content.patients.folds["cv"])
        table = store.tables["markers"]
        assert (table.columns, table.kinds, table.categories) == (
            content.table.columns,
            content.table.kinds,
            content.table.categories,
        )
        np.testing.assert_array_equal(table.values, content.table.values)
        np.testing.assert_array_equal(table.observed, content.table.observed)
        bag = store.bags["slide"]
        for i, rows in enumerate(content.bags["slide"]):
            np.testing.assert_array_equal(bag.rows("features", i), rows)
        assert bag.sources[3].mpp == 0.5 and bag.sources[3].fingerprint == "f3"
        assert bag.meta.settings == {"tile_px": 224} and list(bag.meta.coords) == ["x", "y"]
        assert store.request == {"what": "test"}
    assert store_request(path) == {"what": "test"}
    assert verify(path) == []


def test_plain_h5py_reads_it(content, tmp_path: Path) -> None:
    """The ten lines that the README shows."""
    path = content.write(tmp_path / "a.h5")
    with h5py.File(path) as file:
        ids = file["patients/id"].asstr()[:]
        offsets = file["modalities/slide/offsets"][:]
        bag = file["modalities/slide/features"][offsets[0] : offsets[1]]
        assert file.attrs["mmcli_schema"] == 1
        assert json.loads(file["patients/labels/relapse"].attrs["classes"]) == ["no", "yes"]
    assert ids[0] == "P000"
    np.testing.assert_array_equal(bag, content.bags["slide"][0])


@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
def test_content_is_the_same_whatever_the_compression(content, tmp_path: Path, compression: str) -> None:
    path = content.write(tmp_path / f"{compression}.h5", compression=compression)
    plain = content.write(tmp_path / "plain.h5")
    with Store(path) as one, Store(plain) as two:
        assert one.content_sha256 == two.content_sha256
        np.testing.assert_array_equal(one.bags["slide"].arrays["features"][:], two.bags["slide"].arrays["features"][:])
    assert verify(path) == []


def test_content_differs_when_one_value_does(content, tmp_path: Path) -> None:
    digests = set()
    for i, change in enumerate([0.0, 1.0]):
        content.bags["slide"][0][0, 0] = change
        with Store(content.write(tmp_path / f"{i}.h5")) as store:
            digests.add(store.content_sha256)
    assert len(digests) == 2


@settings(max_examples=40, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(
    flip_store: Path, tmp_path_factory: pytest.TempPathFactory, at: float, bit: int
) -> None:
    raw = bytearray(flip_store.read_bytes())
    raw[int(at * len(raw))] ^= 1 << bit
    path = tmp_path_factory.mktemp("flip") / "a.h5"
    path.write_bytes(raw)
    try:
        damage = verify(path)
    except DamagedError:
        return
    assert damage


@pytest.fixture(scope="module")
def flip_store(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    conftest = request.config.pluginmanager.getplugin(str(Path(__file__).with_name("conftest.py")))
    content = conftest.make_content() if conftest else None
    assert content is not None
    return content.write(tmp_path_factory.mktemp("whole") / "a.h5")


def test_damaged_compressed_data_end_as_damage_when_they_are_read(content, tmp_path: Path) -> None:
    path = content.write(tmp_path / "a.h5", compression="gzip")
    with h5py.File(path) as file:
        dataset = file["modalities/slide/features"]
        chunk = dataset.id.get_chunk_info(0)
    raw = bytearray(path.read_bytes())
    for at in range(chunk.byte_offset, chunk.byte_offset + chunk.size):
        raw[at] ^= 255
    path.write_bytes(raw)
    with Stores([path]) as stores:
        bag = stores.bag("slide")
        for read in (lambda: bag.rows("features", 0), bag.load, lambda: Latents(bag, False).pack(np.array([0]))):
            with pytest.raises(DamagedError, match=r"a\.h5: /modalities/slide/features is damaged"):
                read()


def test_damage_in_data_is_named(content, tmp_path: Path) -> None:
    path = content.write(tmp_path / "a.h5")
    needle = np.ascontiguousarray(np.concatenate(content.bags["slide"])).tobytes()
    raw = bytearray(path.read_bytes())
    at = raw.index(needle)
    raw[at + 5] ^= 1
    path.write_bytes(raw)
    assert verify(path) == ["/modalities/slide/features differs from its checksum"]


@pytest.mark.parametrize("size", [0, 100, 600, 4000])
def test_truncated_is_damaged(content, tmp_path: Path, size: int) -> None:
    path = content.write(tmp_path / "a.h5")
    os.truncate(path, size)
    with pytest.raises(DamagedError, match=r"a\.h5"):
        Store(path)


def test_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such feature store"):
        Store(tmp_path / "none.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(DamagedError, match="no feature store"):
        Store(tmp_path / "other.h5")
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file.attrs["mmcli_schema"] = 2
    with pytest.raises(DamagedError, match="schema 2; this mmcli reads schema 1"):
        Store(tmp_path / "new.h5")


def test_wide_tables_and_long_requests_fit(content, tmp_path: Path) -> None:
    """HDF5 keeps attributes over 64 KiB apart; 20 000 gene names are one."""
    n, f = len(content.patients), 20_000
    columns = [f"gene_{i:06d}" for i in range(f)]
    wide = replace(
        content.table, columns=columns, kinds=["numeric"] * f, categories={}, units={},
        values=np.zeros((n, f)), observed=np.ones((n, f), bool),
    )  # fmt: skip
    path = content.write(tmp_path / "a.h5", tables={"mrna": wide}, request={"text": "x" * 100_000})
    with Store(path) as store:
        assert store.tables["mrna"].columns == columns
    assert verify(path) == []


def test_nothing_is_left_of_a_failed_write(content, tmp_path: Path) -> None:
    data = content.bag_data()
    broken = replace(data.arrays["features"], blocks=lambda: iter([np.zeros((1, 8), np.float16)]))
    with pytest.raises(ValueError, match="were announced"):
        content.write(tmp_path / "a.h5", bags={"slide": replace(data, arrays={"features": broken})})
    assert list(tmp_path.iterdir()) == []


def test_imputations(content, tmp_path: Path) -> None:
    holes = int((~content.table.observed).sum())
    values = np.arange(2.0 * holes).reshape(2, holes)
    imputation = Imputation("markers", "mice", "cv", 1, values, {"imputer": "mice", "seed": 3}, {"coef": np.eye(2)})
    path = content.write(tmp_path / "a.h5", imputations=[imputation])
    with Store(path) as store:
        assert store.imputations("markers") == {("mice", "cv"): [1]}
        got, attributes = store.imputed("markers", "mice", "cv", 1)
        np.testing.assert_array_equal(got, values)
        assert attributes["imputer"] == "mice" and attributes["seed"] == 3
        np.testing.assert_array_equal(store.fitted("markers", "mice", "cv", 1)["coef"], np.eye(2))
    assert verify(path) == []
