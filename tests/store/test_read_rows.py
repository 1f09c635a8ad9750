"""Rows read straight from the file are those that h5py reads, and nothing else is ever handed out."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcli.errors import DamagedError
from mmcli.store import Store
from mmcli.store.hdf5 import RawRows

TYPES = ["<f2", "<f4", ">f4", "<f8", "<i4", ">i2", "u1", "?", "<i8"]


@given(
    dtype=st.sampled_from(TYPES),
    form=st.lists(st.integers(1, 4), max_size=3),
    rows=st.integers(1, 9),
    userblock=st.sampled_from([0, 512, 1024]),
    seed=st.integers(0, 99),
)
def test_equal_to_h5py(
    dtype: str, form: list[int], rows: int, userblock: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("raw") / "a.h5"
    array = np.random.default_rng(seed).integers(0, 99, (rows, *form)).astype(dtype)
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file["other"] = np.arange(seed)
        file["a"] = array
    with h5py.File(path) as file:
        raw = RawRows.of(file["a"])
        assert raw is not None
        for first in range(rows + 1):
            for last in range(first, rows + 1):
                found = raw.read(first, last)
                assert found.dtype == file["a"].dtype and found.shape == (last - first, *form)
                np.testing.assert_array_equal(found, array[first:last])
        for first, last in ((-1, 1), (0, rows + 1), (rows + 1, rows + 2)):
            with pytest.raises(OSError, match="rows"):
                raw.read(first, last)


def test_what_lies_in_no_piece_goes_through_h5py(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("chunked", data=np.ones((4, 2)), chunks=(1, 2))
        file["text"] = ["a", "b"]
        file["scalar"] = 1.0
        file["none"] = np.ones((0, 4))
        assert [RawRows.of(file[name]) for name in file] == [None] * 4


@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
def test_rows_of_a_store(content, tmp_path: Path, compression: str) -> None:
    path = content.write(tmp_path / "s.h5", compression=compression)
    with Store(path) as store:
        bag = store.bags["slide"]
        for i, own in enumerate(content.bags["slide"]):
            np.testing.assert_array_equal(bag.rows("features", i), own)
            np.testing.assert_array_equal(bag.some_rows("features", i, 1, 3), own[1:3])
            for dtype in (np.float16, np.float32):
                out = np.zeros((len(own) + 2, 8), dtype)
                bag.read_into(out, i, 1)
                np.testing.assert_array_equal(out[1:-1], own)
                assert not out[0].any() and not out[-1].any()


def test_a_closed_store_reads_nothing(content, tmp_path: Path) -> None:
    with Store(content.write(tmp_path / "s.h5")) as store:
        bag = store.bags["slide"]
        assert len(bag.rows("features", 0)) == 3
    handles = [os.open(tmp_path / "s.h5", os.O_RDONLY) for _ in range(5)]  # one of them has the number that was closed
    with pytest.raises(ValueError, match="closed"):
        bag.rows("features", 0)
    for handle in handles:
        os.close(handle)


def test_a_file_cut_while_it_is_open(content, tmp_path: Path) -> None:
    path = content.write(tmp_path / "s.h5")
    with Store(path) as store:
        os.truncate(path, 600)
        with pytest.raises(DamagedError, match=r"s\.h5: /modalities/slide/features is damaged .*ends before its data"):
            store.bags["slide"].rows("features", 0)


def test_offsets_that_point_outside(content, tmp_path: Path) -> None:
    with Store(content.write(tmp_path / "s.h5")) as store:
        bag = store.bags["slide"]
        bag.offsets[1] = bag.offsets[-1] + 5
        with pytest.raises(DamagedError, match="rows 0 to"):
            bag.rows("features", 0)
